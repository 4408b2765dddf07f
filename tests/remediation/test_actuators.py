"""The supervisor driver, on a real supervisord; and what it says when there is none."""

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.remediation.world import until

from llmvitals_remediation.actuators import SupervisorDriver
from llmvitals_remediation.clock import SystemClock
from llmvitals_remediation.records import Attempt


@contextlib.contextmanager
def supervisord(folder):
    """One program, `shop`, that sleeps; its socket is what is yielded."""
    socket = Path(folder) / "s.sock"
    (folder / "supervisord.conf").write_text(
        f"""
[unix_http_server]
file={socket}
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
nodaemon=true
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:shop]
command={sys.executable} -c "import time; time.sleep(600)"
autostart=true
autorestart=false
startsecs=0
[program:broken]
command={folder}/nothing
autostart=false
startsecs=0
startretries=0
""",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [Path(sys.executable).with_name("supervisord"), "-c", folder / "supervisord.conf"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        until(socket.exists, seconds=15, what="supervisord")
        yield socket
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(name="socket", scope="module")
def _socket(tmp_path_factory):
    if shutil.which("supervisord", path=Path(sys.executable).parent) is None:
        pytest.skip("supervisord is not installed")
    folder = tmp_path_factory.mktemp("s")
    with supervisord(folder) as socket:
        yield socket


def attempt(verb, unit="shop"):
    return Attempt(
        id="a",
        incident_id="i",
        number=1,
        handler="h",
        service="shop",
        state="executing",
        instance="x",
        claim=f"supervisor:{unit}",
        driver="supervisor",
        boot_id="",
        fence=1,
        verb=verb,
        parameters={},
        planned_at=0.0,
        expires_at=0.0,
        started_at=None,
        acted_at=None,
        answer=None,
        verdict=None,
    )


def carry_out(socket, verb, *, incident_at, unit="shop"):
    driver = SupervisorDriver(f"unix://{socket}", clock=SystemClock())
    return driver.carry_out(attempt(verb, unit), incident_at=incident_at, timeout=15)


def running(socket):
    """The pid, as supervisor tells it for an incident of long ago: no act."""
    until(lambda: carry_out(socket, "start", incident_at=0).answer == "done", what="the program")
    return carry_out(socket, "start", incident_at=0).result["pid"]


@pytest.mark.stack
def test_a_process_that_started_after_the_trouble_is_left_alone(socket):
    """Somebody was faster: that counts as done."""
    pid = running(socket)

    assert pid == carry_out(socket, "restart", incident_at=time.time() - 3600).result["pid"]


@pytest.mark.stack
def test_restart_replaces_a_process_that_is_older_than_the_trouble(socket):
    """Stopped and started: another pid."""
    pid = running(socket)
    told = carry_out(socket, "restart", incident_at=time.time() + 3600)

    assert "done" == told.answer
    assert pid != told.result["pid"]


@pytest.mark.stack
def test_start_does_not_touch_a_process_that_runs(socket):
    """It hangs, perhaps; that is for `restart`."""
    pid = running(socket)
    told = carry_out(socket, "start", incident_at=time.time() + 3600)

    assert "failed" == told.answer
    assert pid == running(socket)


@pytest.mark.stack
def test_start_starts_a_process_that_has_died(socket):
    """Killed from outside, with no restart by supervisor itself."""
    import os
    import signal

    pid = running(socket)
    os.kill(pid, signal.SIGKILL)
    # Supervisor needs a moment to notice.
    told = []
    until(lambda: told.append(carry_out(socket, "start", incident_at=time.time() + 3600)) or told[-1].answer == "done")

    assert pid != told[-1].result["pid"]


@pytest.mark.stack
@pytest.mark.parametrize(("unit", "reason"), [("none", "BAD_NAME"), ("broken", "broken")])
def test_what_cannot_be_started_is_a_failure_with_a_reason(socket, unit, reason):
    """No such program, or one that does not start."""
    told = carry_out(socket, "start", incident_at=0, unit=unit)

    assert "failed" == told.answer
    assert reason in told.error


def test_no_supervisor_is_a_failure(tmp_path):
    """Nothing was asked, so nothing happened."""
    told = carry_out(tmp_path / "none.sock", "start", incident_at=0)

    assert "failed" == told.answer
    assert "gave no answer" in told.error


@pytest.mark.parametrize("url", ["http://127.0.0.1:9001", "unix://host/s.sock", "unix://", "/run/s.sock"])
def test_another_url_is_refused_at_once(url):
    """Only a socket on this machine."""
    with pytest.raises(ValueError, match="unix:///path"):
        SupervisorDriver(url, clock=SystemClock())
