"""Every metric family of the dashboard viewer, as data: docs, dashboards, rules and tests are checked against it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family under its full exposed name."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    since: str = "0.1.0"


_P = "llmvitals_viewer_"

QUERIES = Family(
    f"{_P}queries_total",
    "counter",
    "Questions that pages asked Prometheus, by what became of them: answered, refused by Prometheus (error), "
    "unreachable, too late (timeout), too large, or dropped because the page left (aborted).",
    labels=("result",),
)
DURATION = Family(
    f"{_P}query_duration_seconds",
    "histogram",
    "Time from a page's question to the end of Prometheus' answer, waiting for a turn included.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
ASKING = Family(f"{_P}queries_in_flight", "gauge", "Questions that are being answered or wait for their turn.")
REFUSED = Family(
    f"{_P}refused_total",
    "counter",
    "Questions that never reached Prometheus, by reason: larger than may be (size), too slow to come (time), another "
    "path than the five that are open (path), another site's page (site).",
    labels=("reason",),
)
BUILD_INFO = Family(f"{_P}build_info", "gauge", "Always 1; the label says the version.", labels=("version",))

FAMILIES = (QUERIES, DURATION, ASKING, REFUSED, BUILD_INFO)
