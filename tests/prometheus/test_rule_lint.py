"""The offline checks of `python -m prometheus.lint`: our rules pass them, and each finds its mistake."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus.lint import CHECKS, Rule, problems, rules_in
from prometheus.lint.exclusions import exclusions, remaining
from prometheus.lint.load import seconds
from tests.prometheus.known_metrics import PROMETHEUS

GOOD = Rule(
    file="alerts/app.yml",
    group="app",
    interval=15,
    alert="LLMModuleOverdue",
    expr="max by (job, instance) (max_over_time(llmvitals_module_overdue[1m])) > 0",
    wait="1m",
    labels={"severity": "warning", "component": "app"},
    annotations={
        "summary": "A module is late.",
        "description": "{{ $value | humanize }} runs.",
        "runbook_url": "/runbooks/LLMModuleOverdue",
        "dashboard_url": "/d/llmvitals-overview",
    },
)
RECORDED = Rule(
    file="recording/a.yml", group="a", interval=15, record="llm:a:rate1m", expr="sum by (job) (rate(a[1m]))"
)


def bad(check, says, rule=GOOD, also=(), **changes):
    return pytest.param(check, [replace(rule, **changes), *also], says, id=f"{check}: {says[:50]}")


def annotated(**texts):
    return {**GOOD.annotations, **texts}


def test_our_rules_have_no_problem_that_is_not_excused():
    """What exclusions.yml excuses is there, and nothing else."""
    left, stale = remaining(problems(rules_in(PROMETHEUS / "rules")))

    assert ([], []) == ([str(problem) for problem in left], stale)


def test_every_exclusion_names_a_check_and_says_why():
    """An exclusion without a reason is a mistake that somebody got used to."""
    for entry in exclusions():
        assert entry.check in {*CHECKS, "promql/counter"}
        assert len(entry.reason.split()) >= 8, entry


def test_a_good_rule_has_no_problem():
    """Otherwise the planted mistakes below would prove nothing."""
    assert [] == [str(problem) for problem in problems([GOOD, RECORDED])]


@pytest.mark.parametrize(
    ("check", "rules", "says"),
    [
        bad("alerts/comparison", "compares nothing", expr="max by (job) (max_over_time(a[1m]))"),
        bad("alerts/absent", "fires when Prometheus restarts", expr='absent(up{job="x"})', wait=None),
        bad("alerts/absent", "without a `for` of 10s", expr='absent(up{job="x"})', wait="5s"),
        bad("alerts/for", "is the default", wait="0s"),
        bad("rule/for", "a restart of Prometheus within it", wait="12h"),
        bad("alerts/template", "`for` begins anew", labels={**GOOD.labels, "condition": "{{ $value }}"}),
        bad("alerts/template", "without humanize", annotations=annotated(description="It is {{ $value }}.")),
        bad("alerts/template", "there are none", annotations=annotated(summary="{{ $externalLabels.cluster }}")),
        bad("alerts/annotation", "has no runbook_url", annotations=annotated(runbook_url="")),
        bad("alerts/annotation", "has no dashboard_url", annotations=annotated(dashboard_url="")),
        bad("alerts/gauge", "one missed scrape resets it", expr="max by (job) (llmvitals_module_overdue) > 0"),
        bad("group/interval", "go stale in between", interval=600),
        bad("labels/conflict", "belongs to the target", labels={**GOOD.labels, "job": "x"}),
        bad("labels/conflict", "then overwrites it", expr="max by (job, component) (max_over_time(a[1m])) > 0"),
        bad("promql/aggregate", "two services become one", expr="max(max_over_time(a[1m])) > 0"),
        bad("promql/aggregate", "max forgets job", expr="max by (instance) (max_over_time(a[1m])) > 0"),
        bad("promql/fragile", "which series it is changes", expr="topk by (job) (3, max_over_time(a[1m])) > 0"),
        bad("promql/fragile", "ends it silently", expr="a / b > 0", wait=None),
        bad("promql/offset", "looks into the future", expr="max by (job) (max_over_time(a[1m] offset -5m)) > 0"),
        bad("promql/range_query", "longer than what is kept", expr="max by (job) (max_over_time(a[60d])) > 0"),
        bad("promql/rate", "fewer than four scrapes", expr="sum by (job) (rate(a_total[15s])) > 0"),
        bad("promql/rate_of_sum", "does not see a counter's restart", expr="rate(sum by (job) (a_total)[5m:]) > 0"),
        bad("promql/regexp", "has no pattern: use =", expr='max by (job) (max_over_time(a{b=~"c"}[1m])) > 0'),
        bad("promql/regexp", "has no pattern: use !=", expr='max by (job) (max_over_time(a{b!~"c"}[1m])) > 0'),
        bad("promql/regexp", "is anchored anyway", expr='max by (job) (max_over_time(a{b=~"^c.+"}[1m])) > 0'),
        bad("rule/dependency", "which no rule records", expr="max by (job) (max_over_time(llm:a:rate1m[1m])) > 0"),
        bad("rule/duplicate", "is there twice", also=[GOOD]),
        bad("rule/duplicate", "resolve the other's alert", expr="max by (job) (max_over_time(b[1m])) > 0", also=[GOOD]),
        bad("rule/duplicate", "there twice", RECORDED, also=[RECORDED]),
        bad("rule/label", "severity is none of", labels={"severity": "page", "component": "app"}),
        bad("rule/label", "has no component", labels={"severity": "warning"}),
        bad("rule/link", "docs/runbooks/Nobody.md is not there", annotations=annotated(runbook_url="/runbooks/Nobody")),
        bad("rule/link", "no path of the console's", annotations=annotated(runbook_url="docs/runbooks/Nobody.md")),
        bad("rule/link", "its dashboard nowhere is not there", annotations=annotated(dashboard_url="/d/nowhere?x=1")),
        bad("rule/name", "is not CamelCase", alert="module_overdue"),
        bad("rule/name", "holds a severity", alert="LLMModuleOverdueCritical"),
    ],
)
def test_a_planted_mistake_is_found(check, rules, says):
    """Each check is able to fail, and says what is wrong."""
    found = [problem for problem in problems(rules) if problem.check == check]

    assert any(says in problem.text for problem in found), [str(problem) for problem in problems(rules)]


def test_each_check_has_a_planted_mistake():
    """A check that nothing proves is not relied upon."""
    marks = test_a_planted_mistake_is_found.pytestmark[0]

    assert set(CHECKS) == {case.values[0] for case in marks.args[1]}


@pytest.mark.parametrize(("text", "expected"), [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("6h", 21_600), ("0s", 0)])
def test_durations_are_read_as_prometheus_reads_them(text, expected):
    """Units add up, and ms is not m and s."""
    assert expected == seconds(text)


def test_the_command_names_file_group_rule_and_check(tmp_path):
    """Exit status 1 and a line that leads to the mistake; an exclusion that excuses nothing is one, too."""
    code = (
        "import sys; from pathlib import Path; import prometheus.lint.__main__ as command; "
        "command.RULES = Path(sys.argv[1]); sys.exit(command.main())"
    )
    (tmp_path / "own.yml").write_text(
        "groups:\n- name: mine\n  rules:\n  - {alert: MineDown, expr: up, labels: {severity: info, component: app}}\n"
    )

    finished = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False, cwd=Path(PROMETHEUS).parent
    )

    assert finished.returncode == 1, finished.stderr
    assert (
        "own.yml: mine: MineDown: compares nothing, so it fires as soon as the series exists [alerts/comparison]"
        in (finished.stdout.splitlines())
    )
    assert "exclusions.yml excuses nothing any more: alerts/gauge: TargetDown" in finished.stdout
