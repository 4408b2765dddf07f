"""redis-py, sync and async, with its cluster clients: the duration and the errors of commands and pipelines.

A command's own retries are inside its duration.
"""

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from time import perf_counter
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import error_type
from llmvitals._vitals import Vitals
from llmvitals.integrations._session import Session

_CLIENTS = (
    ("redis.client", "Redis", "Pipeline"),
    ("redis.asyncio.client", "Redis", "Pipeline"),
    ("redis.cluster", "RedisCluster", "ClusterPipeline"),
    ("redis.asyncio.cluster", "RedisCluster", "ClusterPipeline"),
)
# Commands come from code, mostly; what does not look like one is not shown.
_COMMAND = re.compile(r"[A-Z][A-Z0-9._]{0,31}")


def install(session: Session) -> None:
    for module, client, pipeline in _CLIENTS:
        library = importlib.import_module(module)
        session.patch(getattr(library, client), "execute_command", functools.partial(_wrap, session, _command))
        session.patch(getattr(library, pipeline), "execute", functools.partial(_wrap, session, _pipeline))


def _wrap(session: Session, name: Callable[[tuple[Any, ...]], str], original: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def execute_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            vitals = session.vitals
            if vitals is None:
                return await original(self, *args, **kwargs)
            started = perf_counter()
            try:
                reply = await original(self, *args, **kwargs)
            except BaseException as error:
                _record(vitals, started, name, args, error)
                raise
            _record(vitals, started, name, args, None)
            return reply

        return execute_async

    @functools.wraps(original)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        vitals = session.vitals
        if vitals is None:
            return original(self, *args, **kwargs)
        started = perf_counter()
        try:
            reply = original(self, *args, **kwargs)
        except BaseException as error:
            _record(vitals, started, name, args, error)
            raise
        _record(vitals, started, name, args, None)
        return reply

    return execute


def _record(
    vitals: Vitals,
    started: float,
    name: Callable[[tuple[Any, ...]], str],
    args: tuple[Any, ...],
    error: BaseException | None,
) -> None:
    try:
        vitals.recorder.child(catalogue.DB_OPERATION_DURATION, "redis", name(args), error_type(error)).observe(
            perf_counter() - started
        )
    except Exception as fault:  # noqa: BLE001 -- the application has its reply, and keeps it
        vitals.recorder.fault("redis", fault)


def _command(args: tuple[Any, ...]) -> str:
    word = args[0] if args else ""
    text = (word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)).upper().partition(" ")[0]
    return text if _COMMAND.fullmatch(text) else "_OTHER"


def _pipeline(args: tuple[Any, ...]) -> str:  # noqa: ARG001 -- as `_command`
    return "PIPELINE"
