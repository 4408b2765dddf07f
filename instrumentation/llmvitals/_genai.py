"""What an application says of its use of LLMs: its calls, and the steps around them."""

import logging
from pathlib import Path

from llmvitals import _genai_families as families
from llmvitals._calls import Call
from llmvitals._recording import Recorder
from llmvitals._steps import Step

log = logging.getLogger("llmvitals")


class GenAI:
    """The part of `llmvitals.Vitals` that is about LLMs. All that is given to its methods becomes a label, so keep it
    to few values: names that stand in the program, never what a user or a model has written.
    """

    recorder: Recorder

    # Imports inside the methods keep `import llmvitals` light.
    # ruff: noqa: PLC0415

    def call(
        self,
        *,
        provider: str,
        model: str,
        operation: str = "chat",
        server_address: str = "",
        server_port: str | int = "",
    ) -> Call:
        """One LLM call: how long it takes, its tokens, chunks and error. A context manager or decorator, sync or async.

        Tokens are told on the way: see `Call`.
        """
        return Call(
            self.recorder,
            provider=provider,
            model=model,
            operation=operation,
            server_address=server_address,
            server_port=server_port,
        )

    def embeddings(self, *, provider: str, model: str, server_address: str = "", server_port: str | int = "") -> Call:
        """A call that turns texts into vectors; its input tokens are told on the way: see `Call`."""
        return self.call(
            provider=provider,
            model=model,
            operation="embeddings",
            server_address=server_address,
            server_port=server_port,
        )

    def retrieval(
        self, *, provider: str, model: str = "", server_address: str = "", server_port: str | int = ""
    ) -> Call:
        """A search in a vector store or another source of documents, *provider*; see `Call`. It needs no tokens.

        ```python
        with vitals.retrieval(provider="chroma"):
            documents = index.query(question)
        ```
        """
        return self.call(
            provider=provider,
            model=model,
            operation="retrieval",
            server_address=server_address,
            server_port=server_port,
        )

    def tool(self, name: str) -> Step:
        """A tool that the application executes for a model, each execution timed; see `Step`.

        ```python
        @vitals.tool("weather")
        def weather(city): ...
        ```
        """
        return Step(self.recorder, families.TOOL_DURATION, name)

    def agent(self, name: str) -> Step:
        """An agent, each invocation timed, all its calls and tools included; see `Step`."""
        return Step(self.recorder, families.AGENT_DURATION, name)

    def workflow(self, name: str) -> Step:
        """A workflow of several agents, tools and calls, each run timed; see `Step`."""
        return Step(self.recorder, families.WORKFLOW_DURATION, name)

    # --- What usage means -----------------------------------------------------------------------------------------

    def prices(self, path: str | Path) -> None:
        """Count what calls cost from here on, in US dollars, by the table of prices at *path*.

        Calls with usage that it has no price for are counted apart. Never raises: with a table that cannot be, no call
        is priced, and the log says every mistake of it once. The last table counts. Its form is in ``docs/library.md``.
        """
        from llmvitals._costs import Costs
        from llmvitals._prices import PricesError, read_prices

        prices = None
        try:
            prices = read_prices(path)
        except PricesError as error:
            log.warning("llmvitals: no call is priced: %s", error)
        self.recorder.read_usage("cost", Costs(self.recorder, prices).reader)

    def inference_usage(self) -> None:
        """Count tokens by what they were, from here on: input, output, read from and put into the provider's cache,
        reasoning. Under names that OpenTelemetry's conventions are about to have, and may yet change.
        """
        from llmvitals._costs import InferenceUsage

        self.recorder.read_usage("tokens", InferenceUsage(self.recorder).reader)
