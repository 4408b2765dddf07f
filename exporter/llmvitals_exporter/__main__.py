"""``llmvitals-exporter``: starts, serves, and ends on SIGTERM or Ctrl-C."""

import logging
import signal
import sys
import threading
from collections.abc import Sequence

from llmvitals.exposition import Pages, encode, serve
from llmvitals_exporter._options import Plan, UsageError, parse
from llmvitals_exporter._report import check, listing
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site
from llmvitals_exporter.collectors import COLLECTORS


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
    site = Site(scrape, runner.collectors)
    if plan.mode == "once":
        sys.stdout.buffer.write(encode(site.registry))
        return 0
    return _serve(plan, site)


def _serve(plan: Plan, site: Site) -> int:
    log = logging.getLogger("llmvitals_exporter")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pages: Pages = {"/": site.landing, "/-/healthy": "healthy\n", "/-/ready": "ready\n"}
    try:
        server = serve(site.registry, plan.host, plan.port, pages=pages, select=site.select)
    except OSError as error:
        log.error("cannot serve at %s:%s: %s; choose another with --port", plan.host, plan.port, error)  # noqa: TRY400
        return 1
    log.info("serving http://%s:%s/metrics from %s", plan.host, server.port, ", ".join(site.collectors))
    stop.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
