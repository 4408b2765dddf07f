"""Vital signs for LLM applications, and hands that act on them.

```python
vitals = llmvitals.start(service="companion")  # /metrics on 127.0.0.1:9464
llmvitals.instrument()  # the openai SDK, if it is installed
```
"""

from typing import TYPE_CHECKING, Any

from llmvitals._breaker import Breaker
from llmvitals._caches import Cache
from llmvitals._calls import Call
from llmvitals._errors import CircuitOpenError, LLMVitalsError, SettingsError
from llmvitals._modules import Module
from llmvitals._operations import Operation
from llmvitals._pools import Pool
from llmvitals._retries import Retries
from llmvitals._start import start
from llmvitals._users import Users
from llmvitals._vitals import Vitals
from llmvitals.integrations import instrument, uninstrument

if TYPE_CHECKING:
    from llmvitals._settings import Settings, settings
    from llmvitals.agent import Bounds


__all__ = [
    "Bounds",
    "Breaker",
    "Cache",
    "Call",
    "CircuitOpenError",
    "LLMVitalsError",
    "Module",
    "Operation",
    "Pool",
    "Retries",
    "Settings",
    "SettingsError",
    "Users",
    "Vitals",
    "instrument",
    "settings",
    "start",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    # The agent's package costs as much as all the rest, and only needs Bounds to annotate with.
    if name == "Bounds":
        from llmvitals.agent import Bounds  # noqa: PLC0415

        return Bounds
    if name in {"Settings", "settings"}:
        from llmvitals import _settings  # noqa: PLC0415

        return getattr(_settings, name)
    if name == "__version__":
        from llmvitals._version import version  # noqa: PLC0415

        return version()
    raise AttributeError(f"module 'llmvitals' has no attribute {name!r}")
