import re

import pytest
from tests.grafana.queries import FOLDER, load, panels, queries

DASHBOARDS = load()
UNITS = {
    "reqps",
    "percentunit",
    "s",
    "short",
    "ops",
    "bytes",
    "Bps",
    "celsius",
    "watt",
    "joule",
    "hertz",
    "dthms",
    "dtdhms",
    "eps",
    "currencyUSD",
    "none",
}
UNITS |= {"dateTimeFromNow", ""}
# These show names and words; their columns have units of their own.
WITHOUT_UNIT = {"table", "text"}
# What looks back further than a scrape or two, and why.
FIXED_WINDOWS = {
    "$__interval": "a bar counts the events of its own width",
    "$__range": "a number over the chosen time",
    "30m": "remediations are rare",
}

# What counts since the start: a mean of what happens once, before any window begins; errors that no time heals.
SINCE_START = {"Loads that were put off", "Cards"}

each = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def test_every_dashboard_is_there():
    """The lint below looks at something: a file for each dashboard that the README lists, and no other."""
    listed = re.findall(r"^\| `(llmvitals-[\w-]+)` \|", (FOLDER.parent / "README.md").read_text(), flags=re.MULTILINE)

    assert sorted(listed) == list(DASHBOARDS)


@each
def test_head(dashboard):
    """A dashboard can be provisioned from a file by Grafana 10.4 and later, without a question to the user."""
    assert len(dashboard["uid"]) <= 40
    assert 39 == dashboard["schemaVersion"]
    assert dashboard["description"]
    assert not {"__inputs", "__requires", "id"} & set(dashboard)
    assert not dashboard["editable"]
    assert all(link["keepTime"] for link in dashboard["links"])
    assert (FOLDER / f"{dashboard['uid']}.json").stat().st_size < 900_000


@each
def test_panel_ids_and_titles_are_unique(dashboard):
    """Links point at an id, people at a title."""
    ids = [p["id"] for p in dashboard["panels"]]
    titles = [p["title"] for p in dashboard["panels"]]

    assert sorted(set(ids)) == sorted(ids)
    assert sorted(set(titles)) == sorted(titles)


@each
def test_panels_lie_on_the_grid_without_overlap(dashboard):
    """Every cell of the grid of 24 columns belongs to one panel at most, and a line leaves no hole."""
    cells: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in cells, f"{panel['title']} lies on {cells[x, y]}"
                assert 0 <= x < 24
                cells[x, y] = panel["title"]

    lines = max(y for _, y in cells) + 1
    assert 24 * lines == len(cells)


@each
def test_first_line_is_a_glance(dashboard):
    """At most eight tiles, on one line."""
    first = [p for p in dashboard["panels"] if p["gridPos"]["y"] == 0]

    assert {"stat"} == {p["type"] for p in first}
    assert len(first) <= 8


@each
def test_panels_say_what_they_show(dashboard):
    """A title, a sentence that ends with the metrics' names, a unit, and words for "no data"."""
    for panel in panels(dashboard):
        assert panel["title"], panel["id"]
        assert re.search(r"\w.*\. Metrics?: (`[\w:]+`(, )?)+\.$", panel["description"]), panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["noValue"], panel["title"]
        if panel["type"] not in WITHOUT_UNIT:
            unit = defaults["unit"]
            assert unit in UNITS or unit.startswith(("suffix:", "prefix:", "count:")), panel["title"]


@each
def test_data_source_is_the_variable(dashboard):
    """Nothing names a data source; the variable does, and its default is the provisioned one."""
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    owners = [*panels(dashboard), *(t for p in panels(dashboard) for t in p["targets"])]
    owners += dashboard["annotations"]["list"]
    owners += [v for v in dashboard["templating"]["list"] if v["type"] == "query"]

    assert [] == [o for o in owners if o["datasource"] != wanted]
    first = dashboard["templating"]["list"][0]
    assert ("datasource", "prometheus") == (first["name"], first["current"]["value"])


@each
def test_variables_are_used_and_defined(dashboard):
    """A dropdown that changes nothing, and an expression that waits for a dropdown, are both faults."""
    builtin = {"__rate_interval", "__interval", "__range"}
    # The console's address stands in links only.
    defined = {v["name"] for v in dashboard["templating"]["list"]} - {"datasource", "console"}
    used = {name for q in queries(dashboard) for name in re.findall(r"\$(\w+)", q.expr)} - builtin

    assert defined == used
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            assert (True, ".+", 2) == (variable["multi"], variable["allValue"], variable["refresh"])


@each
def test_no_literal_job_or_instance(dashboard):
    """A dashboard serves any service: it names none."""
    assert [] == [q.where for q in queries(dashboard) if re.search(r'\b(job|instance)="', q.expr)]


@each
def test_windows_follow_the_picture(dashboard):
    """Rates look back `$__rate_interval`; another window has a reason."""
    windows = {w for q in queries(dashboard) for w in re.findall(r"\[([^\]]+)\]", q.expr)}

    assert windows <= {"$__rate_interval", *FIXED_WINDOWS}


@each
def test_counters_are_rated(dashboard):
    """The bare value of a counter is of use to nobody."""
    bare = re.compile(
        r"(?<!rate\()(?<!increase\()(?<![\w:])(?!llmvitals_gpu_count)[\w:]+(_total|_bucket|_count|_sum)\{"
    )
    # How many series there are is no value of theirs: the number of cores.
    number_of = re.compile(r"\bcount by \([^)]*\) \(\w+\{")

    # An annotation marks the step at which a counter rose; that is a difference, not a rate.
    rated = [
        q
        for q in queries(dashboard)
        if "offset $__interval" not in q.expr and not SINCE_START & set(q.where.split(" / "))
    ]
    assert [] == [q.where for q in rated if bare.search(number_of.sub("", q.expr))]


@each
def test_several_series_have_a_legend(dashboard):
    """Where lines can be several, each has a name made of its labels."""
    for panel in panels(dashboard):
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"], panel["title"]
            assert "__auto" not in {t["legendFormat"] for t in panel["targets"]}, panel["title"]


@each
def test_colours_are_named(dashboard):
    """Named colours fit both themes; a hex value fits one."""
    colors = re.findall(r"(?:fixedColor|color|iconColor)': '([^']+)'", str(dashboard))

    assert colors
    assert [] == [
        c
        for c in colors
        if not re.fullmatch(
            r"((super-)?light-|dark-|semi-dark-)?(green|yellow|orange|red|blue|purple|text)|transparent", c
        )
    ]
