"""The whole stack, natively, on free ports: up, broken, repaired, up again, down."""

import concurrent.futures
import contextlib
import signal
import subprocess
import threading
import time

import psutil
import pytest
import requests
from playwright.sync_api import sync_playwright
from tests.exporter.test_catalogue import excused
from tests.grafana.conftest import running_viewer
from tests.grafana.live import GPU_PANELS, MAY_BE_EMPTY, check_live
from tests.grafana.queries import load
from tests.grafana.rightly_empty import ENGINE_PANELS, LATE_PANELS
from tests.grafana.shown import wrong_panels
from tests.grafana.viewer_page import CHROMIUM, new_page
from tests.stack import checkout

from llmvitals_stack import chaos, native, ports, viewer_build
from llmvitals_stack.chaos.scenarios import SCENARIOS
from llmvitals_stack.terminal import Terminal

pytestmark = pytest.mark.stack

# With GPUs and an engine played, which the stack below has.
WITHOUT_DATA = MAY_BE_EMPTY - GPU_PANELS - ENGINE_PANELS
# Several times what each tells in the demo: above it a label grows.
MOST_SERIES = {"companion": 5000, "exporter": 5000, "remediation": 1000, "dashboards": 500}


@pytest.fixture(name="settings", scope="module")
def _settings(tmp_path_factory):
    backup = checkout.free_ports(1)[0]
    return checkout.make(
        tmp_path_factory.mktemp("checkout"),
        {
            "LLMVITALS_EXPORTER_NVIDIA": "demo",
            # faulty_llm's second provider: no fault of the loops below stops it.
            "LLMVITALS_FAULTY_LLM_BACKUP_PORT": str(backup),
            "LLMVITALS_VLLM_TARGETS": f"127.0.0.1:{backup}",
        },
    )


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


@pytest.fixture(name="engine")
def _engine(stack):
    """The stack, whose second provider is asked all the time."""
    url = f"http://127.0.0.1:{stack.port('FAULTY_LLM_BACKUP')}/v1/chat/completions"
    body = {"model": "talker", "messages": [{"role": "user", "content": "How is the weather?"}], "stream": True}
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            requests.post(url, json=body, headers={"Authorization": "Bearer any"}, timeout=30).raise_for_status()

    with concurrent.futures.ThreadPoolExecutor(1) as asking:
        asked = asking.submit(ask)
        yield stack
        ended.set()
        asked.result()


def test_everything_is_healthy(stack):
    """After `up`, every program runs and Prometheus scrapes every target."""
    assert {"RUNNING"} == set(native.states(stack).values())


def test_every_dashboard_has_data_within_a_minute(engine):
    """No panel is empty, or impossible 60 s after `up` but those that rightly are; what is late comes by 90 s."""
    up = time.monotonic()
    for seconds, may_be_empty in ((60, WITHOUT_DATA | LATE_PANELS), (90, WITHOUT_DATA)):
        while found := check_live(engine.url("PROMETHEUS"), may_be_empty=may_be_empty):
            assert time.monotonic() - up < seconds, found
            time.sleep(2)


def test_every_panel_of_every_dashboard_is_drawn_with_what_prometheus_says(stack, engine):
    """In a browser, all panels are ready but those that are rightly empty; tiles and legends show the API's numbers."""
    found, troubles = [], []
    viewer = (
        contextlib.nullcontext(stack.url("GRAFANA"))
        if "viewer" in native.states(stack)
        # Here is a Grafana, which the stack prefers.
        else running_viewer(stack.url("PROMETHEUS"), viewer_build.ensure_built(checkout.ROOT))
    )
    with viewer as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        for dashboard in load().values():
            page = new_page(browser, troubles)
            found += wrong_panels(page, url, stack.url("PROMETHEUS"), dashboard, may_be_empty=WITHOUT_DATA)
            page.close()
        browser.close()

    assert ([], []) == (found, troubles)


def test_what_each_program_tells_is_sound_and_of_a_bounded_size(stack):
    """`promtool check metrics` minds nothing in our programs' pages but what is excused; none has too many series."""
    targets = requests.get(f"{stack.url('PROMETHEUS')}/api/v1/targets?state=active", timeout=5).json()["data"]
    pages = {target["labels"]["job"]: target["scrapeUrl"] for target in targets["activeTargets"]}
    told, sizes = [], {}
    for job in MOST_SERIES.keys() & pages.keys():
        page = requests.get(pages[job], timeout=5).text
        lint = subprocess.run(
            ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=30, check=False
        )
        told += [f"{job}: {line}" for line in (lint.stdout + lint.stderr).splitlines() if not excused(line)]
        sizes[job] = sum(not line.startswith("#") for line in page.splitlines())

    assert MOST_SERIES.keys() - {"dashboards"} <= pages.keys()
    assert [] == told
    assert {} == {job: size for job, size in sizes.items() if not 0 < size <= MOST_SERIES[job]}


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
