"""Integrations with the libraries that LLM applications call: one file each, imported only when it is switched on."""

import importlib.util
import logging
import threading
from collections.abc import Mapping

from llmvitals._vitals import Vitals

log = logging.getLogger("llmvitals")

_lock = threading.Lock()


def instrument(vitals: Vitals | None = None, *, providers: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Watch every supported library that is installed: the ``openai`` SDK.

    A second time only changes where and under which names it is recorded. Never raises.

    Args:
        vitals: Where to record; the one that `llmvitals.start` made last, when None.
        providers: Names for the servers behind OpenAI-compatible addresses, by ``host:port`` or ``host``, for
            instance ``{"127.0.0.1:5001": "koboldcpp"}``.

    Returns:
        The names of the libraries that are watched now.
    """
    watched = []
    with _lock:
        if importlib.util.find_spec("openai") is not None:
            try:
                from llmvitals.integrations import _openai  # noqa: PLC0415 -- costs an import of the SDK

                _openai.instrument(vitals, providers or {})
                watched.append("openai")
            except Exception as error:  # noqa: BLE001 -- an SDK that looks different is left alone
                log.warning("llmvitals: the openai SDK is not watched: %s: %s", type(error).__name__, error)
    return tuple(watched)


def uninstrument() -> None:
    """Put every library back exactly as it was. Streams that are still open are watched to their end."""
    import sys  # noqa: PLC0415

    with _lock:
        module = sys.modules.get("llmvitals.integrations._openai")
        if module is not None:
            module.uninstrument()
