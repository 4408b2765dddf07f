import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import uvicorn
import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from tests.grafana.fake_target import SERVICES, FakeTarget
from tests.grafana.queries import FOLDER, ROOT
from tests.grafana.viewer_page import CHROMIUM, new_page

from llmvitals_stack.viewer import create_app
from llmvitals_stack.viewer_build import ensure_built

DEADLINE_SECONDS = 60


def wait_for(what: str, done: Callable[[], bool]) -> None:
    """Polls until *done*; says *what* was waited for when it does not come."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS} s for {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running_prometheus(folder: Path, target_port: int, rules: list[Path]) -> Iterator[str]:
    """A real Prometheus that scrapes the fake target every second; yields its URL once it has evaluated the rules."""
    jobs = [
        {
            "job_name": job,
            "metrics_path": f"/{job}",
            "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}],
        }
        for job in SERVICES
    ]
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(path) for path in rules],
                "scrape_configs": jobs,
            }
        )
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
    )
    try:
        wait_for("Prometheus", lambda: _has_data(url, process))
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)


def _has_data(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Prometheus has ended"
    query = "count_over_time(llm:requests:rate1m[1m]) > 3"
    with contextlib.suppress(requests.ConnectionError):
        answer = requests.post(f"{url}/api/v1/query", data={"query": query}, timeout=5)
        return answer.ok and len(answer.json()["data"]["result"]) > 0
    return False


@contextlib.contextmanager
def running_viewer(prometheus_url: str, dist: Path, dashboards: Path = FOLDER) -> Iterator[str]:
    """The viewer's server in a thread, on a free port."""
    config = uvicorn.Config(
        create_app(prometheus_url, dashboards, dist), host="127.0.0.1", port=0, log_level="warning", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for("the viewer", lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session", name="dist")
def _dist() -> Path:
    """The built viewer. No Node.js is a failure, not a skip: `make test` needs it."""
    built = ensure_built(ROOT)
    assert isinstance(built, Path), f"make test needs Node.js 20 or newer for the viewer: {built}"
    return built


@pytest.fixture(scope="session", name="prometheus_url")
def _prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    recording = sorted((ROOT / "prometheus" / "rules" / "recording").glob("*.yml"))
    with (
        FakeTarget() as target,
        running_prometheus(tmp_path_factory.mktemp("prometheus"), target.port, recording) as url,
    ):
        yield url


@pytest.fixture(scope="session", name="viewer_url")
def _viewer_url(prometheus_url: str, dist: Path) -> Iterator[str]:
    with running_viewer(prometheus_url, dist) as url:
        yield url


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Browser]:
    # Not for the session: as long as it lives, Playwright's loop runs in this thread, and no other can.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(name="troubles")
def _troubles() -> list[str]:
    """What went wrong on the page; a test that wants some of it takes that out."""
    return []


@pytest.fixture(name="page")
def _page(browser: Browser, troubles: list[str]) -> Iterator[Page]:
    """A page that fails the test when it logs an error or asks for anything that is not on its own server."""
    page = new_page(browser, troubles)
    yield page
    page.close()
    assert [] == troubles


if __name__ == "__main__":
    # `python -m tests.grafana.conftest FOLDER`: the same by hand, to look at.
    chosen = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    chosen.mkdir(parents=True, exist_ok=True)
    rules_to_run = sorted((ROOT / "prometheus" / "rules").rglob("*.yml"))
    with (
        FakeTarget() as fake,
        running_prometheus(chosen, fake.port, rules_to_run) as prometheus,
        running_viewer(prometheus, ROOT / "grafana" / "viewer" / "dist") as viewer,
    ):
        sys.stdout.write(f"{prometheus} {viewer} pid {os.getpid()}\n")
        sys.stdout.flush()
        signal.pause()
