"""langchain, through a callback handler that its own configure hook gives to every run.

Models whose SDK is watched, too, are left to that. What a run says of its end finds its start by the run's id: both
may come from any thread.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

from langchain_core.callbacks.base import BaseCallbackHandler
from langchain_core.tracers import context

from llmvitals._calls import Call, active_call
from llmvitals._current import current
from llmvitals._steps import Step
from llmvitals._vitals import Vitals
from llmvitals._watch import Watch
from llmvitals.integrations._claims import Claim, offer
from llmvitals.integrations._session import Session

# Runs whose end never comes must not pile up; so many at once are more than any process has.
_RUNS_KEPT = 10_000

# Where langchain's name for a provider is not OpenTelemetry's.
_PROVIDERS = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}


class LangChainCallback(BaseCallbackHandler):
    """Records what langchain runs: models, tools, agents, workflows, retrievals.

    `llmvitals.instrument` gives one to every run. Without it, pass one as any other callback:

    ```python
    model.invoke(question, config={"callbacks": [LangChainCallback(vitals)]})
    ```
    """

    # Where langchain is async, a handler would else run in another thread, with a context that ends with it.
    run_inline = True

    def __init__(self, vitals: Vitals | None = None, *, find: Callable[[], Vitals | None] | None = None) -> None:
        """Record to *vitals*, else to what *find* gives, else to what `llmvitals.start` made last."""
        self._find = find or ((lambda: vitals) if vitals is not None else current)
        self._runs: dict[UUID, _Run] = {}
        self._lock = threading.Lock()

    # --- Models ---------------------------------------------------------------------------------------------------

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._model_started("chat", serialized, run_id, about)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._model_started("text_completion", serialized, run_id, about)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **about: Any) -> None:  # noqa: ARG002
        run = self._runs.get(run_id)
        if run is not None and run.model is not None:
            with run.vitals.recorder.guard("langchain"):
                run.model.chunk(token if chunk is None else chunk)

    def on_llm_end(self, response: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, None, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, error)

    # --- Tools, chains, retrievers --------------------------------------------------------------------------------

    def on_tool_start(self, serialized: Any, input_str: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        name = _name(serialized, about)
        self._step_started(run_id, about, lambda vitals, _: vitals.tool(name).start())

    def on_tool_end(self, output: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, error)

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        name = _name(serialized, about)
        agent = (about.get("metadata") or {}).get("lc_agent_name") or (name if "agent" in name.lower() else "")

        def begin(vitals: Vitals, parent: _Run | None) -> Step | None:
            if agent and (parent is None or parent.agent != agent):  # All that runs in it bears its name, too.
                return vitals.agent(agent).start()
            return vitals.workflow(name).start() if about.get("parent_run_id") is None else None

        self._step_started(run_id, about, begin, agent=agent)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, error)

    def on_retriever_start(self, serialized: Any, query: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        metadata = about.get("metadata") or {}
        provider = metadata.get("ls_vector_store_provider") or metadata.get("ls_retriever_name")
        name = str(provider or _name(serialized, about))
        self._step_started(run_id, about, lambda vitals, _: vitals.retrieval(provider=name).start())

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, None)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        self._ended(run_id, error)

    # --- Inside ---------------------------------------------------------------------------------------------------

    def _model_started(self, operation: str, serialized: Any, run_id: UUID, about: Any) -> None:
        vitals = self._find()
        if vitals is None:
            return
        with vitals.recorder.guard("langchain"):
            metadata = about.get("metadata") or {}
            provider = str(metadata.get("ls_provider") or _name(serialized, about))
            outer = active_call()
            call = outer if outer is not None and outer.operation == operation else None
            own = call is None
            if call is None:
                call = Call(
                    vitals.recorder,
                    provider=_PROVIDERS.get(provider, provider),
                    model=str(metadata.get("ls_model_name") or ""),
                    operation=operation,
                )
            model = _Model(call, own)
            offer(model.claim)
            self._keep(run_id, _Run(vitals, model=model))

    def _step_started(
        self, run_id: UUID, about: Any, begin: "Callable[[Vitals, _Run | None], Call | Step | None]", *, agent: str = ""
    ) -> None:
        vitals = self._find()
        if vitals is None:
            return
        with vitals.recorder.guard("langchain"):
            parent_id = about.get("parent_run_id")
            parent = self._runs.get(parent_id) if parent_id is not None else None
            step = begin(vitals, parent)
            self._keep(run_id, _Run(vitals, step=step, agent=agent or (parent.agent if parent is not None else "")))

    def _keep(self, run_id: UUID, run: "_Run") -> None:
        with self._lock:
            self._runs[run_id] = run
            lost = self._runs.pop(next(iter(self._runs))) if len(self._runs) > _RUNS_KEPT else None
        if lost is not None:
            lost.ended(NeverEnded())

    def _ended(self, run_id: UUID, error: BaseException | None, response: Any = None) -> None:
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is not None:
            with run.vitals.recorder.guard("langchain"):
                run.ended(error, response)


class NeverEnded(Exception):  # noqa: N818 -- a label's value: what became of a run
    """langchain never told the end of a run."""


@dataclass(slots=True)
class _Model:
    """A model at work, recorded once it is plain that no SDK does it."""

    call: Call
    own: bool
    claim: Claim = field(default_factory=Claim)
    started: float = field(default_factory=perf_counter)
    watch: Watch | None = None

    def begin(self) -> None:
        if self.own:
            self.call.start()
            self.call._started = self.started  # noqa: SLF001 -- it is said late that it began

    def chunk(self, chunk: Any) -> None:
        if self.claim.open:
            self.claim.open = False
            if not self.claim.taken and not self.call.is_streaming:
                self.begin()
                self.watch = self.call.watch(partial(Watch, visible=_visible))
        if self.watch is not None:
            self.watch.chunk(chunk)

    def ended(self, error: BaseException | None, response: Any) -> None:
        self.claim.open = False
        if self.claim.taken:
            return
        if self.watch is None:
            self.begin()
        _read(self.call, response)
        if self.watch is None:
            if self.own:
                self.call.finish(error)
        elif isinstance(error, GeneratorExit):
            self.watch.closed()
        else:
            self.watch.end(error)


@dataclass(slots=True)
class _Run:
    vitals: Vitals
    model: _Model | None = None
    step: Call | Step | None = None
    agent: str = ""
    """In which agent it runs."""

    def ended(self, error: BaseException | None, response: Any = None) -> None:
        if self.model is not None:
            self.model.ended(error, response)
        elif self.step is not None:
            self.step.finish(error)


def _name(serialized: Any, about: Any) -> str:
    """A run's name; its class's where it has none."""
    named = about.get("name") or (serialized or {}).get("name")
    return str(named or ((serialized or {}).get("id") or ["unknown"])[-1])


def _visible(chunk: Any) -> bool:
    return bool(chunk if isinstance(chunk, str) else getattr(chunk, "text", ""))


def _read(call: Call, response: Any) -> None:
    """Take model and tokens out of a result: of its message, else of what the model itself adds."""
    told = getattr(response, "llm_output", None) or {}
    generations = getattr(response, "generations", None) or [[None]]
    message = getattr(generations[0][0], "message", None) if generations[0] else None
    metadata = getattr(message, "response_metadata", None) or {}
    model = metadata.get("model_name") or metadata.get("model") or told.get("model_name")
    usage = getattr(message, "usage_metadata", None) or told.get("token_usage") or told.get("usage")
    call.read({"model": model, "usage": usage})


class _Hook:
    """What langchain takes for a context variable: in every context the handler, as long as it is wanted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._handler = LangChainCallback(find=lambda: session.vitals)

    def get(self) -> LangChainCallback | None:
        return self._handler if self._session.vitals is not None else None


def install(session: Session) -> None:
    hooks = context._configure_hooks  # noqa: SLF001 -- there is a way in, and none out
    context.register_configure_hook(_Hook(session), inheritable=True, handle_class=LangChainCallback)  # type: ignore[arg-type]  # it only gets
    ours = hooks[-1]

    def leave() -> None:
        hooks[:] = [hook for hook in hooks if hook is not ours]

    session.undo_with(leave)
