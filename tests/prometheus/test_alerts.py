"""Each alert fires when it should and stays quiet when it should, by `promtool test rules`."""

import re
import shutil
import subprocess
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


def test_every_alert_is_tested_to_fire_and_to_stay_quiet():
    """An alert without both kinds of scenario fails the build; the Watchdog is never quiet."""
    fired, quiet = set(), set()
    for path in TESTS:
        for scenario in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for expectation in scenario.get("alert_rule_test", []):
                (fired if expectation["exp_alerts"] else quiet).add(expectation["alertname"])
    alerts = {
        rule["alert"]
        for path in RULES.glob("*/*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }

    assert sorted(alerts) == sorted(fired)
    assert sorted(alerts - {"Watchdog"}) == sorted(quiet)


def test_every_scenario_is_named_as_a_sentence_about_one_alert():
    """A failure names the behaviour that broke."""
    for path in TESTS:
        for scenario in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            names = {expectation["alertname"] for expectation in scenario.get("alert_rule_test", [])}

            assert len(names) <= 1
            assert re.match(rf"{''.join(names)}\b.* \w+", scenario["name"])
