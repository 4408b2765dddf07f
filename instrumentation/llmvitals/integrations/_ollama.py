"""The ollama client, sync and async: chat, generate and embed, plain and streamed, with the tokens it reports.

The functions of the module, ``ollama.chat`` and its like, are methods of a client that it has made; they count, too.
"""

import functools
import weakref
from types import AsyncGeneratorType, GeneratorType
from typing import Any, cast

import ollama

from llmvitals._calls import Call
from llmvitals._streams import Watch, watch_async_generator, watch_generator
from llmvitals.integrations._llm import Seen, begin, wrap
from llmvitals.integrations._session import Session

_OPERATIONS = {"chat": "chat", "generate": "text_completion", "embed": "embeddings"}


def install(session: Session) -> None:
    for name, operation in _OPERATIONS.items():
        started = functools.partial(_begin, session, operation)
        for client, asynchronous in ((ollama.Client, False), (ollama.AsyncClient, True)):
            session.patch(client, name, functools.partial(wrap, begin=started, asynchronous=asynchronous))
        # Bound before the class was patched.
        session.patch(ollama, name, functools.partial(_bound_anew, name))


def _bound_anew(name: str, original: Any) -> Any:
    return getattr(original.__self__, name)


def _begin(session: Session, operation: str, client: Any, args: tuple[Any, ...], kwargs: Any) -> Seen | None:
    def address() -> tuple[str, str]:
        url = client._client.base_url  # noqa: SLF001 -- nothing public leads there
        return url.host, str(url.port or (80 if url.scheme == "http" else 443))

    model = args[0] if args else kwargs.get("model")
    return begin(session, _Seen, operation=operation, provider="ollama", model=model, address=address)


class _Seen(Seen):
    def read_reply(self, reply: Any) -> Any:
        if not isinstance(reply, (GeneratorType, AsyncGeneratorType)):
            _read(self.call, reply)
            return reply
        if self.call.is_streaming:
            return reply
        watch = _Parts(self.call, self.vitals.recorder)
        self.call._watch = weakref.ref(watch)  # noqa: SLF001 -- as `Call.watch` does with a plain one
        return (
            watch_generator(reply, watch) if isinstance(reply, GeneratorType) else watch_async_generator(reply, watch)
        )


class _Parts(Watch):
    """Of a stream whose last part has the tokens."""

    __slots__ = ()

    def chunk(self, chunk: Any) -> None:
        super().chunk(chunk)
        if getattr(chunk, "done", False):
            _read(cast("Call", self._call), chunk)


def _read(call: Call, reply: Any) -> None:
    if isinstance(reply.model, str):
        call.response_model(reply.model)
    call.usage(input_tokens=reply.prompt_eval_count, output_tokens=reply.eval_count)
