"""Each gate of the dashboards is seen to fail: a spoilt dashboard, and the test of that gate."""

import copy

import pytest
from tests.grafana import live, test_catalogue, test_promql, test_shape
from tests.grafana.queries import load, panels, queries

UID = "llmvitals-overview"


@pytest.fixture(name="dashboard")
def _dashboard():
    return copy.deepcopy(load()[UID])


def chart(dashboard):
    return next(p for p in panels(dashboard) if p["type"] == "timeseries")


def asks(dashboard, expr):
    chart(dashboard)["targets"][0]["expr"] = expr


def query(dashboard):
    return next(q for q in queries(dashboard) if q.panel == chart(dashboard))


MISTAKES = [
    ("uid", test_shape.test_head, lambda d: d.update(uid="x" * 41)),
    ("title twice", test_shape.test_panel_ids_and_titles_are_unique, lambda d: chart(d).update(title="Requests")),
    ("overlap", test_shape.test_panels_lie_on_the_grid_without_overlap, lambda d: chart(d)["gridPos"].update(x=1)),
    ("too wide", test_shape.test_panels_lie_on_the_grid_without_overlap, lambda d: chart(d)["gridPos"].update(w=25)),
    ("tall tile", test_shape.test_first_line_is_a_glance, lambda d: d["panels"][0].update(type="timeseries")),
    (
        "no words for nothing",
        test_shape.test_panels_say_what_they_show,
        lambda d: chart(d)["fieldConfig"]["defaults"].update(noValue=""),
    ),
    ("source", test_shape.test_data_source_is_the_variable, lambda d: chart(d).update(datasource={"uid": "mine"})),
    ("unknown variable", test_shape.test_variables_are_used_and_defined, lambda d: asks(d, 'up{job=~"$jobs"}')),
    ("literal job", test_shape.test_no_literal_job_or_instance, lambda d: asks(d, 'up{job="companion"}')),
    ("window", test_shape.test_windows_follow_the_picture, lambda d: asks(d, "rate(process_cpu_seconds_total[7m])")),
    ("bare counter", test_shape.test_counters_are_rated, lambda d: asks(d, "sum(llmvitals_retries_total{})")),
    ("no legend", test_shape.test_several_series_have_a_legend, lambda d: chart(d)["options"]["legend"].clear()),
    ("hex colour", test_shape.test_colours_are_named, lambda d: chart(d).update(x={"color": "#ff0000"})),
]


@pytest.mark.parametrize(("gate", "spoil"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_gate_of_the_shape_closes(gate, spoil, dashboard):
    """It lets the dashboard through as it is, and not with the mistake."""
    gate(dashboard)
    spoil(dashboard)

    with pytest.raises((AssertionError, KeyError)):
        gate(dashboard)


@pytest.mark.parametrize(
    "expr",
    [
        'sum(llmvitals_renamed{job=~"$job"})',
        'sum by (region) (up{job=~"$job"})',
        'up{job=~"$job", region="eu"}',
    ],
)
def test_the_catalogue_gate_closes(expr, dashboard):
    """For a name, an aggregated label and a matched label that nobody emits."""
    asks(dashboard, expr)

    with pytest.raises(AssertionError):
        test_catalogue.test_query_reads_what_somebody_emits(query(dashboard))


def test_the_description_gate_closes(dashboard):
    """A panel that reads another metric than its description names."""
    asks(dashboard, 'up{job=~"$job"}')

    with pytest.raises(AssertionError):
        test_catalogue.test_description_lists_the_metrics(query(dashboard))


def test_the_promql_gate_closes_and_names_the_panel(tmp_path, dashboard, monkeypatch):
    """What the oldest Prometheus cannot read, though a newer one could."""
    asks(dashboard, "time() - process_start_time_seconds > 10m")
    monkeypatch.setattr(test_promql, "load", lambda: load() | {UID: dashboard})

    with pytest.raises(AssertionError, match="could not parse expression") as raised:
        test_promql.test_promtool_accepts_every_expression(tmp_path)

    assert chart(dashboard)["title"] in str(raised.value)


@pytest.mark.parametrize(
    ("defaults", "values", "problem"),
    [
        ({"min": 0}, [0.5, -0.5], "-0.5 is below 0"),
        ({"max": 1}, [0.5, 1.5], "1.5 is above 1"),
        ({}, [float("nan")], "NaN"),
        ({"min": 0, "max": 1}, [0, 1.0000000000000002], None),
    ],
)
def test_the_gate_of_live_data_knows_impossible_values(defaults, values, problem):
    """A negative rate, a ratio above one, and no number at all; but not a rounding."""
    found = live._impossible([values], {"fieldConfig": {"defaults": defaults}})

    assert ([problem] if problem else []) == found
