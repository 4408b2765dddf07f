"""litellm: completions, embeddings and responses, sync and async, and its router's.

Its callbacks are no seam for this: they run later, in threads, and never for a stream that is cancelled, closed or
dropped. So its public functions are wrapped. What it retries and falls back to happens inside of a call, and counts as
attempts.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from llmvitals import catalogue
from llmvitals._calls import Call, active_call
from llmvitals._proxy import proxy
from llmvitals._recording import Recorder, error_type
from llmvitals.integrations._llm import EventWatch
from llmvitals.integrations._outer import Outer, OuterCall, address, begin_outer, wrap_outer
from llmvitals.integrations._session import Session

_OPERATIONS = {
    "completion": "chat",
    "text_completion": "text_completion",
    "embedding": "embeddings",
    "responses": "chat",
}
# Where litellm's name for a provider is not OpenTelemetry's.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_TARGET = "litellm"


def install(session: Session) -> None:
    litellm: Any = sys.modules["litellm"]
    main: Any = sys.modules["litellm.main"]
    wrapped: dict[int, Any] = {}

    def wrap_function(operation: str, original: Any) -> Any:
        # One function may have two names; so may its wrapper.
        if id(original) not in wrapped:
            method = inspect.signature(original).parameters.get("self") is not None
            begin = functools.partial(_begin, session, operation, int(method))
            wrapped[id(original)] = wrap_outer(session, begin, original)
        return wrapped[id(original)]

    router = getattr(sys.modules.get("litellm.router"), "Router", None)
    for owner in (litellm, main, router):
        if owner is None:
            continue
        for base, operation in _OPERATIONS.items():
            for name in (base, f"a{base}"):
                session.patch(owner, name, functools.partial(wrap_function, operation))
    for owner in (litellm, main):
        session.patch(owner, "exception_type", _wrap_error)
    session.patch(sys.modules["litellm.litellm_core_utils.litellm_logging"].Logging, "pre_call", _wrap_try)


def _begin(session: Session, operation: str, first: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outer | None:
    litellm = sys.modules.get("litellm")
    # Embeddings' and completions' first is the model, that of responses is the input.
    model = kwargs.get("model") or (args[first] if len(args) > first else "")
    provider, _, name = str(model).partition("/")
    if not name or provider not in getattr(litellm, "provider_list", ()):
        provider, name = "", str(model)
    provider = str(kwargs.get("custom_llm_provider") or provider or "litellm")
    return begin_outer(
        session,
        _Seen,
        operation=operation,
        provider=_PROVIDERS.get(provider, provider),
        model=name,
        url=kwargs.get("api_base") or kwargs.get("base_url"),
    )


class _Tries:
    """How often one call has been tried, and what each try came to."""

    __slots__ = ("count", "errors")

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[str] = []

    def record(self, recorder: Recorder, error: BaseException | None) -> None:
        attempts = functools.partial(recorder.child, catalogue.ATTEMPTS, _TARGET)
        again = self.count - 1
        if again < 0:  # A reply from its cache, or an error before anybody was asked.
            return
        if error is None:
            attempts("success").inc()
        elif again:
            attempts("retryable").inc()
            recorder.child(catalogue.RETRIES_EXHAUSTED, _TARGET, error_type(error)).inc()
        else:
            attempts("fatal").inc()
        if again:
            attempts("retryable").inc(again)
        for number, cause in enumerate(self.errors[:again], start=1):
            recorder.child(catalogue.RETRIES, _TARGET, cause, str(number) if number < 3 else "3+").inc()


_tries: ContextVar[_Tries | None] = ContextVar("llmvitals_litellm_tries", default=None)


class _Seen(Outer):
    __slots__ = ("_tried", "_tries_token")

    _tried: _Tries | None
    _tries_token: Token[_Tries | None]

    def __enter__(self) -> None:
        super().__enter__()
        self._tried = None
        if _tries.get() is None:
            self._tried = _Tries()
            self._tries_token = _tries.set(self._tried)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if self._tried is not None:
            with suppress(ValueError):
                _tries.reset(self._tries_token)
            with self.vitals.recorder.guard(_TARGET):
                self._tried.record(self.vitals.recorder, error)

    def read_reply(self, reply: Any) -> Any:
        if self.call.is_streaming or inspect.isawaitable(reply):
            return reply
        if hasattr(type(reply), "__next__") or hasattr(type(reply), "__anext__"):
            if "Responses" in type(reply).__name__:
                make = functools.partial(EventWatch, read=_read_event, visible=_visible)
                return proxy(reply, self.call.watch(make))
            return self.call.stream(reply)
        return super().read_reply(reply)


def _read_event(call: Call, event: Any) -> None:
    response = getattr(event, "response", None)
    if response is not None:
        call.read(response)


def _visible(event: Any) -> bool:
    kind = getattr(event, "type", "")
    kind = str(getattr(kind, "value", kind))
    return kind.endswith(".delta") and "reasoning" not in kind


def _wrap_try(original: Callable[..., Any]) -> Callable[..., Any]:
    """Here litellm says that it is about to ask a provider, which it has chosen by now."""

    @functools.wraps(original)
    def pre_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        tries, call = _tries.get(), active_call()
        if tries is not None:
            tries.count += 1
            # The error of the try before, where litellm did not name it.
            tries.errors.extend(["other"] * (tries.count - 1 - len(tries.errors)))
        if isinstance(call, OuterCall):
            with call.recorder.guard(_TARGET):
                _chosen(call, self, kwargs.get("additional_args") or {})
        return original(self, *args, **kwargs)

    return pre_call


def _chosen(call: OuterCall, logging: Any, additional: Any) -> None:
    details = logging.model_call_details
    base = additional.get("api_base") or (details.get("litellm_params") or {}).get("api_base")
    if base:
        call.server_address, call.server_port = address(base)
    provider = details.get("custom_llm_provider")
    if provider and call.provider == "litellm":
        call.provider = _PROVIDERS.get(str(provider), str(provider))


def _wrap_error(original: Callable[..., Any]) -> Callable[..., Any]:
    """Here litellm makes its own error of a provider's, and raises it."""

    @functools.wraps(original)
    def exception_type(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception as error:
            tries = _tries.get()
            if tries is not None and len(tries.errors) < tries.count:
                tries.errors.append(error_type(error))
            raise

    return exception_type
