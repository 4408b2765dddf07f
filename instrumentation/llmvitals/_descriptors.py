"""The process's own metrics, also when it has no file descriptor left to look at itself with."""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric


class Process(ProcessCollector):
    """What prometheus_client tells of the process, in the place of its own collector until `unregister`.

    Counting descriptors takes one. Without any, prometheus_client leaves the count out, just when it matters; but then
    it is known without counting: as many as there may be.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry=None)
        self._registry = registry
        self._displaced = False
        with suppress(KeyError):
            registry.unregister(prometheus_client.PROCESS_COLLECTOR)
            self._displaced = True
        try:
            registry.register(self)
        except ValueError:  # The application has one of its own.
            self._put_back()
            raise

    def unregister(self) -> None:
        self._registry.unregister(self)
        self._put_back()

    def collect(self) -> Iterable[Metric]:
        families = list(super().collect())
        # None at all: there is no /proc here.
        if not self._btime or any(family.name == "process_open_fds" for family in families):
            return families
        limit = _limit_if_reached()
        if limit is not None:
            families += [
                GaugeMetricFamily("process_open_fds", "Number of open file descriptors.", limit),
                GaugeMetricFamily("process_max_fds", "Maximum number of open file descriptors.", limit),
            ]
        return families

    def _put_back(self) -> None:
        if self._displaced:
            self._registry.register(prometheus_client.PROCESS_COLLECTOR)


def _limit_if_reached() -> int | None:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno == errno.EMFILE:
            import resource  # noqa: PLC0415 -- not on Windows, and neither is /proc

            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None
