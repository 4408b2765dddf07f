"""
The checks: dashboard-linter's, under its names, and our own conventions.

Each takes a dashboard and yields where and what. What Grafana's own types say is in ``types.py``; what needs the
catalogues, and the grid, in ``tests/grafana``.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana.builder import thresholds
from grafana.builder.panels import TABLE_HEIGHT
from grafana.lint.load import ROOT, Dashboard, panels, targets, tree, variables
from grafana.lint.types import published_types, round_trip, unit_names
from prometheus.lint.load import calls, selectors, walk

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39
# A phone shows as many characters of a row's title in one line.
ROW_TITLE = 40
RATES = ("rate", "irate", "increase")
# Of a counter, these need no rate: whether it is there, how many there are, and when it changed.
WITHOUT_RATE = ("absent", "present_over_time", "changes", "timestamp", "count_over_time")

# In columns of the grid: a tile's title, and an axis beside its lines.
LEAST_WIDTH = 6
LEAST_WIDTHS = {"stat": 3, "gauge": 3}
LINES_OF_A_LIST = 4
CALCS = ["mean", "max", "lastNotNull"]

Found = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a dashboard, where in it, by which check."""

    check: str
    uid: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.uid} / {self.where}: {self.text} [{self.check}]"


# --- The head -----------------------------------------------------------------------------------------------------


def uneditable(dashboard: Dashboard) -> Found:
    if dashboard.get("editable") is not False:
        yield "head", "can be edited, and what is edited is lost at the next start"


def portable(dashboard: Dashboard) -> Found:
    for key in sorted({"__inputs", "__requires", "__elements", "id", "iteration"} & dashboard.keys()):
        yield "head", f"has {key}: a file that is provisioned must not"
    if "${DS_" in str(dashboard):
        yield "head", "names a data source of an export, ${DS_...}: it is not found when provisioned"
    if dashboard.get("schemaVersion") != SCHEMA_VERSION:
        yield "head", f"schemaVersion is not {SCHEMA_VERSION}, which Grafana 10.4 to 13 load"


def template_datasource(dashboard: Dashboard) -> Found:
    found = [v for v in dashboard["templating"]["list"] if v["type"] == "datasource"]
    if [(v["name"], v.get("label"), v.get("query")) for v in found] != [("datasource", "Data source", "prometheus")]:
        yield "variables", "there is not one variable `datasource`, labelled Data source, of Prometheus's kind"


def template_multi(dashboard: Dashboard) -> Found:
    for name in {"job", "instance"} & variables(dashboard).keys():
        variable = variables(dashboard)[name]
        if (variable.get("multi"), variable.get("includeAll"), variable.get("allValue")) != (True, True, ".+"):
            yield f"variable {name}", "does not take several values, or All is not `.+`"


def template_job(dashboard: Dashboard) -> Found:
    if "job" not in variables(dashboard):
        yield "variables", "there is no variable `job`"


def template_instance(dashboard: Dashboard) -> Found:
    if "instance" not in variables(dashboard):
        yield "variables", "there is no variable `instance`"


def template_label_promql(dashboard: Dashboard) -> Found:
    for name, variable in variables(dashboard).items():
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.+), *\w+\)", str(variable.get("definition")))
        try:
            tree(match[1] if match else "")
        except ValueError:
            yield f"variable {name}", f"{variable.get('definition')!r} is not label_values(<PromQL>, <label>)"


def template_reload(dashboard: Dashboard) -> Found:
    for name, variable in variables(dashboard).items():
        if variable["type"] == "query" and variable.get("refresh") != 2:
            yield f"variable {name}", "is not read again when the time range changes"


# --- Panels -------------------------------------------------------------------------------------------------------


def panel_ids(dashboard: Dashboard) -> Found:
    ids = Counter(panel.get("id") for panel in (*dashboard["panels"], *panels(dashboard)))
    rows = Counter(panel.get("id") for panel in dashboard["panels"] if panel["type"] != "row")
    for number, times in (ids - rows).items():
        if times > 1 or number is None:
            yield f"panel {number}", "has no id of its own: links lead to another panel"


def panel_datasource(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        owners = [panel, *panel.get("targets", [])] if panel["type"] != "text" else []
        if any(owner.get("datasource") != DATA_SOURCE for owner in owners):
            yield panel["title"], "asks another data source than ${datasource}"


def panel_title_description(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        if not panel.get("title"):
            yield f"panel {panel.get('id')}", "has no title"
        elif not re.search(r"\w.*\. Metrics?: (`[\w:]+`(, )?)+\.$", panel.get("description", ""), re.DOTALL):
            yield panel["title"], "its description does not end with the names of the metrics"


def panel_units(dashboard: Dashboard) -> Found:
    known = unit_names()
    for panel in panels(dashboard):
        field = panel.get("fieldConfig", {})
        units = [field.get("defaults", {}).get("unit")] if panel["type"] not in {"table", "text"} else []
        units += [p["value"] for o in field.get("overrides", []) for p in o["properties"] if p["id"] == "unit"]
        for unit in units:
            if unit not in known and not str(unit).startswith(("suffix:", "prefix:", "count:", "time:", "si:")):
                yield panel["title"], f"Grafana has no unit {unit!r}"
            elif str(unit).startswith("suffix: "):
                yield panel["title"], f"{unit!r} has two spaces before it: Grafana sets one itself"


def row_titles(dashboard: Dashboard) -> Found:
    for row in dashboard["panels"]:
        if row["type"] == "row" and len(row["title"]) > ROW_TITLE:
            yield row["title"], f"is longer than {ROW_TITLE} characters: on a phone it lies over the panels below"


def panel_no_targets(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        letters = [target.get("refId") for target in panel.get("targets", [])]
        if panel["type"] != "text" and not letters:
            yield panel["title"], "asks nothing"
        if len(set(letters)) < len(letters):
            yield panel["title"], "two of its queries have one letter: one of them is not drawn"


def threshold_of_an_alert(dashboard: Dashboard) -> Found:
    limits = [limit for limit in vars(thresholds).values() if _is_limit(limit)]
    known = [made(limit)["steps"] for limit in limits for made in (thresholds.steps, thresholds.line_steps)]
    for panel in panels(dashboard):
        field = panel.get("fieldConfig", {})
        found = [field.get("defaults", {}).get("thresholds")]
        found += [p["value"] for o in field.get("overrides", []) for p in o["properties"] if p["id"] == "thresholds"]
        for one in found:
            steps = one["steps"] if one else []
            if len(steps) > 1 and steps not in known:
                yield panel["title"], "changes colour at numbers that grafana/builder/thresholds.py ties to no alert"


def limit_in_view(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        custom = defaults.get("custom", {})
        if custom.get("thresholdsStyle", {}).get("mode", "off") == "off":
            continue
        nearest = min(step["value"] for step in defaults["thresholds"]["steps"] if step["value"] is not None)
        if defaults.get("max", custom.get("axisSoftMax", -math.inf)) < nearest:
            yield panel["title"], f"the line at {nearest:g} is out of sight on a calm day: no axisSoftMax reaches it"


def legend_room(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        legend = panel.get("options", {}).get("legend", {})
        if panel["type"] != "timeseries":
            continue
        if legend.get("displayMode") != "table":
            if len(panel["targets"]) > LINES_OF_A_LIST:
                yield panel["title"], f"a list names more than {LINES_OF_A_LIST} kinds of lines: make it a table"
        elif legend.get("calcs") != CALCS or panel["gridPos"]["h"] < TABLE_HEIGHT:
            yield panel["title"], f"a table has the columns {', '.join(CALCS)}, and a panel {TABLE_HEIGHT} high"


def room(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        least = LEAST_WIDTHS.get(panel["type"], LEAST_WIDTH)
        if panel["gridPos"]["w"] < least:
            yield panel["title"], f"is narrower than {least} columns: its words are cut"


def _is_limit(value: Any) -> bool:
    return isinstance(value, thresholds.Limit)


# --- Expressions --------------------------------------------------------------------------------------------------


def _parsed(dashboard: Dashboard) -> Iterator[tuple[str, str, Any]]:
    for where, expr in targets(dashboard):
        try:
            yield where, expr, tree(expr)
        except ValueError:
            continue  # target_promql tells it.


def target_promql(dashboard: Dashboard) -> Found:
    for where, expr in targets(dashboard):
        try:
            tree(expr)
        except ValueError as error:
            yield where, f"is no PromQL: {str(error).splitlines()[0]}"


def target_rate_interval(dashboard: Dashboard) -> Found:
    for where, expr in targets(dashboard):
        for window in re.findall(rf"\b(?:{'|'.join(RATES)})\s*\([^()\[\]]*\[([^\]]+)\]", expr):
            if window != "$__rate_interval":
                yield where, f"a rate over [{window}], not [$__rate_interval]"


def _target_label(label: str) -> Callable[[Dashboard], Found]:
    def check(dashboard: Dashboard) -> Found:
        if label not in variables(dashboard):
            return
        for where, expr in targets(dashboard):
            for selector in re.findall(r"[\w:]+\{[^}]*\}", expr):
                if f'{label}=~"${label}"' not in selector:
                    yield where, f'{selector.partition("{")[0]} is not asked with {label}=~"${label}"'

    return check


def target_counter_agg(dashboard: Dashboard) -> Found:
    for where, _, root in _parsed(dashboard):
        rated = {id(s) for call in calls(root, *RATES, *WITHOUT_RATE) for s in selectors(call)}
        counted = {
            id(s)
            for node in walk(root)
            if type(node).__name__ == "AggregateExpr" and str(node.op) in {"count", "group"}
            for s in selectors(node)
        }
        for selector in selectors(root):
            if str(selector.name).endswith("_total") and id(selector) not in rated | counted:
                yield where, f"{selector.name} is a counter outside rate and increase"


# --- Links --------------------------------------------------------------------------------------------------------


def links_resolve(dashboard: Dashboard, uids: Iterable[str] = (), tags: Iterable[str] = ()) -> Found:
    known, tagged = set(uids) | {dashboard["uid"]}, set(tags) | set(dashboard["tags"])
    for where, link in _links(dashboard):
        if link.get("type") == "dashboards":
            for tag in set(link["tags"]) - tagged:
                yield where, f"no dashboard has the tag {tag}"
            if not link.get("keepTime"):
                yield where, "the chosen time is lost on the way"
            continue
        url = str(link.get("url"))
        if match := re.match(r"/d/([\w-]+)", url):
            if match[1] not in known:
                yield where, f"there is no dashboard {match[1]}"
        elif match := re.fullmatch(r"\$\{console:raw\}/runbooks/(\w*)", url):
            if match[1] and not (ROOT / "docs" / "runbooks" / f"{match[1]}.md").is_file():
                yield where, f"there is no docs/runbooks/{match[1]}.md"
        else:
            yield where, f"{url!r} leads to no dashboard of ours and to no runbook"


def _links(dashboard: Dashboard) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for link in dashboard.get("links", []):
        yield "links", link
    for panel in panels(dashboard):
        field = panel.get("fieldConfig", {})
        found = [*panel.get("links", []), *field.get("defaults", {}).get("links", [])]
        for override in field.get("overrides", []):
            for its in override["properties"]:
                found += its["value"] if its["id"] == "links" else []
        for link in found:
            yield panel["title"], link


# --- All of them --------------------------------------------------------------------------------------------------

CHECKS: Mapping[str, Callable[[Dashboard], Found]] = {
    "uneditable-dashboard": uneditable,
    "portable": portable,
    "template-datasource": template_datasource,
    "template-job": template_job,
    "template-instance": template_instance,
    "template-multi": template_multi,
    "template-label-promql": template_label_promql,
    "template-on-time-change-reload": template_reload,
    "panel-id": panel_ids,
    "panel-datasource": panel_datasource,
    "panel-title-description": panel_title_description,
    "panel-units": panel_units,
    "row-title": row_titles,
    "panel-no-targets": panel_no_targets,
    "panel-threshold": threshold_of_an_alert,
    "panel-limit-in-view": limit_in_view,
    "panel-legend": legend_room,
    "panel-room": room,
    "target-promql": target_promql,
    "target-rate-interval": target_rate_interval,
    "target-job": _target_label("job"),
    "target-instance": _target_label("instance"),
    "target-counter-agg": target_counter_agg,
    "types": published_types,
    "round-trip": round_trip,
}


def problems(
    dashboards: Sequence[Dashboard], checks: Mapping[str, Callable[[Dashboard], Found]] = CHECKS
) -> list[Problem]:
    """What all checks find, and what only shows in all dashboards together."""
    found = [
        Problem(name, dashboard["uid"], where, text)
        for dashboard in dashboards
        for name, check in checks.items()
        for where, text in check(dashboard)
    ]
    uids = Counter(dashboard["uid"] for dashboard in dashboards)
    tags = {tag for dashboard in dashboards for tag in dashboard["tags"]}
    for dashboard in dashboards:
        found += [Problem("links", dashboard["uid"], *one) for one in links_resolve(dashboard, uids, tags)]
    found += [Problem("unique-uid", uid, "head", "is the uid of two dashboards") for uid, n in uids.items() if n > 1]
    return list(dict.fromkeys(found))
