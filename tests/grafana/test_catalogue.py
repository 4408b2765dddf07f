import re

import promql_parser
import pytest
import yaml
from tests.grafana.queries import ROOT, interpolate, load, queries
from tests.prometheus.known_metrics import emitted

TARGET = {"job", "instance"}
# What Prometheus itself makes.
OWN = {
    "up": set(),
    "scrape_duration_seconds": set(),
    "scrape_samples_scraped": set(),
    "scrape_series_added": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
}


def _known() -> dict[str, set[str]]:
    """Each series' name with its labels, without the target's."""
    return {name: set(series.labels) - TARGET for name, series in emitted().items()} | OWN


def _recorded() -> set[str]:
    found = set()
    for path in sorted((ROOT / "prometheus" / "rules").rglob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            found |= {rule["record"] for rule in group["rules"] if "record" in rule}
    return found


# Labels of the recorded vocabulary, as prometheus/rules/recording writes them.
RECORDED_LABELS = (
    {"provider", "model", "operation", "direction", "kind", "error_type", "voice", "src", "le"}
    | {"cache", "gen_ai_request_model", "loop", "mountpoint", "name", "outcome", "pool", "reason", "result"}
    | {"alertname", "severity"}
    | {f"sloth_{label}" for label in ("id", "service", "slo", "window", "objective", "mode", "version", "spec")}
)
KNOWN = _known() | dict.fromkeys(_recorded(), RECORDED_LABELS)
QUERIES = [q for dashboard in load().values() for q in queries(dashboard)]


def _selectors(node) -> list:
    """Every vector selector below *node*."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    parts = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    parts += list(getattr(node, "args", None) or [])
    return [s for part in parts if part is not None for s in _selectors(part)]


def _labels_asked(expr: str) -> set[str]:
    """Labels in ``by`` clauses; those of matchers are looked at with their selector."""
    clauses = re.findall(r"\b(?:by|on) \(([^)]*)\)", expr)
    return {label.strip() for clause in clauses for label in clause.split(",") if label.strip()}


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: q.where)
def test_query_reads_what_somebody_emits(query):
    """Names, matched labels, aggregated labels and legends are in a catalogue or in a recording rule."""
    selectors = _selectors(promql_parser.parse(interpolate(query.expr)))
    names = {s.name for s in selectors}

    assert names, query.expr
    assert set() == names - set(KNOWN)
    for selector in selectors:
        matched = {m.name for m in selector.matchers.matchers}
        assert matched <= KNOWN[selector.name] | TARGET, selector.name
    made = set(re.findall(r', "(\w+)", "[^"]*", "\w+", "[^"]*"\)', query.expr))  # by label_replace
    there = {label for name in names for label in KNOWN[name]} | TARGET | made
    legend = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    assert _labels_asked(query.expr) | legend <= there


@pytest.mark.parametrize("query", [q for q in QUERIES if q.panel], ids=lambda q: q.where)
def test_description_lists_the_metrics(query):
    """The names at a description's end are those that the panel reads: families and recorded series."""
    listed = set(re.findall(r"`([\w:]+)`", query.panel["description"]))
    for selector in _selectors(promql_parser.parse(interpolate(query.expr))):
        family = re.sub(r"_(bucket|sum|count)$", "", selector.name)
        assert family in listed


@pytest.mark.parametrize("query", [q for q in QUERIES if "histogram_quantile" in q.expr], ids=lambda q: q.where)
def test_quantiles_keep_services_apart(query):
    """Buckets of two services are never added up into one quantile."""
    inner = re.findall(r"histogram_quantile\([\d.]+, sum by \(([^)]*)\)", query.expr)

    assert inner
    assert all({"job", "le"} <= set(clause.split(", ")) for clause in inner)
