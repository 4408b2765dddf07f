"""The dashboards' lint: nothing is found that is not excused, and each check finds its mistake."""

import copy

import pytest
from grafana.lint import CHECKS, problems
from grafana.lint.checks import links_resolve
from grafana.lint.exclusions import exclusions, remaining
from grafana.lint.load import dashboards, panels

UID = "llmvitals-python"


def test_dashboards_have_no_problem_that_is_not_excused():
    """And no exclusion is left over from a problem that is gone."""
    left, stale = remaining(problems(dashboards()))

    assert ([], []) == ([str(problem) for problem in left], stale)


def test_each_exclusion_has_a_reason():
    """What is left out is left out for a person's sake, in words."""
    assert exclusions()
    assert [] == [entry for entry in exclusions() if len(entry.reason.split()) < 6 or entry.check not in CHECKS]


# --- Each check finds its mistake -------------------------------------------------------------------------------------


def panel(dashboard, kind="timeseries"):
    return next(p for p in (*panels(dashboard), *dashboard["panels"]) if p["type"] == kind)


def target(dashboard):
    return panel(dashboard)["targets"][0]


def variable(dashboard, name):
    return next(v for v in dashboard["templating"]["list"] if v["name"] == name)


def without(dashboard, name):
    dashboard["templating"]["list"].remove(variable(dashboard, name))


def panel_link(url):
    return lambda d: panel(d).update(links=[{"title": "x", "url": url}])


MISTAKES = [
    ("uneditable-dashboard", lambda d: d.update(editable=True), "can be edited"),
    ("portable", lambda d: d.update(__inputs=[]), "has __inputs"),
    ("portable", lambda d: d.update(schemaVersion=41), "schemaVersion is not 39"),
    ("portable", lambda d: panel(d).update(datasource="${DS_PROMETHEUS}"), "${DS_...}"),
    ("template-datasource", lambda d: variable(d, "datasource").update(name="ds"), "there is not one variable"),
    ("template-job", lambda d: without(d, "job"), "no variable `job`"),
    ("template-instance", lambda d: without(d, "instance"), "no variable `instance`"),
    ("template-multi", lambda d: variable(d, "job").update(allValue=".*"), "All is not `.+`"),
    ("template-multi", lambda d: variable(d, "instance").update(multi=False), "does not take several values"),
    ("template-label-promql", lambda d: variable(d, "job").update(definition="label_values(up{, job)"), "is not label"),
    ("template-label-promql", lambda d: variable(d, "job").update(definition="query_result(up)"), "is not label"),
    ("template-on-time-change-reload", lambda d: variable(d, "job").update(refresh=1), "not read again"),
    ("panel-id", lambda d: panel(d).update(id=panel(d, "stat")["id"]), "no id of its own"),
    ("panel-id", lambda d: panel(d).pop("id"), "no id of its own"),
    ("panel-datasource", lambda d: target(d).update(datasource={"uid": "prometheus"}), "another data source"),
    ("panel-title-description", lambda d: panel(d).update(title=""), "has no title"),
    ("panel-title-description", lambda d: panel(d).update(description="Some lines."), "does not end with the names"),
    ("panel-units", lambda d: panel(d)["fieldConfig"]["defaults"].update(unit="seconds"), "no unit 'seconds'"),
    ("panel-units", lambda d: panel(d)["fieldConfig"]["defaults"].update(unit="suffix: cores"), "has two spaces"),
    ("row-title", lambda d: panel(d, "row").update(title="A" * 41), "is longer than 40"),
    ("panel-no-targets", lambda d: panel(d).update(targets=[]), "asks nothing"),
    ("panel-no-targets", lambda d: panel(d)["targets"].append(target(d)), "have one letter"),
    (
        "panel-threshold",
        lambda d: panel(d)["fieldConfig"]["defaults"].update(
            thresholds={"mode": "absolute", "steps": [{"color": "green", "value": None}, {"color": "red", "value": 7}]}
        ),
        "ties to no alert",
    ),
    (
        "panel-limit-in-view",
        lambda d: (
            panel(d)["fieldConfig"]["defaults"]
            .setdefault("thresholds", {})
            .update(steps=[{"color": "green", "value": None}, {"color": "red", "value": 7}]),
            panel(d)["fieldConfig"]["defaults"]["custom"].update(thresholdsStyle={"mode": "dashed"}, axisSoftMax=6),
        ),
        "the line at 7 is out of sight",
    ),
    ("panel-legend", lambda d: panel(d)["targets"].extend([target(d)] * 4), "more than 4 kinds of lines"),
    ("panel-legend", lambda d: panel(d)["options"]["legend"].update(displayMode="table", calcs=["mean"]), "10 high"),
    ("panel-room", lambda d: panel(d)["gridPos"].update(w=4), "narrower than 6 columns"),
    ("target-promql", lambda d: target(d).update(expr="sum(rate(x[1m])"), "is no PromQL"),
    ("target-rate-interval", lambda d: target(d).update(expr="rate(process_cpu_seconds_total[5m])"), "over [5m]"),
    ("target-job", lambda d: target(d).update(expr='up{instance=~"$instance"}'), 'up is not asked with job=~"$job"'),
    ("target-instance", lambda d: target(d).update(expr='up{job=~"$job"}'), "up is not asked with instance=~"),
    ("target-counter-agg", lambda d: target(d).update(expr="sum(llmvitals_retries_total)"), "is a counter outside"),
    ("types", lambda d: panel(d)["fieldConfig"]["defaults"]["custom"].update(drawStyle="zigzag"), "'zigzag'"),
    ("types", lambda d: panel(d, "stat")["options"].update(graphmode="area"), "'graphmode'"),
    ("types", lambda d: d.update(graphTooltip="1"), "'1'"),
    ("types", lambda d: panel(d).update(type="graph"), "no panel graph"),
    ("round-trip", lambda d: panel(d).update(nullPointMode="null"), "loses 'nullPointMode'"),
    ("round-trip", lambda d: d.update(panels=[3]), "the SDK cannot read it"),
    ("links", lambda d: d["links"][0].update(tags=["nobody"]), "no dashboard has the tag nobody"),
    ("links", lambda d: d["links"][0].update(keepTime=False), "time is lost"),
    ("links", panel_link("/d/llmvitals-gone?from=now"), "no dashboard llmvitals-gone"),
    ("links", panel_link("${console:raw}/runbooks/Gone"), "no docs/runbooks/Gone.md"),
    ("links", panel_link("https://example.org/"), "leads to no dashboard"),
    ("unique-uid", lambda d: d.update(uid="llmvitals-overview"), "is the uid of two dashboards"),
]


@pytest.mark.parametrize(("check", "spoil", "text"), MISTAKES, ids=[f"{m[0]}-{n}" for n, m in enumerate(MISTAKES)])
def test_the_lint_finds_a_planted_mistake(check, spoil, text):
    """One mistake in a dashboard, and the check says so in words; without the mistake it does not."""
    other, sound = (next(d for d in dashboards() if d["uid"] == uid) for uid in ("llmvitals-overview", UID))
    spoilt = copy.deepcopy(sound)
    spoil(spoilt)

    def told(dashboard):
        if check in CHECKS:
            return [what for _, what in CHECKS[check](dashboard)]
        if check == "links":
            return [what for _, what in links_resolve(dashboard, {UID}, {"llmvitals"})]
        return [problem.text for problem in problems([dashboard, other], checks={})]

    assert (False, True) == tuple(any(text in one for one in told(dashboard)) for dashboard in (sound, spoilt))


def test_every_check_has_a_mistake_above():
    """A check that was never seen to fail is no check."""
    assert {*CHECKS, "links", "unique-uid"} == {check for check, *_ in MISTAKES}
