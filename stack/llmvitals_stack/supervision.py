"""The supervisor: its configuration, and what we ask of it over its Unix socket.

`supervisor` (supervisord.org) keeps the processes; this module only writes what it should keep and talks to it.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from llmvitals_stack.programs import Program

_MARK = "LLMVITALS_STACK_RUN"
"""In the environment of every process that we start: the folder of its state. It tells a supervisor's orphans."""


class SupervisorError(RuntimeError):
    """The supervisor did not do what it was asked for; the text says what, and where its log is."""


def configuration(programs: Iterable[Program], *, root: Path, run: Path, socket: Path) -> str:
    """The supervisor's file for these programs."""
    sections = [
        "; Written by `make up`. Do not edit: the next `make up` writes it again.",
        _section(
            "supervisord",
            logfile=run / "logs" / "supervisord.log",
            pidfile=run / "supervisord.pid",
            childlogdir=run / "logs",
            directory=root,
            # Said, because supervisord warns of a root that nobody chose.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        ),
        _section("unix_http_server", file=socket, chmod="0700"),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        *(_program(program, run) for program in programs),
    ]
    return "\n\n".join(sections) + "\n"


def _program(program: Program, run: Path) -> str:
    environment = {"PYTHONUNBUFFERED": "1", **program.environment}
    return _section(
        f"program:{program.name}",
        command=shlex.join(program.command),
        autorestart="true" if program.restart else "false",
        startsecs=1,
        startretries=3,
        stopwaitsecs=15,
        stopasgroup="true",
        killasgroup="true",
        redirect_stderr="true",
        # supervisord expands this one twice.
        stdout_logfile=str(run / "logs" / f"{program.name}.log").replace("%", "%%"),
        stdout_logfile_maxbytes="10MB",
        stdout_logfile_backups=2,
        environment=",".join(f'{key}="{value}"' for key, value in sorted(environment.items())),
    )


def _section(section: str, /, **options: object) -> str:
    # A per cent sign is supervisord's own expansion.
    lines = (f"{key}={str(value).replace('%', '%%')}" for key, value in options.items())
    return "\n".join([f"[{section}]", *lines])


class Supervisor:
    """One supervisord, known by its socket and its pid file."""

    def __init__(self, run: Path, socket: Path) -> None:
        self._run = run
        self._socket = socket

    def _ask(self, method: str, *arguments: object) -> Any:
        # Each time a new connection: the transport keeps a broken one for ever.
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                return getattr(server.supervisor, method)(*arguments)
        finally:
            transport.close()

    def running(self) -> bool:
        try:
            return bool(self._ask("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def start(self) -> None:
        """Start supervisord, or make a running one take over the configuration as it now stands."""
        if self.running():
            self._update()
            return
        self._socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._run / "supervisord.conf")]
        environment = {**os.environ, _MARK: str(self._run)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + 10
        while not self.running():
            if done.returncode != 0 or time.monotonic() > deadline:
                raise SupervisorError(
                    f"supervisord did not start: {(done.stderr or done.stdout).strip() or 'no answer on its socket'}"
                    f" (its log: {self._run / 'logs' / 'supervisord.log'})"
                )
            time.sleep(0.05)

    def _update(self) -> None:
        added, changed, removed = self._ask("reloadConfig")[0]
        for group in (*removed, *changed):
            self._ask("stopProcessGroup", group)
            self._ask("removeProcessGroup", group)
        for group in (*changed, *added):
            self._ask("addProcessGroup", group)
        for name, state in self.states().items():
            if state in ("STOPPED", "EXITED", "FATAL"):
                self._ask("startProcess", name, False)  # XML-RPC has no keywords: do not wait.

    def states(self) -> Mapping[str, str]:
        """Each program's state, by its name; empty when nothing runs."""
        if not self.running():
            return {}
        return {info["name"]: info["statename"] for info in self._ask("getAllProcessInfo")}

    def pids(self) -> Mapping[str, int]:
        return {info["name"]: info["pid"] for info in self._ask("getAllProcessInfo") if info["pid"]}

    def stop(self, timeout: float = 30) -> bool:
        """Stop everything, and see that nothing is left. False if nothing ran.

        What outlives its stop signal is killed by supervisord; what outlives supervisord, by us.
        """
        family = self._family()
        if self.running():
            self._ask("shutdown")
        else:
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.terminate()
        psutil.wait_procs(family, timeout=timeout)
        alive = self._family()
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        return bool(family)

    def orphaned(self) -> bool:
        """Whether processes of ours go on without a supervisor that answers: it was killed, or its folder removed."""
        return not self.running() and bool(self._family())

    def _family(self) -> list[psutil.Process]:
        """Every process of ours, supervisord first: told to stop after its programs, it would start them again."""
        family = {process for process in psutil.process_iter() if _mark(process) == str(self._run)}
        if (pid := self._pid()) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                master = psutil.Process(pid)
                family |= {master, *master.children(recursive=True)}
        return sorted(family, key=lambda process: process.create_time())

    def _pid(self) -> int | None:
        """The pid of our supervisord: the file may be old, and the number another process's by now."""
        try:
            pid = int((self._run / "supervisord.pid").read_text(encoding="ascii"))
            command = psutil.Process(pid).cmdline()
        except (OSError, ValueError, psutil.Error):
            return None
        return pid if str(self._run / "supervisord.conf") in command else None


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_MARK)
    except (psutil.Error, OSError):
        return None  # another user's, or ended since
