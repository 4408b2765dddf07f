"""Who carries an attempt out: the agent inside an application, or the supervisor above it.

An actuator never decides. It looks, acts at most once per attempt id, and reports what it knows; `unknown` is an
honest report.
"""

import http.client
import socket
import time
import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from llmvitals_remediation.clock import Clock
from llmvitals_remediation.protocol import Agents, Command
from llmvitals_remediation.records import Attempt, Report

# A command is refused when it comes after its expiry; one that came in time may still be at work a moment longer.
_ANSWER_GRACE_SECONDS = 5.0


class Actuator(Protocol):
    def carry_out(self, attempt: Attempt, *, incident_at: float, timeout: float) -> Report:
        """Act, and block for the answer. *incident_at* is when the trouble began, in unix seconds."""


class AgentActuator:
    """Commands for agents, through the hub. The same id may be sent again: the agent answers with what it stored."""

    def __init__(self, agents: Agents, clock: Clock) -> None:
        self._agents = agents
        self._clock = clock

    def carry_out(self, attempt: Attempt, *, incident_at: float, timeout: float) -> Report:
        del incident_at  # The boot id says which process is meant.
        command = Command(
            attempt_id=attempt.id,
            fence=attempt.fence,
            boot_id=attempt.boot_id,
            expires_at=attempt.expires_at,
            verb=attempt.verb,
            parameters=attempt.parameters,
        )
        return self.send(attempt.claim, command, timeout=timeout + _ANSWER_GRACE_SECONDS)

    def send(self, agent_id: str, command: Command, *, timeout: float) -> Report:
        """Send any command and wait for its answer."""
        answer = self._agents.dispatch(agent_id, command, timeout=timeout)
        if answer is None:
            return Report("unknown", error=f"no answer from {agent_id} within {timeout:g} s")
        return Report(answer.status, answer.result, answer.error, answer.refusal)


class SupervisorDriver:
    """Processes under supervisord, over its XML-RPC on a Unix socket.

    Looks before it acts: a process that started after the trouble began was restarted by somebody, and that counts.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        parts = urlsplit(url)
        if parts.scheme != "unix" or parts.netloc or not parts.path:
            raise ValueError(f"{url}: the supervisor's URL is unix:///path/to/its.sock")
        self._path = Path(parts.path)
        self._clock = clock

    def carry_out(self, attempt: Attempt, *, incident_at: float, timeout: float) -> Report:
        unit = attempt.claim.removeprefix("supervisor:")
        try:
            with xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(self._path, timeout)) as proxy:
                return self._ensure(proxy, unit, attempt.verb, incident_at, time.monotonic() + timeout)
        except TimeoutError:
            return Report("unknown", error=f"supervisor did not answer about {unit} within {timeout:g} s")
        except xmlrpc.client.Fault as fault:
            return Report("failed", error=f"supervisor refused for {unit}: {fault.faultString}")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            return Report("failed", error=f"supervisor at {self._path} gave no answer: {error}")

    def _ensure(self, proxy: xmlrpc.client.ServerProxy, unit: str, verb: str, incident_at: float, end: float) -> Report:
        stopped_here = False
        while time.monotonic() < end:
            info = cast("Mapping[str, Any]", proxy.supervisor.getProcessInfo(unit))
            state, began = str(info["statename"]), float(info["start"])
            # Supervisor tells whole seconds, cut.
            newer = began + 1 > incident_at
            if state == "RUNNING" and (newer or stopped_here):
                return Report("done", {"unit": unit, "started_at": began, "pid": int(info["pid"])})
            if state == "RUNNING" and verb == "start":
                return Report("failed", error=f"{unit} is running since before the incident; start does not restart")
            if state == "RUNNING":
                stopped_here = True
                _tolerating(70, proxy.supervisor.stopProcess, unit)  # NOT_RUNNING: it went by itself
            elif state in ("STOPPED", "EXITED", "FATAL", "UNKNOWN"):
                stopped_here = True
                _tolerating(60, proxy.supervisor.startProcess, unit)  # ALREADY_STARTED: somebody was faster
            else:  # STARTING, BACKOFF, STOPPING: supervisor is at it
                time.sleep(0.1)
        return Report("unknown", error=f"{unit} is not running yet")


def _tolerating(code: int, call: Any, unit: str) -> None:
    try:
        call(unit)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != code:
            raise


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # Kept where the base class looks for it: it is what closes the connection.
        if not self._connection[1]:
            self._connection = host, _UnixConnection(self._path, self._timeout)
        return cast("http.client.HTTPConnection", self._connection[1])
