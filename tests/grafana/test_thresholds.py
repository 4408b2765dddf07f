import math
import re

import pytest
import yaml
from grafana.builder.thresholds import BURN_RATE, LIMITS, USER_PROFILES, Limit, line_steps, steps
from tests.grafana.queries import ROOT


def _expressions(alert: str) -> dict[str, list[str]]:
    """An alert's expressions by severity."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "prometheus" / "rules").rglob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == alert:
                    found.setdefault(rule["labels"]["severity"], []).append(rule["expr"])
    return found


def _number(text: str) -> str:
    return rf"(?<![\d.]){re.escape(text)}(?![\d.])"


@pytest.mark.parametrize("limit", [x for x in LIMITS if x is not USER_PROFILES], ids=str)
def test_a_panel_changes_colour_where_the_alert_fires(limit):
    """The number stands in the alert's own expression, behind its comparison, at the same severity."""
    rules = _expressions(limit.alert)
    sign = "<" if limit.low else ">"

    for severity, number in (("warning", limit.warning), ("critical", limit.critical)):
        if number is not None:
            assert any(re.search(rf"{sign} {_number(f'{number:.15g}')}", e) for e in rules[severity]), rules


def test_user_profiles_are_judged_by_the_applications_limit():
    """The alert compares with the limit, and at its critical level with five times it; so does the tile."""
    rules = _expressions(USER_PROFILES.alert)

    assert (1, 5) == (USER_PROFILES.warning, USER_PROFILES.critical)
    assert any(re.search(r"> on \(job, instance\) max", e) for e in rules["warning"])
    assert any(re.search(r"> on \(job, instance\) 5 \* max", e) for e in rules["critical"])


def test_a_burn_rate_is_red_where_a_page_begins():
    """The rules multiply the number with the budget of each objective."""
    rules = _expressions(BURN_RATE.alert)

    assert all(f"> ({BURN_RATE.critical:g} * " in e for e in rules["critical"])


def test_steps_of_a_falling_limit():
    """Below the number is yellow, from it on green."""
    assert [
        {"color": "yellow", "value": None},
        {"color": "green", "value": 0.7},
    ] == steps(Limit("X", warning=0.7, low=True))["steps"]


def test_lines_of_a_falling_limit_have_the_colours_below_them():
    """Grafana takes the colour below a line where the last step is transparent, and would draw it green otherwise."""
    assert [
        {"color": "red", "value": None},
        {"color": "yellow", "value": 0.05},
        {"color": "transparent", "value": 0.1},
    ] == line_steps(Limit("X", warning=0.1, critical=0.05, low=True))["steps"]


def test_a_limit_that_is_only_reached_stays_green():
    """Ten profiles of ten is what a registry with a limit looks like on a good day."""
    yellow = steps(Limit("X", warning=10, reached_is_well=True))["steps"][1]

    assert math.nextafter(10, 11) == yellow["value"]


def test_without_a_limit_there_is_no_colour():
    """A panel without an alert passes no judgement."""
    assert ["text"] == [step["color"] for step in steps(None)["steps"]]
