"""What docker-compose.yml promises: pinned, unprivileged, on this machine only, watched, limited, without secrets."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from llmvitals_stack.settings import EXPORTER

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
#: What serves nothing cannot be asked how it is.
SERVES_NOTHING = {"load"}
#: A URL of a service's own loopback, or that address as redis-cli takes it.
OWN_PORT = r"(?:http://127\.0\.0\.1:|-h 127\.0\.0\.1 -p )(\d+)"
#: Where compose.yml's targets are found by Prometheus.
TARGETS = ROOT / "prometheus" / "targets"

each_service = pytest.mark.parametrize("name", SERVICES)


def settings():
    """The keys of .env.example."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return {line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")}


def variables(value):
    """Every ``${...}`` under *value*."""
    return re.findall(r"\$\{([^}]*)\}", yaml.safe_dump(value, width=10_000))


def test_specification():
    """The file keeps to the Compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run(
        [*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == result.returncode, result.stdout


@each_service
def test_image_is_pinned(name):
    """An image's tag names one version, down to the patch."""
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_base_image_is_pinned():
    """So do the Dockerfile's, and all its stages use the same one."""
    images = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))

    assert 1 == len(images)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", images.pop())


def test_our_image_has_our_version():
    """Our image is called by the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert {f"llmvitals:{version}"} == {service["image"] for service in SERVICES.values() if "build" in service}


@each_service
def test_unprivileged(name):
    """No root, no capabilities, no way to more, nothing writable but volumes and a small /tmp."""
    service = SERVICES[name]

    assert int(service["user"].partition(":")[0]) > 0
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert ["/tmp:size=64m,mode=1777,noexec,nosuid,nodev"] == service["tmpfs"]
    forbidden = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode", "container_name"}
    assert not forbidden & service.keys()


@each_service
def test_ports_on_loopback(name):
    """A port is published on 127.0.0.1 only, by a setting that must be there."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{LLMVITALS_[A-Z_]+_PORT:\?[^}]+\}:\d+", port)


@each_service
def test_limits_logs_and_restart(name):
    """Memory, processes and logs are limited, and what ends is started again."""
    service = SERVICES[name]

    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 256
    assert {"max-size", "max-file"} == service["logging"]["options"].keys()
    assert "unless-stopped" == service["restart"]


@each_service
def test_health(name):
    """Each service that serves is asked on its own loopback, by a program, not through a shell."""
    health = SERVICES[name]["healthcheck"]
    if name in SERVES_NOTHING:
        assert {"disable": True} == health
        return

    assert "CMD" == health["test"][0]
    assert health["test"][1] in {"python", "promtool", "amtool", "wget", "redis-cli"}
    assert re.search(OWN_PORT, " ".join(health["test"]))
    assert {"interval", "timeout", "retries", "start_period"} <= health.keys()


@each_service
def test_health_is_asked_at_the_port_that_is_served(name):
    """A service's health is asked at a port that it publishes, so that a changed port changes both."""
    if name in SERVES_NOTHING:
        return
    asked = re.search(OWN_PORT, " ".join(SERVICES[name]["healthcheck"]["test"]))[1]

    assert asked in {port.rpartition(":")[2] for port in SERVICES[name]["ports"]}


@each_service
def test_mounts(name):
    """What comes from this machine is read-only; what is kept is in a named volume that is declared."""
    for volume in SERVICES[name].get("volumes", []):
        source = re.sub(r"\$\{[^}]*\}", "SETTING", volume).split(":")
        if source[0].startswith((".", "/")):
            assert "ro" == source[-1], volume
        else:
            assert source[0] in COMPOSE["volumes"]
    assert not [volume for volume in SERVICES[name].get("volumes", []) if "docker.sock" in volume]


@each_service
def test_sources_of_mounts_exist(name):
    """A folder that is mounted is in the repository, or made by `make up`."""
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./") and not source.startswith(("./.run/", "./${")):
            assert (ROOT / source).is_dir(), source


@each_service
def test_secrets(name):
    """Tokens come as files that are declared; none is in an environment variable or an argument."""
    service = SERVICES[name]
    for secret in service.get("secrets", []):
        assert COMPOSE["secrets"][secret]["file"] == f".run/secrets/{secret}"
    text = yaml.safe_dump({key: service.get(key) for key in ("command", "environment")}, width=10_000)
    used = set(re.findall(r"/run/secrets/(\w+)", text))

    assert used <= set(service.get("secrets", []))
    assert not [name for name in variables(service) if re.search("TOKEN|PASSWORD|SECRET", name)]
    for key, value in service.get("environment", {}).items():
        assert value.startswith("/run/secrets/") or not re.search("TOKEN|PASSWORD|SECRET", key), key


def test_variables():
    """Every variable is a setting of .env.example, and has a default or a message that says what to do."""
    for text in variables(COMPOSE):
        assert re.fullmatch(r"LLMVITALS_[A-Z_]+(:\?is not set; make up writes \.env|:-\w*)", text), text
        assert re.match(r"\w+", text)[0] in settings()


def test_no_two_services_take_one_port():
    """Each published port has a setting of its own."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == len(set(ports)) == len({re.search(r"\{(\w+)", port)[1] for port in ports})


def test_targets_are_services():
    """Prometheus's targets for Compose are services, at ports that they serve."""
    served = {f"{name}:{port.rpartition(':')[2]}" for name in SERVICES for port in SERVICES[name].get("ports", [])}
    targets = [
        target
        for path in TARGETS.glob("*/compose.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))
        for target in group["targets"]
    ]

    assert {"companion:9464", "exporter:9465", "remediation:9466"} <= set(targets) <= served


def commands():
    """What runs in our containers, as module and arguments; the companion's is in its supervisor's file."""
    supervised = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    supervised.read(ROOT / "deploy" / "compose" / "supervisord.conf", encoding="utf-8")
    python, option, *companion = supervised["program:companion"]["command"].split()
    assert ("python", "-m") == (python, option)
    ours = {name: service["command"] for name, service in SERVICES.items() if "build" in service}
    return {**ours, "companion": companion}


@pytest.mark.parametrize("name", commands())
def test_commands_are_accepted(name):
    """Our programs know every flag that they are given."""
    module, *arguments = commands()[name]
    words = [argument for argument in arguments if not argument.startswith("-")]
    command = [sys.executable, "-m", module, *words, "--help"]
    help_ = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    for argument in arguments:
        if argument.startswith("--"):
            assert argument.partition("=")[0] in help_, argument


@pytest.mark.parametrize("mode", ["", "demo"])
def test_the_exporter_takes_what_env_says(mode):
    """What `.env` says to the exporter are settings that it knows, and what says nothing is as if it were not there."""
    given = SERVICES["exporter"]["environment"]
    said = {"LLMVITALS_EXPORTER_NVIDIA": mode}
    resolved = {
        key: re.sub(r"\$\{(\w+):-\}", lambda match: said.get(match[1], ""), text) for key, text in given.items()
    }
    result = subprocess.run(
        [sys.executable, "-m", "llmvitals_exporter", "--list"],
        env={**resolved, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert set(EXPORTER) == given.keys()
    assert (0, "") == (result.returncode, result.stderr)
    assert mode == resolved["LLMVITALS_EXPORTER_NVIDIA"]


def test_supervisor_is_shared_by_a_socket_only():
    """Remediation starts the companion by its supervisor's socket, in a volume that only these two share."""
    text = (ROOT / "deploy" / "compose" / "supervisord.conf").read_text(encoding="utf-8")
    (url,) = [argument for argument in SERVICES["remediation"]["command"] if "--supervisor-url" in argument]
    sharing = [name for name, service in SERVICES.items() if "supervisor:/run/llmvitals" in service.get("volumes", [])]

    assert f"file={url.removeprefix('--supervisor-url=unix://')}\n" in text
    assert "inet_http_server" not in text
    assert ["remediation", "companion"] == sharing


def test_image_holds_what_it_needs_and_no_more():
    """The image is made of the packages that the project names, and nothing gets in by accident."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.split("/")[0] for path in packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert "*" in ignored
    assert folders <= {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert folders <= set(re.findall(r"^COPY (\w+) ", dockerfile, re.MULTILINE))
    assert not {".env", ".run", ".git"} & {line.removeprefix("!") for line in ignored}


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_missing_setting_is_told(tmp_path):
    """Without .env, Compose says which setting is missing and what writes it."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin"}
    result = subprocess.run(
        ["docker-compose", "config"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 != result.returncode
    assert "make up writes .env" in result.stderr
