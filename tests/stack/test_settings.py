"""`.env`: every mistake is told at once, secrets are made and kept private."""

import shutil
import stat
from pathlib import Path

import pytest

from llmvitals_stack.settings import SECRETS, SettingsError, ensure, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="root")
def _root(tmp_path):
    shutil.copy(ROOT / ".env.example", tmp_path)
    policy = tmp_path / "remediation" / "policies" / "demo.yml"
    policy.parent.mkdir(parents=True)
    policy.write_text("")
    return tmp_path


def change(root, key, value):
    path = root / ".env"
    lines = [f"{key}={value}" if line.startswith(f"{key}=") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def mistakes(root):
    with pytest.raises(SettingsError) as caught:
        load(root)
    return caught.value.mistakes


def test_the_first_time_makes_every_secret_and_only_the_owner_reads_them(root):
    """A new `.env` has mode 0600 and a different, long secret in each place."""
    made = ensure(root)

    settings = load(root)
    assert made
    assert 0o600 == stat.S_IMODE((root / ".env").stat().st_mode)
    assert len(SECRETS) == len({settings[key] for key in SECRETS})


def test_the_second_time_changes_nothing(root):
    """What is set stays; nothing is printed as new."""
    ensure(root)
    before = (root / ".env").read_bytes()

    assert not ensure(root)
    assert before == (root / ".env").read_bytes()


def test_a_users_own_values_and_comments_survive(root):
    """An existing `.env` is completed, not replaced."""
    (root / ".env").write_text("# mine\nLLMVITALS_PROMETHEUS_PORT=19090\n")

    ensure(root)

    assert (root / ".env").read_text().startswith("# mine\nLLMVITALS_PROMETHEUS_PORT=19090\n")
    assert 19090 == load(root).port("PROMETHEUS")


@pytest.mark.parametrize("port", ["0", "65536", "abc", "", "-1", "9090.0", "9_090", "٣٠٠٠", "9090 9091"])
def test_a_bad_port_is_told_with_its_line(root, port):
    """What is no port is named, with the line and what a port is."""
    ensure(root)
    change(root, "LLMVITALS_PROMETHEUS_PORT", port)

    (told,) = mistakes(root)
    assert "line " in told
    assert "LLMVITALS_PROMETHEUS_PORT" in told
    assert "1 to 65535" in told


def test_all_mistakes_are_told_at_once(root):
    """Five mistakes make five sentences."""
    ensure(root)
    change(root, "LLMVITALS_PROMETHEUS_PORT", "many")
    change(root, "LLMVITALS_ALERTMANAGER_PORT", "3000")
    change(root, "LLMVITALS_MODE", "podman")
    change(root, "LLMVITALS_POLICY", "nowhere.yml")
    with (root / ".env").open("a") as file:
        file.write("LLMVITALS_COLOUR=blue\n")

    told = mistakes(root)
    assert 5 == len(told)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("LLMVITALS_VLLM_TARGETS", "http://127.0.0.1:8000/metrics", "give addresses like 127.0.0.1:8000"),
        ("LLMVITALS_SGLANG_TARGETS", "gpu-box", "'gpu-box'"),
        ("LLMVITALS_LLAMACPP_TARGETS", "gpu-box:0", "'gpu-box:0'"),
        ("LLMVITALS_TGI_TARGETS", "a:1, b:65536", "'b:65536'"),
        ("LLMVITALS_VLLM_TARGETS", "a:1,b:2,a:1", "a:1 again; LLMVITALS_VLLM_TARGETS has it already"),
        ("LLMVITALS_EXPORTER_OLLAMA", "127.0.0.1:11434", "give addresses like http://127.0.0.1:11434"),
        ("LLMVITALS_EXPORTER_LMSTUDIO", 'http://h"x', "'http://h\"x'"),
        ("LLMVITALS_EXPORTER_NVIDIA", "maybe", "one of auto, on, off, demo"),
        ("LLMVITALS_EXPORTER_AMD", "demo", "one of auto, on, off"),
    ],
)
def test_a_server_or_a_mode_that_is_none_is_told(root, key, value, part):
    """What cannot be an LLM server's address, or is no mode of the exporter's, is named with its line."""
    ensure(root)
    change(root, key, value)

    (told,) = mistakes(root)
    assert told.startswith("line ")
    assert key in told
    assert part in told


def test_a_password_in_an_address_is_not_repeated(root):
    """An address with a user is refused, without what stands before the host."""
    ensure(root)
    change(root, "LLMVITALS_EXPORTER_KOBOLDCPP", "http://me:hunter2@gpu-box:5001")

    (told,) = mistakes(root)
    assert "hunter2" not in told
    assert "gpu-box:5001" in told


def test_one_server_of_two_kinds_is_told(root):
    """An address can be one engine's only."""
    ensure(root)
    change(root, "LLMVITALS_VLLM_TARGETS", "[::1]:8000, gpu-box:8000")
    change(root, "LLMVITALS_TGI_TARGETS", "gpu-box:8000")

    (told,) = mistakes(root)
    assert "LLMVITALS_VLLM_TARGETS has it already" in told


def test_a_line_without_equals_is_told_without_being_quoted(root):
    """A line that may be half of a secret does not reach the terminal."""
    ensure(root)
    with (root / ".env").open("a") as file:
        file.write("hunter2hunter2\n")

    (told,) = mistakes(root)
    assert "hunter2" not in told


def test_a_short_secret_is_refused(root):
    """A guessable token is a mistake, and is not repeated in the message."""
    ensure(root)
    change(root, "LLMVITALS_ADMIN_TOKEN", "letmein")

    (told,) = mistakes(root)
    assert "letmein" not in told


def test_secrets_stay_out_of_the_repr(root):
    """A logged Settings tells no token."""
    ensure(root)
    settings = load(root)

    assert settings["LLMVITALS_ADMIN_TOKEN"] not in repr(settings)
