"""``llmvitals-exporter``: starts, serves, and ends on SIGTERM or Ctrl-C."""

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily

from llmvitals.exposition import encode, serve
from llmvitals_exporter._options import Plan, UsageError, parse
from llmvitals_exporter._report import check, listing
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape, View
from llmvitals_exporter.catalogue import BUILD_INFO
from llmvitals_exporter.collectors import COLLECTORS

_PAGES = {"/": "llmvitals-exporter: metrics are at /metrics.\n", "/-/healthy": "healthy\n"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the exit status is 2 for a wrong command line, 1 when it could not do its work."""
    try:
        plan = parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        for problem in error.problems:
            print(f"llmvitals-exporter: {problem}", file=sys.stderr)  # noqa: T201 -- a command line's answer
        return 2
    if plan.mode == "list":
        print(listing(COLLECTORS))  # noqa: T201 -- what was asked for
        return 0
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    runner = Runner(plan.collectors, plan.settings, timeout=plan.timeout)
    try:
        return _run(plan, runner)
    finally:
        runner.close()


def _run(plan: Plan, runner: Runner) -> int:
    scrape = Scrape(runner)
    if plan.mode == "check":
        report, status = check(scrape.outcomes())
        print(report)  # noqa: T201 -- what was asked for
        return status
    registry = _registry(scrape)
    if plan.mode == "once":
        sys.stdout.buffer.write(encode(registry))
        return 0
    return _serve(plan, registry, runner.collectors)


def _registry(scrape: Scrape) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(View(scrape))
    ProcessCollector(registry=registry)
    build = GaugeMetricFamily(BUILD_INFO.name, BUILD_INFO.help, labels=BUILD_INFO.labels)
    build.add_metric([version("llmvitals")], 1.0)
    registry.register(_Constant(build))
    return registry


class _Constant:
    """A family that never changes."""

    def __init__(self, family: GaugeMetricFamily) -> None:
        self._family = family

    def collect(self) -> list[GaugeMetricFamily]:
        return [self._family]


def _serve(plan: Plan, registry: CollectorRegistry, collectors: Sequence[str]) -> int:
    log = logging.getLogger("llmvitals_exporter")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = serve(registry, plan.host, plan.port, pages=_PAGES)
    except OSError as error:
        log.error("cannot serve at %s:%s: %s; choose another with --port", plan.host, plan.port, error)  # noqa: TRY400
        return 1
    log.info("serving http://%s:%s/metrics from %s", plan.host, server.port, ", ".join(collectors))
    stop.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
