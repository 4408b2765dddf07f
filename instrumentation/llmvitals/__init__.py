"""Vital signs for LLM applications, and hands that act on them.

```python
vitals = llmvitals.start(service="companion")  # /metrics on 127.0.0.1:9464
llmvitals.instrument()  # openai, httpx, …: what is installed
```
"""

from typing import TYPE_CHECKING, Any

from llmvitals._breaker import Breaker
from llmvitals._caches import Cache
from llmvitals._calls import Call
from llmvitals._errors import CircuitOpenError, LLMVitalsError, SettingsError
from llmvitals._history import History, read_history
from llmvitals._modules import Module
from llmvitals._operations import Operation
from llmvitals._pools import Pool
from llmvitals._retries import Retries
from llmvitals._start import start
from llmvitals._users import Users
from llmvitals._vitals import Vitals
from llmvitals.integrations import instrument, uninstrument

if TYPE_CHECKING:
    from llmvitals._batches import Batcher
    from llmvitals._cleanups import CleanUp
    from llmvitals._health import HealthCheck
    from llmvitals._limits import Limit
    from llmvitals._object_pools import ObjectPool
    from llmvitals._semantic_memory import SemanticMemory
    from llmvitals._settings import Settings, settings
    from llmvitals._shutdown import Shutdown, ShutdownReport
    from llmvitals._startup import Startup
    from llmvitals._steps import Step
    from llmvitals._tiers import TieredCache
    from llmvitals._voice import Voice
    from llmvitals.agent import Bounds

# What few applications need, and mostly to annotate with, is imported when it is asked for.
_LATER = {
    "Batcher": "_batches",
    "Bounds": "agent",
    "CleanUp": "_cleanups",
    "HealthCheck": "_health",
    "Limit": "_limits",
    "ObjectPool": "_object_pools",
    "SemanticMemory": "_semantic_memory",
    "Settings": "_settings",
    "Shutdown": "_shutdown",
    "ShutdownReport": "_shutdown",
    "Startup": "_startup",
    "TieredCache": "_tiers",
    "Step": "_steps",
    "Voice": "_voice",
    "settings": "_settings",
}

__all__ = [
    "Batcher",
    "Bounds",
    "Breaker",
    "Cache",
    "Call",
    "CircuitOpenError",
    "CleanUp",
    "HealthCheck",
    "History",
    "LLMVitalsError",
    "Limit",
    "Module",
    "ObjectPool",
    "Operation",
    "Pool",
    "Retries",
    "SemanticMemory",
    "Settings",
    "SettingsError",
    "Shutdown",
    "ShutdownReport",
    "Startup",
    "Step",
    "TieredCache",
    "Users",
    "Vitals",
    "Voice",
    "instrument",
    "read_history",
    "settings",
    "start",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(f"llmvitals.{_LATER[name]}"), name)
    if name == "__version__":
        from llmvitals._version import VERSION  # noqa: PLC0415

        return VERSION
    raise AttributeError(f"module 'llmvitals' has no attribute {name!r}")
