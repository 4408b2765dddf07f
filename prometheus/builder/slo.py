"""
Rules that watch the objectives of slo.yml: multi-window, multi-burn-rate, under Sloth's names.

As in Google's workbook (and Sloth), an alert needs a long window, which tells that the budget really burns, and a short
one, which tells that it still does. Unlike Sloth's, these follow whichever services there are, and a window's ratio is
that of its events: bad ones over all, both added up, so that a quiet night weighs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus.builder.rulefile import Group, RuleFile, record
from prometheus.builder.spec import Slo, Spec

Rule = dict[str, Any]

# The events' rates are taken this often; a window's number of events is their sum times this.
INTERVAL_SECONDS = 30
# Sums over days move slowly; but nobody shall wait for the first.
LONG_INTERVAL = "1m"
SHORT_WINDOWS = ("5m", "30m", "1h", "2h", "6h")
LONG_WINDOWS = ("1d", "3d")
DASHBOARD = "llmvitals-slo"


@dataclass(frozen=True, slots=True)
class Burn:
    """What part of the period's budget is gone when the long window has burned at the rate that alerts."""

    short: str
    long: str
    long_hours: int
    budget: float

    def factor(self, period_days: int) -> float:
        return round(self.budget * period_days * 24 / self.long_hours, 4)


PAGE = (Burn("5m", "1h", 1, 0.02), Burn("30m", "6h", 6, 0.05))
TICKET = (Burn("2h", "1d", 24, 0.10), Burn("6h", "3d", 72, 0.10))


def files(spec: Spec) -> list[RuleFile]:
    return [
        RuleFile(
            f"slo/{slo.name}.yml",
            f"{slo.description}\nObjective: {slo.objective:g} % over {spec.period_days} days; see prometheus/slo.yml.",
            _groups(slo, spec.period_days),
        )
        for slo in spec.slos
    ]


def _groups(slo: Slo, period_days: int) -> list[Group]:
    period = f"{period_days}d"
    now = [
        _record(slo, "slo:sli_events:rate1m", _labelled(slo, _total(slo))),
        _record(slo, "slo:sli_bad_events:rate1m", _labelled(slo, _bad(slo))),
        *(_ratio(slo, window) for window in SHORT_WINDOWS),
        *(_constant(slo, name, value) for name, value in _constants(slo, period_days)),
        _burn_rate(slo, "slo:current_burn_rate:ratio", "5m"),
        _constant(
            slo,
            "sloth_slo_info",
            1,
            sloth_mode="llmvitals",
            sloth_version="llmvitals",
            sloth_spec="prometheus/slo.yml",
            sloth_objective=f"{slo.objective:g}",
        ),
    ]
    days = [
        *(_ratio(slo, window) for window in (*LONG_WINDOWS, period)),
        _burn_rate(slo, "slo:period_burn_rate:ratio", period),
        _record(slo, "slo:period_error_budget_remaining:ratio", f"1 - {_of(slo, 'slo:period_burn_rate:ratio')}"),
    ]
    alerts = [
        _alert(slo, "page", slo.alert.page, PAGE, period_days),
        _alert(slo, "ticket", slo.alert.ticket, TICKET, period_days),
    ]
    return [
        Group(f"slo-{slo.name}", now, f"{INTERVAL_SECONDS}s"),
        Group(f"slo-{slo.name}-days", days, LONG_INTERVAL),
        Group(f"slo-{slo.name}-alerts", alerts, f"{INTERVAL_SECONDS}s"),
    ]


# --- Events -----------------------------------------------------------------------------------------------------------


def _matchers(slo: Slo, *more: str) -> str:
    found = [_matcher(label, values) for label, values in slo.sli.match.items()]
    if slo.services is not None:
        found.append(_matcher("job", slo.services))
    if slo.excepted:
        found.append(_matcher("job", slo.excepted, negated=True))
    return f"{{{', '.join([*found, *more])}}}"


def _matcher(label: str, values: Sequence[str], *, negated: bool = False) -> str:
    if len(values) == 1:
        return f'{label}{"!=" if negated else "="}"{values[0]}"'
    return f'{label}{"!~" if negated else "=~"}"{"|".join(value.replace(".", "[.]") for value in values)}"'


def _total(slo: Slo) -> str:
    sli = slo.sli
    if sli.threshold_seconds is None:
        return f"sum by (job) ({sli.total}{_matchers(slo)})"
    every = sli.total + _matchers(slo, 'le="+Inf"')
    return f"sum by (job) (\n  {every}\n  and ignoring (le) {_good(slo)}\n)"


def _bad(slo: Slo) -> str:
    if slo.sli.threshold_seconds is None:
        return f"sum by (job) ({slo.sli.errors}{_matchers(slo)})"
    return f"clamp_min({_total(slo)}\n- sum by (job) ({_good(slo)}), 0)"


def _good(slo: Slo) -> str:
    """What has no such bound is left out: whether it was in time cannot be told."""
    return slo.sli.total + _matchers(slo, f'le="{slo.sli.threshold_seconds!r}"')


def _labelled(slo: Slo, expression: str) -> str:
    named = f'label_replace(\n{_indented(expression)},\n  "sloth_service", "$1", "job", "(.+)")'
    return f'label_replace({named},\n  "sloth_id", "$1-{slo.name}", "job", "(.+)")'


# --- Ratios and what is known of the objective ------------------------------------------------------------------------


def _of(slo: Slo, name: str) -> str:
    return f'{name}{{sloth_slo="{slo.name}"}}'


def _record(slo: Slo, name: str, expression: str, **labels: str) -> Rule:
    return record(name, expression, sloth_slo=slo.name, **labels)


def _ratio(slo: Slo, window: str) -> Rule:
    bad, every = (
        f"sum_over_time({_of(slo, f'slo:sli_{which}:rate1m')}[{window}])" for which in ("bad_events", "events")
    )
    return _record(slo, f"slo:sli_error:ratio_rate{window}", f"{bad}\n/\n({every} > 0)", sloth_window=window)


def _burn_rate(slo: Slo, name: str, window: str) -> Rule:
    ratio = _of(slo, f"slo:sli_error:ratio_rate{window}")
    return _record(slo, name, f"max without (sloth_window) ({ratio}) / {_budget(slo)}")


def _budget(slo: Slo) -> str:
    return f"{round(1 - slo.objective / 100, 10):.10g}"


def _constants(slo: Slo, period_days: int) -> tuple[tuple[str, float], ...]:
    return (
        ("slo:objective:ratio", round(slo.objective / 100, 10)),
        ("slo:error_budget:ratio", float(_budget(slo))),
        ("slo:time_period:days", period_days),
    )


def _constant(slo: Slo, name: str, value: float, **labels: str) -> Rule:
    """A number of each service that there is."""
    return _record(slo, name, f"0 * {_of(slo, 'slo:sli_events:rate1m')} + {value:.10g}", **labels)


# --- Alerts -----------------------------------------------------------------------------------------------------------


def _alert(slo: Slo, kind: str, severity: str, burns: Sequence[Burn], period_days: int) -> Rule:
    factors = " or ".join(f"{burn.factor(period_days):g} times over {burn.long} and {burn.short}" for burn in burns)
    return {
        "alert": slo.alert.name,
        "expr": "\nor\n".join(_burning(slo, burn, period_days) for burn in burns),
        "labels": {"severity": severity, "component": slo.alert.component, "sloth_severity": kind},
        "annotations": {
            "summary": slo.alert.trouble,
            "description": (
                f"{{{{ $value | humanizePercentage }}}} of the events of {{{{ $labels.job }}}} are bad"
                f" (objective {slo.name}: at most {_percent(slo)}; the limit here is {factors})."
                f" First check {slo.alert.first_check}."
            ),
            "runbook_url": f"/runbooks/{slo.alert.name}",
            "dashboard_url": f"/d/{DASHBOARD}?var-service={{{{ $labels.sloth_service | urlquery }}}}",
        },
    }


def _burning(slo: Slo, burn: Burn, period_days: int) -> str:
    limit = f"({burn.factor(period_days):g} * {_budget(slo)})"
    short, long = (f"slo:sli_error:ratio_rate{window}" for window in (burn.short, burn.long))
    events = f"sum_over_time({_of(slo, 'slo:sli_events:rate1m')}[{burn.long}]) * {INTERVAL_SECONDS}"
    return (
        "(\n"
        f"  max without (sloth_window) ({_of(slo, short)} > {limit})\n"
        f"  and\n"
        f"  max without (sloth_window) ({_of(slo, long)} > {limit})\n"
        f"  and\n"
        f"  {events} >= {slo.minimum_events}\n"
        ")"
    )


def _percent(slo: Slo) -> str:
    return f"{round(100 - slo.objective, 8):g}%"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
