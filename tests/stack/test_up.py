"""The whole stack, natively, on free ports: up, broken, repaired, up again, down."""

import signal
import time

import psutil
import pytest
import requests
from tests.grafana.live import GPU_PANELS, MAY_BE_EMPTY, check_live
from tests.stack import checkout

from llmvitals_stack import chaos, native, ports
from llmvitals_stack.chaos.scenarios import SCENARIOS
from llmvitals_stack.terminal import Terminal

pytestmark = pytest.mark.stack


@pytest.fixture(name="settings", scope="module")
def _settings(tmp_path_factory):
    return checkout.make(tmp_path_factory.mktemp("checkout"), {"LLMVITALS_EXPORTER_NVIDIA": "demo"})


@pytest.fixture(name="stack", scope="module")
def _stack(settings):
    # `make test` runs these tests in the background, where Ctrl-C is not heard, and ends them with SIGTERM.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        native.up(settings, Terminal())
        yield settings
    finally:
        native.down(settings)
        signal.signal(signal.SIGTERM, before)


def test_everything_is_healthy(stack):
    """After `up`, every program runs and Prometheus scrapes every target."""
    assert {"RUNNING"} == set(native.states(stack).values())


def test_every_dashboard_has_data_within_a_minute(stack):
    """No panel is empty, refused or impossible 60 s after `up`, but those that rightly are; `.env` has GPUs played."""
    deadline = time.monotonic() + 60
    while found := check_live(stack.url("PROMETHEUS"), may_be_empty=MAY_BE_EMPTY - GPU_PANELS):
        assert time.monotonic() < deadline, found
        time.sleep(2)


def test_a_second_up_keeps_every_process_and_is_quick(stack):
    """Up on what is up changes nothing, and takes at most 30 s."""
    before = dict(native.supervisor(stack).pids())
    started = time.monotonic()

    native.up(stack, Terminal())

    assert before == dict(native.supervisor(stack).pids())
    assert time.monotonic() - started < 30


def test_no_token_reaches_a_log_or_a_command_line(stack):
    """Secrets are in files of mode 0600 only."""
    secrets = [stack[f"LLMVITALS_{name}_TOKEN"] for name in ("ADMIN", "INGEST", "AGENT")]
    logs = "".join(path.read_text(errors="replace") for path in (stack.run / "logs").glob("*.log"))
    commands = " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in native.supervisor(stack).pids().values())

    assert [] == [secret for secret in secrets if secret in logs or secret in commands]


def test_everything_listens_on_loopback_only(stack):
    """No port of ours can be reached from another machine."""
    pids = set(native.supervisor(stack).pids().values())
    addresses = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.pid in pids and connection.status == psutil.CONN_LISTEN
    }

    assert {"127.0.0.1"} == addresses


@pytest.mark.parametrize("name", ["users-pile-up", "memory-growth", "crash", "provider-down", "slow-llm"])
def test_the_loop_closes(stack, name):
    """A fault fires its alert, the handler acts inside the app, the act is proven, and it is quiet again."""
    assert 0 == chaos.run(SCENARIOS[name], stack, Terminal())


def test_ports_that_are_taken_are_told_before_anything_starts(stack):
    """Someone else's `up` on the same ports says who holds them."""
    with pytest.raises(ports.PortsTakenError) as caught:
        ports.check(stack)

    assert 11 == str(caught.value).count("is taken by")


def test_down_leaves_no_process(stack):
    """After `down`, no process of the stack lives and no port answers. Last in this file: it ends the stack."""
    keeper = native.supervisor(stack)
    family = [
        process
        for pid in keeper.pids().values()
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]

    assert native.down(stack)

    assert [] == [process for process in family if process.is_running()]
    with pytest.raises(requests.ConnectionError):
        requests.get(stack.url("PROMETHEUS"), timeout=2)
    assert not native.down(stack)
