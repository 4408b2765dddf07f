"""The promtool tests know each alert's numbers: with another number, one of them fails."""

import re
import subprocess
from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "prometheus" / "rules"
# A comparison with a number. `>=` guards against too little traffic; the others are where the alert begins.
NUMBER = re.compile(r"(?P<sign>>=|>|<)\s(?P<number>\d+(?:\.\d+)?(?:e\d+)?)\b(?!\])")
LOOSER = {">=": 0.001, ">": 0.8, "<": 1.25}
TIGHTER = {">": 1.3, "<": 0.75}
# Fewer than one of what is counted is none, whatever the fraction.
SAME = "PrometheusNotConnectedToAlertmanager (critical): < 1 -> < 0.75"


def alert_rules():
    """The alerts that need no other rule's series, by name; several severities are several rules."""
    found = {}
    for path in sorted((RULES / "alerts").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                rule.pop("annotations")
                found.setdefault(rule["alert"], []).append((group.get("interval", "1m"), rule))
    return {name: rules for name, rules in found.items() if not any("llm:" in rule["expr"] for _, rule in rules)}


def scenarios():
    """Each alert's scenarios, with their file's evaluation interval."""
    found = {}
    for path in sorted(HERE.glob("*.test.yml")):
        # All as text: a YAML 1.1 reader takes the notation `0x20` for a number.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        for scenario in content["tests"]:
            for alert in {expectation["alertname"] for expectation in scenario.get("alert_rule_test", [])}:
                found.setdefault((alert, content["evaluation_interval"]), []).append(scenario)
    return found


def mutants(name, rules, factors):
    """The rules with one number changed, for each number; with a word for each."""
    for at, (_, rule) in enumerate(rules):
        for match in NUMBER.finditer(rule["expr"]):
            number = float(match["number"])
            if number == 0 or match["sign"] not in factors:
                continue
            other = f"{match['sign']} {number * factors[match['sign']]:.10g}"
            changed = dict(rule, expr=rule["expr"][: match.start()] + other + rule["expr"][match.end() :])
            severity = rule["labels"]["severity"]
            yield (
                f"{name} ({severity}): {match[0]} -> {other}",
                [*rules[:at], (rules[at][0], changed), *rules[at + 1 :]],
            )


def quiet(scenario):
    return not all(expectation["exp_alerts"] for expectation in scenario["alert_rule_test"])


def fires(scenario):
    return any(expectation["exp_alerts"] for expectation in scenario["alert_rule_test"])


def survivors(folder, factors, of_use):
    """The mutants that the tests of their alert let live, by one run of promtool over all of them."""
    names, tests, by_alert = {}, [], scenarios()
    for name, rules in alert_rules().items():
        for words, changed in mutants(name, rules, factors):
            number = len(names)
            groups = [{"name": str(i), "interval": interval, "rules": [r]} for i, (interval, r) in enumerate(changed)]
            (folder / f"{number}.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
            names[number] = words
            for (alert, interval), all_its in by_alert.items():
                its = [scenario for scenario in all_its if of_use(scenario)]
                if alert == name and its:
                    path = folder / f"{number}-{interval}.test.yml"
                    content = {"rule_files": [f"{number}.yml"], "evaluation_interval": interval, "tests": its}
                    path.write_text(yaml.safe_dump(content), encoding="utf-8")
                    tests.append(path.name)
    finished = subprocess.run(
        ["promtool", "test", "rules", *tests], cwd=folder, capture_output=True, text=True, check=False
    )
    failed = {int(n) for n in re.findall(r"Unit Testing:  (\d+)-\S+\n(?!  SUCCESS)", finished.stdout)}
    ran = {int(n) for n in re.findall(r"Unit Testing:  (\d+)-", finished.stdout)}
    assert ran == set(names), finished.stderr[-2000:]
    return [words for number, words in names.items() if number not in failed]


def test_no_alert_could_begin_earlier_unnoticed(tmp_path):
    """A threshold a fifth nearer, or no guard against little traffic, makes a scenario that stays quiet fire."""
    assert [] == survivors(tmp_path, LOOSER, quiet)


def test_no_alert_could_begin_later_unnoticed(tmp_path):
    """A threshold a third further makes a scenario that fires stay quiet."""
    assert [SAME] == survivors(tmp_path, TIGHTER, fires)
