"""What `make up` writes under `.run`."""

import json
import stat
from pathlib import Path

import pytest
import yaml

from llmvitals_stack import compose, render
from llmvitals_stack.programs import Tools, programs
from llmvitals_stack.settings import SettingsError, ensure, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="settings")
def _settings(tmp_path):
    for name in ("prometheus", "alertmanager", "grafana", "remediation", ".env.example"):
        (tmp_path / name).symlink_to(ROOT / name)
    ensure(tmp_path)
    return load(tmp_path)


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.rglob("*") if path.is_file()}


def test_every_scrape_job_finds_a_folder_with_targets(settings):
    """Each file pattern in prometheus.yml meets a file, or Prometheus complains of it for ever."""
    render.prometheus_folder(settings)

    folder = settings.run / "prometheus"
    configuration = yaml.safe_load((folder / "prometheus.yml").read_text())
    patterns = [
        pattern
        for job in configuration["scrape_configs"]
        for discovery in job["file_sd_configs"]
        for pattern in discovery["files"]
    ]
    assert [] == [pattern for pattern in patterns if not list(folder.glob(pattern))]


@pytest.mark.parametrize("there", [True, False])
def test_what_draws_the_dashboards_is_watched_where_it_runs(settings, there):
    """Grafana or the viewer, at the port of both; without either there is nobody to be missed."""
    render.prometheus_folder(settings, drawn=there)

    targets = yaml.safe_load((settings.run / "prometheus" / "targets" / "dashboards" / "native.yml").read_text())
    group = {"targets": [f"127.0.0.1:{settings.port('GRAFANA')}"], "labels": {"job": "dashboards"}}
    assert [group] * there == targets


def test_dashboards_lead_to_the_console_at_the_port_that_env_says(settings):
    """Grafana gets every dashboard; nothing but the console's address in it is another."""
    settings = named(settings, REMEDIATION_PORT="9876")
    folder = render.dashboards_folder(settings)

    source = ROOT / "grafana" / "dashboards"
    assert sorted(path.name for path in source.glob("*.json")) == sorted(path.name for path in folder.iterdir())
    for path in folder.iterdir():
        expected = json.loads((source / path.name).read_text())
        changed = json.loads(path.read_text())
        (console,) = [v for v in changed["templating"]["list"] if v["name"] == "console"]
        url = "http://127.0.0.1:9876"
        assert (url, url, [url]) == (
            console["query"],
            console["current"]["value"],
            [option["value"] for option in console["options"]],
        )
        for dashboard in (expected, changed):
            dashboard["templating"]["list"] = [v for v in dashboard["templating"]["list"] if v["name"] != "console"]
        assert expected == changed


def named(settings, **values):
    """The settings with these LLM servers."""
    keys = {f"LLMVITALS_{name}": value for name, value in values.items()}
    return type(settings)(settings.root, {**settings.values, **keys})


def test_no_llm_server_is_scraped_until_one_is_named(settings):
    """As it comes, the file of LLM servers is there and empty."""
    render.prometheus_folder(settings)

    assert [] == yaml.safe_load((settings.run / "prometheus" / "targets" / "env" / "llm-servers.yml").read_text())


def test_llm_servers_are_scraped_by_their_engines_name(settings):
    """Each engine's servers are a group with its job; a container finds this machine's under another name."""
    settings = named(settings, VLLM_TARGETS="127.0.0.1:8000, gpu-box:8000", TGI_TARGETS="[::1]:3000,localhost:3001")
    render.prometheus_folder(settings)
    native = yaml.safe_load((settings.run / "prometheus" / "targets" / "env" / "llm-servers.yml").read_text())
    contained = yaml.safe_load((render.compose_targets_folder(settings) / "llm-servers.yml").read_text())

    assert [
        {"targets": ["127.0.0.1:8000", "gpu-box:8000"], "labels": {"job": "vllm"}},
        {"targets": ["[::1]:3000", "localhost:3001"], "labels": {"job": "tgi"}},
    ] == native
    assert [
        ["host.docker.internal:8000", "gpu-box:8000"],
        ["host.docker.internal:3000", "host.docker.internal:3001"],
    ] == [group["targets"] for group in contained]


def test_the_exporter_is_told_what_env_says(settings):
    """Natively its variables have it, the demo's server first; in containers, Compose's own interpolation."""
    settings = named(settings, EXPORTER_NVIDIA="demo", EXPORTER_KOBOLDCPP="http://gpu-box:5001")
    tools = Tools(prometheus=Path("prometheus"), alertmanager=Path("alertmanager"))
    exporter = next(program for program in programs(settings, tools) if program.name == "exporter")
    demo = f"http://127.0.0.1:{settings.port('FAULTY_LLM')}"

    assert {
        "LLMVITALS_EXPORTER_NVIDIA": "demo",
        "LLMVITALS_EXPORTER_NVIDIA_DEMO_FAULTS": str(settings.run / "gpu-faults"),
        "LLMVITALS_EXPORTER_AMD": "auto",
        "LLMVITALS_EXPORTER_KOBOLDCPP": f"{demo},http://gpu-box:5001",
    } == exporter.environment
    assert not [argument for argument in exporter.command if "koboldcpp" in argument or "nvidia" in argument]


def test_compose_is_given_addresses_that_containers_reach(settings):
    """What names this machine's loopback in `.env` names this machine in a container; all else stays as it is."""
    settings = named(settings, EXPORTER_OLLAMA="http://localhost:11434,http://gpu-box:1/127.0.0.1")

    assert {"LLMVITALS_EXPORTER_OLLAMA": "http://host.docker.internal:11434,http://gpu-box:1/127.0.0.1"} == (
        compose._environment(settings)
    )


def test_the_second_time_touches_nothing(settings):
    """Prometheus watches the folder: what is right already is left alone, so no target is lost for a moment."""
    render.prometheus_folder(settings)
    before = snapshot(settings.run / "prometheus")

    render.prometheus_folder(settings)

    assert before == snapshot(settings.run / "prometheus")


def test_a_rule_that_was_removed_goes(settings):
    """A file that the checkout has no more does not stay in force."""
    render.prometheus_folder(settings)
    stale = settings.run / "prometheus" / "rules" / "alerts" / "gone.yml"
    stale.write_text("groups: []\n")

    render.prometheus_folder(settings)

    assert not stale.exists()


def test_secrets_and_receivers_are_private(settings):
    """Only their owner reads the tokens and Alertmanager's file."""
    render.secret_files(settings)
    path = render.alertmanager_file(
        settings, remediation_url="http://127.0.0.1:1", ingest_token_file="/x", version=None
    )

    private = [settings.secret_file(name) for name in ("admin", "ingest", "agent")]
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in [path, *private]}


def test_a_receivers_mistake_is_one_of_the_settings(settings):
    """A bad mail server is told as a mistake of `.env`, before anything starts."""
    settings = type(settings)(settings.root, {**settings.values, "LLMVITALS_SMTP_HOST": "no port here"})

    with pytest.raises(SettingsError) as caught:
        render.alertmanager_file(settings, remediation_url="http://127.0.0.1:1", ingest_token_file="/x", version=None)

    assert "LLMVITALS_SMTP" in str(caught.value)


def test_grafana_is_told_this_machines_prometheus(settings):
    """The provisioned data source has the port of `.env`, not Compose's host name."""
    render.grafana_folder(settings)

    texts = "".join(text for _, text in snapshot(settings.run / "grafana").values())
    assert settings.url("PROMETHEUS") in texts
    assert "http://prometheus:9090" not in texts
