"""What one PromQL expression reads and gives, and what is wrong with it: offline, on the parsed tree.

The ideas are those of pint's checks, held against what our catalogues say is emitted.
"""

import re
from dataclasses import dataclass, field

import promql_parser as promql
from tests.prometheus.known_metrics import Series

# Functions that are wrong on anything but a counter.
OVER_COUNTERS = frozenset({"rate", "irate", "increase", "resets"})
# Functions that are wrong on a counter: they would show its restart, or its whole life.
OVER_GAUGES = frozenset({"deriv", "delta", "idelta", "predict_linear", "avg_over_time", "min_over_time"})
COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
SETS = frozenset({"and", "or", "unless"})


@dataclass(slots=True)
class Reading:
    """The outcome of `read`."""

    labels: frozenset[str] = frozenset()
    metrics: set[str] = field(default_factory=set)
    compares: bool = False
    mistakes: list[str] = field(default_factory=list)


def read(expression: str, known: dict[str, Series]) -> Reading:
    """Everything the checks need to know of *expression*, whose series must be among *known*."""
    reading = Reading()
    reading.labels = _Walk(known, reading).labels(promql.parse(expression), within=())
    return reading


class _Walk:
    """Goes down the tree; each method returns the labels that the node's result may carry."""

    def __init__(self, known: dict[str, Series], reading: Reading):
        self._known = known
        self._reading = reading

    def labels(self, node, *, within):
        """*within* names the functions and set operators around the node, outermost first."""
        kind = type(node).__name__
        if kind in {"NumberLiteral", "StringLiteral"}:
            return frozenset()
        if kind in {"ParenExpr", "UnaryExpr", "SubqueryExpr"}:
            return self.labels(node.expr, within=within)
        readers = {
            "VectorSelector": self._selector,
            "MatrixSelector": lambda node, within: self._selector(node.vector_selector, within),
            "Call": self._call,
            "AggregateExpr": self._aggregate,
            "BinaryExpr": self._binary,
        }
        return readers[kind](node, within)

    def _wrong(self, mistake):
        self._reading.mistakes.append(mistake)

    def _selector(self, node, within):
        if node.name is None:
            self._wrong("a selector without a metric's name")
            return frozenset()
        self._reading.metrics.add(node.name)
        if node.name not in self._known:
            self._wrong(f"{node.name} is emitted by nobody")
            return frozenset()
        series = self._known[node.name]
        for matcher in node.matchers.matchers:
            self._matcher(node.name, matcher, series)
        if series.counter and not (OVER_COUNTERS | {"unless", "and"}) & set(within):
            self._wrong(f"{node.name} is a counter: read its rate or increase")
        if series.counter and OVER_GAUGES & set(within):
            self._wrong(f"{node.name} is a counter inside a function for gauges")
        if series.counter is False and OVER_COUNTERS & set(within):
            self._wrong(f"{node.name} is a gauge inside a function for counters")
        return series.labels

    def _matcher(self, name, matcher, series):
        if matcher.name not in series.labels:
            self._wrong(f"{name} has no label {matcher.name}")
        if matcher.name == "le" and re.fullmatch(r"\d+", matcher.value):
            self._wrong(f'le="{matcher.value}" matches nothing on Prometheus 3, which says {matcher.value}.0')
        if str(matcher.op).startswith("MatchOp.Re") and re.fullmatch(r"[\w:-]*", matcher.value):
            self._wrong(f"{matcher.name}=~{matcher.value!r} has no pattern: use =")

    def _call(self, node, within):
        name = node.func.name
        arguments = [self.labels(argument, within=(*within, name)) for argument in node.args]
        if name == "label_replace":
            source, target = node.args[3].val, node.args[1].val
            if source and source not in arguments[0]:
                self._wrong(f"label_replace reads {source}, which is not there")
            return arguments[0] | {target}
        if name == "histogram_quantile":
            self._quantile(node.args[1])
            return arguments[1] - {"le"}
        return next((labels for labels in arguments if labels), frozenset())

    def _quantile(self, buckets):
        while type(buckets).__name__ == "ParenExpr":
            buckets = buckets.expr
        modifier = getattr(buckets, "modifier", None)
        if type(buckets).__name__ != "AggregateExpr" or not {"job", "le"} <= set(modifier.labels if modifier else ()):
            self._wrong("a quantile needs buckets summed by (job, ..., le)")

    def _aggregate(self, node, within):
        inner = self.labels(node.expr, within=within)
        if node.modifier is None:
            return frozenset()
        named = frozenset(node.modifier.labels)
        for label in sorted(named - inner):
            self._wrong(f"{node.modifier} names {label}, which is not there")
        return named if node.modifier.type == promql.AggModifierType.By else inner - named

    def _binary(self, node, within):
        operator = str(node.op)
        # What stands on the right of `and`, and around `unless`, only has to be there.
        inside = (*within, operator) if operator in SETS else within
        left = self.labels(node.lhs, within=inside if operator == "unless" else within)
        right = self.labels(node.rhs, within=inside)
        self._reading.compares |= operator in COMPARISONS
        if operator == "/" and not self._guarded(node.rhs):
            self._wrong("a denominator that may be zero: filter it with > 0")
        matching = node.modifier.matching if node.modifier else None
        if matching and matching.type == promql.LabelModifierType.Include:
            named = frozenset(matching.labels)
            for label in sorted(named - (left & right)):
                self._wrong(f"on ({label}): one side has no such label")
            return left if operator in SETS else named
        return left | right if operator == "or" else left or right

    def _guarded(self, node):
        while type(node).__name__ == "ParenExpr":
            node = node.expr
        return type(node).__name__ == "NumberLiteral" or (
            type(node).__name__ == "BinaryExpr" and str(node.op) in {">", ">="}
        )
