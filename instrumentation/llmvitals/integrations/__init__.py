"""Integrations with the libraries that LLM applications use: one file each, imported when the application imports its
library, never before.
"""

import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from llmvitals._vitals import Vitals
from llmvitals.integrations._imports import AfterImport
from llmvitals.integrations._session import Session, Target

if TYPE_CHECKING:
    from llmvitals.integrations._asgi import ASGIMiddleware
    from llmvitals.integrations._caches import watch_lru_cache
    from llmvitals.integrations._langchain import LangChainCallback as LangChainCallback
    from llmvitals.integrations._wsgi import WSGIMiddleware

log = logging.getLogger("llmvitals")

# Each library's name, the module whose import shows that it is used, and our file for it.
_LIBRARIES = (
    ("openai", "openai", "_openai"),
    ("anthropic", "anthropic", "_anthropic"),
    ("httpx", "httpx", "_httpx"),
    ("httpx2", "httpx2", "_httpx"),
    ("urllib3", "urllib3.connectionpool", "_urllib3"),
    ("ollama", "ollama", "_ollama"),
    ("huggingface_hub", "huggingface_hub", "_huggingface"),
    ("litellm", "litellm", "_litellm"),
    ("langchain", "langchain_core.tracers.context", "_langchain"),
    ("stamina", "stamina", "_stamina"),
    ("pybreaker", "pybreaker", "_pybreaker"),
    ("purgatory", "purgatory", "_purgatory"),
    ("sqlalchemy", "sqlalchemy", "_sqlalchemy"),
    ("aiosqlite", "aiosqlite", "_aiosqlite"),
    ("redis", "redis", "_redis"),
    ("aiocache", "aiocache", "_aiocache"),
    ("starlette", "starlette.applications", "_starlette"),
    ("aiohttp", "aiohttp", "_aiohttp"),
    ("websockets", "websockets.asyncio.connection", "_websockets"),
)

# What an application puts in place itself, and where it lives.
# LangChainCallback is not in `__all__`, because it needs langchain.
_OFFERED = {
    "ASGIMiddleware": "_asgi",
    "LangChainCallback": "_langchain",
    "WSGIMiddleware": "_wsgi",
    "watch_lru_cache": "_caches",
}

__all__ = ["ASGIMiddleware", "WSGIMiddleware", "instrument", "uninstrument", "watch_lru_cache"]

_lock = threading.Lock()
_target = Target()
_after_import = AfterImport()
_sessions: dict[str, Session] = {}


def instrument(vitals: Vitals | None = None, *, providers: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Watch every supported library that is installed; `docs/integrations.md` lists them.

    One that is not imported yet is watched from its import on. A second time only changes where and under which names
    it is recorded. Never raises.

    Args:
        vitals: Where to record; the one that `llmvitals.start` made last, when None.
        providers: Names for the servers behind OpenAI-compatible addresses, by ``host:port`` or ``host``, for
            instance ``{"127.0.0.1:5001": "koboldcpp"}``.

    Returns:
        The names of the libraries that are watched now, or will be when they are imported.
    """
    with _lock:
        _target.vitals, _target.providers = vitals, dict(providers or {})
        return tuple(library for library, module, file in _LIBRARIES if _watch(library, module, file))


def uninstrument() -> None:
    """Put every library back exactly as it was. Streams that are still open are watched to their end."""
    with _lock:
        _after_import.stop()
        for library in tuple(_sessions):
            session = _sessions.pop(library)
            try:
                session.close()
            except Exception as error:  # noqa: BLE001 -- the others are put back all the same
                log.warning("llmvitals: %s is not put back: %s: %s", library, type(error).__name__, error)


def _watch(library: str, module: str, file: str) -> bool:
    if library in _sessions:
        return True
    try:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            return False
    except Exception:  # noqa: BLE001 -- a stand-in in sys.modules without a spec, or an import hook of somebody's
        return False
    session = _sessions[library] = Session(library, _target, _after_import)
    if module in sys.modules:
        return _install(session, file)
    _after_import.wait(module, partial(_install, session, file))
    return True


def _install(session: Session, file: str) -> bool:
    """Patch the library; when that fails, put back what was patched and leave it alone."""
    try:
        integration = importlib.import_module(f"{__name__}.{file}")
        integration.install(session)
    except Exception as error:  # noqa: BLE001 -- a library that looks different is left alone
        log.warning("llmvitals: %s is not watched: %s: %s", session.library, type(error).__name__, error)
        session.close()
        _sessions.pop(session.library, None)
        return False
    if not session.on:  # Another thread called uninstrument() meanwhile.
        session.close()
    return True


def __getattr__(name: str) -> Any:
    if name in _OFFERED:
        return getattr(importlib.import_module(f"{__name__}.{_OFFERED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
