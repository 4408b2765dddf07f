"""Each alert fires when it should and stays quiet when it should, by `promtool test rules`."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "prometheus" / "rules"
TESTS = sorted(HERE.glob("*.test.yml"))


@pytest.fixture(scope="module")
def rules_without_annotations(tmp_path_factory):
    """A copy in which only behaviour is left: `promtool` would otherwise compare every word of every annotation."""
    folder = tmp_path_factory.mktemp("rules")
    for source in RULES.glob("*/*.yml"):
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        for group in content["groups"]:
            for rule in group["rules"]:
                rule.pop("annotations", None)
        target = folder / source.relative_to(RULES)
        target.parent.mkdir(exist_ok=True)
        target.write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.removesuffix(".test.yml"))
def test_rules_behave_as_their_promtool_tests_say(path, rules_without_annotations):
    """Every scenario of the file holds."""
    copy = rules_without_annotations / path.name
    shutil.copyfile(path, copy)

    finished = subprocess.run(["promtool", "test", "rules", copy], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stdout + finished.stderr


@cache
def _scenarios():
    # All as text: a YAML 1.1 reader takes the notation `0x20` for a number.
    loaded = (yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) for path in TESTS)
    return [scenario for content in loaded for scenario in content["tests"] if "alert_rule_test" in scenario]


@cache
def _severities():
    found = {}
    for path in RULES.glob("*/*.yml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])
    return found


# Their rules are LLMErrorBudgetBurn's with another ratio, written by one function: what a restart does is tested there.
LIKE_ERROR_BUDGET_BURN = {"LLMLatencyBudgetBurn", "LLMTimeToFirstTokenBudgetBurn", "LLMVoiceBudgetBurn"}


@pytest.mark.parametrize("alert", sorted(_severities()))
def test_every_alert_fires_stays_quiet_and_outlives_a_restart_and_a_missed_scrape(alert):
    """
    Of each alert there are scenarios named `<alert> ...`: in some it fires, with each of its severities; in one it
    `stays quiet`; and one each tells of a restart and of missed scrapes, shows them, and is quiet.
    """
    its = [scenario for scenario in _scenarios() if scenario["name"].split()[0] == alert]
    fired = {
        found["exp_labels"]["severity"]
        for scenario in its
        for expectation in scenario["alert_rule_test"]
        for found in expectation["exp_alerts"]
    }
    quiet = [s for s in its if s["name"].startswith(f"{alert} stays quiet")]
    gaps = [s for s in its if any(re.search(r"stale|_|\b0x?\d* ", one["values"]) for one in s["input_series"])]

    assert _severities()[alert] <= fired
    if alert == "Watchdog":  # It has nothing to stay quiet about.
        return
    assert [e for scenario in quiet for e in scenario["alert_rule_test"] if not e["exp_alerts"]]
    if alert not in LIKE_ERROR_BUDGET_BURN:
        assert [s["name"] for s in gaps if "restart" in s["name"]]
        assert [s["name"] for s in gaps if re.search(r"miss|scrapes are lost", s["name"])]


def test_every_scenario_is_named_as_a_sentence_about_one_alert():
    """A failure names the behaviour that broke."""
    for path in TESTS:
        for scenario in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            names = {expectation["alertname"] for expectation in scenario.get("alert_rule_test", [])}

            assert len(names) <= 1
            assert re.match(rf"{''.join(names)}\b.* \w+", scenario["name"])
