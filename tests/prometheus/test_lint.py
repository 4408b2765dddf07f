"""Rules are checked against the catalogues and our own conventions, without a Prometheus."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus.lint.exclusions import exclusions
from tests.prometheus.known_metrics import PROMETHEUS, Series, emitted
from tests.prometheus.lint import OVER_COUNTERS, read

ROOT = PROMETHEUS.parent
SEVERITIES = {"critical", "warning", "info", "none"}
COMPONENTS = {"llm", "app", "inference", "host", "gpu", "exporter", "stack"}
GROUPS = [
    (path, group)
    for path in sorted((PROMETHEUS / "rules").glob("*/*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
]
RULES = [(path, rule) for path, group in GROUPS for rule in group["rules"]]
ALERTS = [rule for _, rule in RULES if "alert" in rule]
# What fires without a value that has gone wrong.
ALWAYS_FIRING = {"Watchdog"}


def name_of(rule):
    extra = rule.get("labels", {})
    return "-".join([rule.get("alert") or rule["record"], *(str(extra[k]) for k in sorted(extra) if k != "component")])


@pytest.fixture(scope="module")
def known():
    """All series that a rule may read: what is emitted, and what other rules record from it."""
    found = emitted()
    # Prometheus's own, of all alerts.
    found["ALERTS"] = Series(
        counter=False, labels=frozenset({"alertname", "alertstate", "severity", "job", "instance"})
    )
    waiting = [(rule, read(rule["expr"], {}).metrics - {rule["record"]}) for _, rule in RULES if "record" in rule]
    while waiting:
        # A rule after all those whose series it reads, its own name aside: that is another source's.
        unknown = {rule["record"] for rule, _ in waiting}
        at = next(at for at, (_, needed) in enumerate(waiting) if not needed & unknown)
        rule, _ = waiting.pop(at)
        labels = read(rule["expr"], found).labels | set(rule.get("labels", {}))
        earlier = found[rule["record"]].labels if rule["record"] in found else frozenset()
        found[rule["record"]] = Series(counter=False, labels=earlier | labels)
    return found


@pytest.mark.parametrize("rule", [rule for _, rule in RULES], ids=name_of)
def test_every_expression_reads_what_exists_and_is_sound(rule, known):
    """Names and labels exist, counters are rated, quantiles keep job and le, denominators cannot be zero."""
    excused = any(entry.excuses("promql/counter", rule.get("alert", "")) for entry in exclusions())
    mistakes = [
        mistake for mistake in read(rule["expr"], known).mistakes if not (excused and "is a counter:" in mistake)
    ]

    assert mistakes == []


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_alert_compares(rule, known):
    """An alert without a comparison fires on existence."""
    assert rule["alert"] in ALWAYS_FIRING or read(rule["expr"], known).compares


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_alert_says_how_bad_and_of_what(rule):
    """Severity and component come from closed sets, and no label changes with the value."""
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["labels"]["component"] in COMPONENTS
    assert set(rule["labels"]) <= {"severity", "component", "remediate", "condition", "sloth_severity"}
    assert "{{" not in "".join(rule["labels"].values())
    assert rule["labels"].get("remediate", "true") == "true"


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_alert_is_annotated_for_a_person(rule, known):
    """A summary without values; a description with value, limit and where to look first; a runbook; a dashboard."""
    annotations = rule["annotations"]
    labels = read(rule["expr"], known).labels | set(rule["labels"])

    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{" not in annotations["summary"]
    assert annotations["summary"].endswith(".")
    assert re.search(r"\{\{ \$value \| humanize\w* \}\}", annotations["description"])
    assert re.search(r"\b(limit|expected|target|lower|times|always fires)\b", annotations["description"])
    assert re.search(r"[Ff]irst check", annotations["description"])
    assert set(re.findall(r"\$labels\.(\w+)", "".join(annotations.values()))) <= labels
    assert annotations["runbook_url"] == f"/runbooks/{rule['alert']}"


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_alert_has_its_runbook(rule):
    """The file is there, and has the five parts that a person looks for."""
    text = (ROOT / "docs" / f"{rule['annotations']['runbook_url']}.md".lstrip("/")).read_text(encoding="utf-8")

    assert text.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Meaning",
        "Impact",
        "Look here",
        "Do this",
        "What remediation already did",
    ]


def test_every_runbook_belongs_to_an_alert():
    """An alert that was renamed takes its runbook along."""
    files = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}

    assert {rule["alert"] for rule in ALERTS} == files - {"README"}


def test_runbooks_name_metrics_that_exist(known):
    """At three in the morning nobody guesses what a metric is called now."""
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known} | set(known)
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"\b(?:llmvitals_|llm:|process_|gen_ai_client|alertmanager_)[a-z0-9_:]+", text))

        assert named <= families, path.name


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_dashboard_link_leads_to_a_dashboard(rule):
    """The link's path names a dashboard that exists, by its uid, and what it chooses there can be chosen."""
    url = rule["annotations"]["dashboard_url"]
    uid = re.match(r"/d/([\w-]+)(\?|$)", url)[1]
    dashboard = json.loads((ROOT / "grafana" / "dashboards" / f"{uid}.json").read_text(encoding="utf-8"))

    assert set(re.findall(r"var-(\w+)=", url)) <= {variable["name"] for variable in dashboard["templating"]["list"]}


def test_recorded_names_have_level_metric_and_operation():
    """`llm:metric:operation` or `job:metric:operation`; objectives have Sloth's names."""
    for _, rule in RULES:
        if "record" in rule:
            assert re.fullmatch(r"llm:[a-z_]+:[a-z0-9]+|(slo|job):[a-z_]+:[a-z0-9_]+|sloth_slo_info", rule["record"])
            assert "_total" not in rule["record"]


@pytest.mark.parametrize("rule", [rule for _, rule in RULES], ids=name_of)
def test_windows_of_rates_hold_several_samples(rule):
    """At least four scrapes of the slowest scrape interval (5 s) fit into each rate's window."""
    windows = re.findall(rf"(?:{'|'.join(OVER_COUNTERS)})\([^()]*\[(\d+)(s|m|h)\]", rule["expr"])

    assert all(int(number) * {"s": 1, "m": 60, "h": 3600}[unit] >= 20 for number, unit in windows)


def test_alerts_for_remediation_on_gauges_wait_for_nothing():
    """Their handler is to start within ten seconds of the fault."""
    waits = {
        rule["alert"]: rule.get("for")
        for rule in ALERTS
        if "remediate" in rule["labels"] and not re.search(r"rate\(|increase\(|offset|up(\{.*\})? ==", rule["expr"])
    }

    assert waits == {"LLMUserProfilesHigh": None, "LLMMemoryAboveBaseline": None}


def test_the_configuration_and_rules_pass_promtool():
    """Prometheus 2.42 takes them, its own lint included."""
    files = sorted((PROMETHEUS / "rules").glob("*/*.yml"))
    config = ["promtool", "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"]
    rules = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *files]

    for command in (config, rules):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_scrape_job_is_limited_and_found_through_files():
    """A label that runs away cannot take Prometheus down; targets are added without touching the configuration."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    limits = {
        "sample_limit",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "body_size_limit",
        "target_limit",
    }

    assert config["global"]["external_labels"] == {}
    for job in config["scrape_configs"]:
        folder = Path(job["file_sd_configs"][0]["files"][0]).parent
        assert limits <= set(job)
        assert (PROMETHEUS / folder / "compose.yml").is_file()


# --- The lint itself --------------------------------------------------------------------------------------------------

SAMPLE = {
    "c_total": Series(counter=True, labels=frozenset({"job", "instance", "kind"})),
    "h_bucket": Series(counter=True, labels=frozenset({"job", "instance", "le"})),
    "g": Series(counter=False, labels=frozenset({"job", "instance"})),
}


@pytest.mark.parametrize(
    ("expression", "mistake"),
    [
        ("nobody > 1", "nobody is emitted by nobody"),
        ('g{kind="x"} > 1', "g has no label kind"),
        ("sum by (kind) (g) > 1", "by (kind) names kind, which is not there"),
        ("c_total > 1", "c_total is a counter: read its rate or increase"),
        ("rate(g[1m]) > 1", "g is a gauge inside a function for counters"),
        ("deriv(c_total[1m]) > 1", "c_total is a counter inside a function for gauges"),
        ('rate(h_bucket{le="2"}[1m]) > 1', 'le="2" matches nothing on Prometheus 3, which says 2.0'),
        ('g{job=~"app"} > 1', "job=~'app' has no pattern: use ="),
        (
            "histogram_quantile(0.9, sum by (le) (rate(h_bucket[1m]))) > 1",
            "a quantile needs buckets summed by (job, ..., le)",
        ),
        ("g / g > 1", "a denominator that may be zero: filter it with > 0"),
        ("g > on (kind) g", "on (kind): one side has no such label"),
        ('label_replace(g, "x", "$1", "kind", "(.*)") > 1', "label_replace reads kind, which is not there"),
    ],
)
def test_the_lint_finds_a_planted_mistake(expression, mistake):
    """Each check is able to fail."""
    assert mistake in read(expression, SAMPLE).mistakes


def test_the_lint_follows_labels_through_an_expression():
    """What an annotation may name is what the expression's result carries."""
    quantile = "histogram_quantile(0.9, sum by (job, le) (rate(h_bucket[1m]))) > on (job) max by (job) (g)"

    assert read(quantile, SAMPLE).labels == {"job"}
    assert read('label_replace(g, "x", "$1", "job", "(.*)")', SAMPLE).labels == {"job", "instance", "x"}
    assert read("sum without (instance) (rate(c_total[1m]))", SAMPLE).labels == {"job", "kind"}
