"""
The checks: pint's that need no running Prometheus, and our own conventions.

Each takes all rules and yields problems; its key is pint's name where pint has the same. What needs the catalogues
(promql/series, promql/counter, promql/nan, quantiles) is in ``tests/prometheus/lint.py``.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus.lint.load import Rule, calls, seconds, selectors, walk

ROOT = Path(__file__).resolve().parents[2]
# The slowest scrape of prometheus.yml, its retention in the stack, and its staleness look-back.
SCRAPE_SECONDS = 5
RETENTION_SECONDS = 35 * 86_400
LOOKBACK_SECONDS = 300
COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
# They give a value where there is none, so that nothing needs to be compared.
GIVE_WITHOUT_COMPARING = ("absent", "absent_over_time", "vector")
RATES = ("rate", "irate", "increase")
SEVERITIES = frozenset({"critical", "warning", "info", "none"})
TARGET_LABELS = frozenset({"job", "instance", "cluster", "replica"})


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a rule, by which check."""

    check: str
    rule: Rule
    text: str

    def __str__(self) -> str:
        return f"{self.rule.file}: {self.rule.group}: {self.rule.name}: {self.text} [{self.check}]"


Found = Iterator[tuple[Rule, str]]


def _alerts(rules: Sequence[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.alert]


def comparison(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        compares = any(type(node).__name__ == "BinaryExpr" and str(node.op) in COMPARISONS for node in walk(rule.tree))
        if not compares and not any(calls(rule.tree, *GIVE_WITHOUT_COMPARING)):
            yield rule, "compares nothing, so it fires as soon as the series exists"


def absent(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        if any(calls(rule.tree, "absent")) and seconds(rule.wait or "0s") < 2 * SCRAPE_SECONDS:
            yield rule, f"absent() without a `for` of {2 * SCRAPE_SECONDS}s fires when Prometheus restarts"


def template(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        if any("$value" in text or ".Value" in text for text in rule.labels.values()):
            yield rule, "a label holds the value: each evaluation makes a new alert, and `for` begins anew"
        for key, text in rule.annotations.items():
            if re.search(r"\{\{\s*\$value\s*\}\}", text):
                yield rule, f"{key} shows the value without humanize"
            if "$externalLabels" in text:
                yield rule, f"{key} names external labels, and there are none"


def redundant_for(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        if rule.wait is not None and seconds(rule.wait) == 0:
            yield rule, "`for: 0s` is the default"


def wait_is_sane(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        if seconds(rule.wait or "0s") > 6 * 3600:
            yield rule, f"`for: {rule.wait}`: a restart of Prometheus within it is likely"


def group_interval(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        if rule.interval > LOOKBACK_SECONDS:
            yield rule, f"the group's interval is above {LOOKBACK_SECONDS}s: its series go stale in between"


def labels_conflict(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for label in sorted(TARGET_LABELS & set(rule.labels)):
            yield rule, f"sets {label}, which belongs to the target or to external_labels"
        for label in sorted(_grouped(rule.tree) & set(rule.labels)):
            yield rule, f"keeps {label} in its expression and then overwrites it"


def _grouped(tree: Any) -> frozenset[str]:
    """The labels that the outermost aggregations keep by name."""
    kind = type(tree).__name__
    if kind == "ParenExpr":
        return _grouped(tree.expr)
    if kind == "BinaryExpr":
        return _grouped(tree.lhs) | (_grouped(tree.rhs) if str(tree.op) == "or" else frozenset())
    if kind == "AggregateExpr" and tree.modifier is not None and str(tree.modifier.type).endswith("By"):
        return frozenset(tree.modifier.labels)
    return frozenset()


def rate_window(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for call in calls(rule.tree, *RATES):
            window = getattr(call.args[0], "range", None)
            if window is not None and window.total_seconds() < 4 * SCRAPE_SECONDS:
                yield rule, f"{call.func.name} over {window.total_seconds():g}s holds fewer than four scrapes"


def rate_of_sum(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for call in calls(rule.tree, *RATES):
            if type(call.args[0]).__name__ == "SubqueryExpr":
                yield rule, f"{call.func.name} of a subquery does not see a counter's restart: rate first, then sum"


def regexp(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for selector in selectors(rule.tree):
            for matcher in selector.matchers.matchers:
                kind = str(matcher.op)
                if not kind.startswith(("MatchOp.Re", "MatchOp.NotRe")):
                    continue
                sign = "!~" if "Not" in kind else "=~"
                if re.fullmatch(r"[\w:/ -]*", matcher.value):
                    yield (
                        rule,
                        f"{matcher.name}{sign}{matcher.value!r} has no pattern: use {'!=' if 'Not' in kind else '='}",
                    )
                if matcher.value.startswith("^") or matcher.value.endswith("$"):
                    yield rule, f"{matcher.name}{sign}{matcher.value!r} has an anchor, and is anchored anyway"


def offset(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for selector in selectors(rule.tree):
            if selector.offset is not None and selector.offset.total_seconds() < 0:
                yield rule, "a negative offset looks into the future, where there is nothing"


def range_query(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for node in walk(rule.tree):
            window = getattr(node, "range", None)
            if window is not None and window.total_seconds() > RETENTION_SECONDS:
                yield rule, f"a window of {window} is longer than what is kept"


def aggregate(rules: Sequence[Rule]) -> Found:
    for rule in rules:
        for node in walk(rule.tree):
            if type(node).__name__ != "AggregateExpr":
                continue
            by = node.modifier is not None and str(node.modifier.type).endswith("By")
            if node.modifier is None or (by and "job" not in node.modifier.labels):
                yield rule, f"{node.op} forgets job: two services become one"


def fragile(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        for node in walk(rule.tree):
            if type(node).__name__ == "AggregateExpr" and str(node.op) in {"topk", "bottomk"}:
                yield rule, f"{node.op} in an alert: which series it is changes, and `for` begins anew"
            if type(node).__name__ == "BinaryExpr" and str(node.op) in {"+", "-", "*", "/"}:
                kinds = {"NumberLiteral" if _scalar(side) else type(side).__name__ for side in (node.lhs, node.rhs)}
                bare = "VectorSelector" in kinds and "NumberLiteral" not in kinds
                if bare and (node.modifier is None or node.modifier.matching is None):
                    yield rule, "arithmetic between raw series on all labels: a new label on one side ends it silently"


def _scalar(node: Any) -> bool:
    return type(node).__name__ == "NumberLiteral" or any(node is call for call in calls(node, "time", "scalar"))


def bare_gauge(rules: Sequence[Rule]) -> Found:
    """A gauge outside a range function loses its alert at the first failed scrape; a `for` begins anew."""
    for rule in _alerts(rules):
        ranged = {id(node.vector_selector) for node in walk(rule.tree) if type(node).__name__ == "MatrixSelector"}
        bare = sorted(
            {
                selector.name
                for selector in selectors(rule.tree)
                if id(selector) not in ranged and selector.name and ":" not in selector.name
            }
        )
        if rule.wait is not None and bare:
            yield rule, f"{', '.join(bare)} outside max_over_time or min_over_time: one missed scrape resets it"


def duplicate(rules: Sequence[Rule]) -> Found:
    identity = Counter((rule.name, str(sorted(rule.labels.items())), rule.expr) for rule in rules)
    mute = Counter((rule.alert, str(sorted(rule.labels.items()))) for rule in rules if rule.alert)
    for rule in rules:
        labels = str(sorted(rule.labels.items()))
        if identity[rule.name, labels, rule.expr] > 1:
            yield rule, "is there twice"
        elif rule.alert and mute[rule.alert, labels] > 1:
            yield rule, "another rule has the same name and labels: each would resolve the other's alert"


def dependency(rules: Sequence[Rule]) -> Found:
    recorded = {rule.record for rule in rules if rule.record}
    for rule in rules:
        for selector in selectors(rule.tree):
            ours = (selector.name or "").startswith(("llm:", "job:", "slo:"))
            if ours and selector.name not in recorded:
                yield rule, f"reads {selector.name}, which no rule records"


def label(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        if rule.labels.get("severity") not in SEVERITIES:
            yield rule, f"severity is none of {', '.join(sorted(SEVERITIES))}"
        if not rule.labels.get("component"):
            yield rule, "has no component"


def annotation(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        for key in ("summary", "description", "runbook_url", "dashboard_url"):
            if not rule.annotations.get(key):
                yield rule, f"has no {key}"


def link(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        runbook = rule.annotations.get("runbook_url", "")
        written = re.fullmatch(r"/runbooks/(\w+)", runbook)
        if runbook and not written:
            yield rule, f"{runbook} is no path of the console's, /runbooks/<name>"
        elif written and not (ROOT / "docs" / "runbooks" / f"{written[1]}.md").is_file():
            yield rule, f"its runbook docs/runbooks/{written[1]}.md is not there"
        uid = re.match(r"/d/([\w-]+)", rule.annotations.get("dashboard_url", ""))
        if uid and not (ROOT / "grafana" / "dashboards" / f"{uid[1]}.json").is_file():
            yield rule, f"its dashboard {uid[1]} is not there"


def name(rules: Sequence[Rule]) -> Found:
    for rule in _alerts(rules):
        if not re.fullmatch(r"(?:[A-Z]+[a-z0-9]+|[A-Z]{2,})+", rule.alert):
            yield rule, "its name is not CamelCase"
        if re.search(r"(Critical|Warning|Info)$", rule.alert):
            yield rule, "its name holds a severity: use one name with several severities"


CHECKS: dict[str, Callable[[Sequence[Rule]], Found]] = {
    "alerts/absent": absent,
    "alerts/annotation": annotation,
    "alerts/comparison": comparison,
    "alerts/for": redundant_for,
    "alerts/gauge": bare_gauge,
    "alerts/template": template,
    "group/interval": group_interval,
    "labels/conflict": labels_conflict,
    "promql/aggregate": aggregate,
    "promql/fragile": fragile,
    "promql/offset": offset,
    "promql/range_query": range_query,
    "promql/rate": rate_window,
    "promql/rate_of_sum": rate_of_sum,
    "promql/regexp": regexp,
    "rule/dependency": dependency,
    "rule/duplicate": duplicate,
    "rule/for": wait_is_sane,
    "rule/label": label,
    "rule/link": link,
    "rule/name": name,
}


def problems(rules: Sequence[Rule]) -> list[Problem]:
    """Everything that the checks find in *rules*."""
    return [Problem(key, rule, text) for key, check in CHECKS.items() for rule, text in check(rules)]
