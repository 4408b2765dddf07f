"""The face of the library: one object that offers every idea and holds none of them."""

import logging
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from llmvitals import catalogue
from llmvitals._recording import Recorder

log = logging.getLogger("llmvitals")


class Vitals:
    """What one application says of itself. Made by `llmvitals.start`; in tests by `llmvitals.testing.fresh`."""

    def __init__(self, *, service: str, registry: CollectorRegistry) -> None:
        self.service = service
        self.recorder = Recorder(registry)
        self.recorder.child(catalogue.BUILD_INFO, _version()).set(1)

    @property
    def registry(self) -> CollectorRegistry:
        return self.recorder.registry

    def close(self) -> None:
        """Stop what was started and put back what is on lease. The second time does nothing."""
        self.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 -- 10 ms that importing llmvitals need not cost

    return version("llmvitals")
