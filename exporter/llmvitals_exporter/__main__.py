"""``llmvitals-exporter``: starts, serves, and ends on SIGTERM or Ctrl-C."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from llmvitals.exposition import Guard, Pages, Security, ServeError, encode, serve
from llmvitals_exporter._options import Plan, UsageError, parse
from llmvitals_exporter._portable import on_windows
from llmvitals_exporter._report import check, listing
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site
from llmvitals_exporter._web_config import WebConfig, WebConfigError
from llmvitals_exporter.collectors import COLLECTORS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the exit status is 2 for a wrong command line, 1 when it could not do its work."""
    try:
        plan = parse(sys.argv[1:] if arguments is None else arguments)
        guard, security = _rules(plan.web) if plan.mode in ("serve", "check") else (None, None)
    except (UsageError, WebConfigError) as error:
        for problem in error.problems:
            print(f"llmvitals-exporter: {problem}", file=sys.stderr)  # noqa: T201 -- a command line's answer
        return 2
    if plan.mode == "list":
        print(listing(COLLECTORS))  # noqa: T201 -- what was asked for
        return 0
    # Who looks once has the output; who serves for weeks wants to read later what was there, and what was not.
    level = logging.INFO if plan.mode == "serve" else logging.WARNING
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=level, stream=sys.stderr)
    runner = Runner(plan.collectors, plan.settings, timeout=plan.timeout)
    try:
        return _run(plan, runner, guard, security)
    finally:
        runner.close()


def _run(plan: Plan, runner: Runner, guard: Guard | None, security: Security | None) -> int:
    scrape = Scrape(runner)
    if plan.mode == "check":
        report, status = check(scrape.outcomes())
        print(report)  # noqa: T201 -- what was asked for
        return status
    site = Site(scrape, runner.collectors)
    if plan.mode == "once":
        return _write(encode(site.registry))
    return _serve(plan, site, guard, security)


def _write(metrics: bytes) -> int:
    try:
        sys.stdout.buffer.write(metrics)
        sys.stdout.flush()
    except OSError as error:
        problem = f"llmvitals-exporter: standard output takes the metrics no further: {error.strerror}"
        print(problem, file=sys.stderr)  # noqa: T201 -- a command line's answer
        # What could not be written is tried once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _serve(plan: Plan, site: Site, guard: Guard | None, security: Security | None) -> int:
    log = logging.getLogger("llmvitals_exporter")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pages: Pages = {"/": site.landing, "/-/healthy": "healthy\n", "/-/ready": "ready\n"}
    try:
        server = serve(
            site.registry,
            plan.host,
            plan.port,
            pages=pages,
            select=site.select,
            guard=guard,
            headers=plan.web.headers,
            security=security,
        )
    except ServeError as error:
        log.error("%s; choose another address with --host and --port", error)  # noqa: TRY400
        return 1
    log.info("serving %s from %s", server.url, ", ".join(site.collectors))
    # In slices: Windows tells of Ctrl-C between two waits, not in one.
    while not stop.wait(1.0 if on_windows() else None):
        pass
    server.close()
    return 0


def _rules(web: WebConfig) -> tuple[Guard | None, Security | None]:
    if not web.users and web.tls is None:
        return None, None
    from llmvitals_exporter._security import Passwords, Tls  # noqa: PLC0415 -- 5 MB that a plain server need not have

    return Passwords(web.users) if web.users else None, Tls(web.tls) if web.tls else None


if __name__ == "__main__":
    sys.exit(main())
