"""`python -m llmvitals_stack`: what the Makefile calls."""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmvitals_stack import compose, doctor, native, notify_test
from llmvitals_stack.chaos import run as run_chaos
from llmvitals_stack.chaos.scenarios import SCENARIOS
from llmvitals_stack.health import UnhealthyError
from llmvitals_stack.ports import PortsTakenError
from llmvitals_stack.settings import Settings, SettingsError, ensure, load
from llmvitals_stack.supervision import SupervisorError
from llmvitals_stack.terminal import Terminal, error
from llmvitals_stack.tools import ToolMissingError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code. Every expected trouble is one message, not a traceback."""
    options = _parser().parse_args(arguments)
    terminal = Terminal()
    try:
        code: int = options.run(options, terminal)
    except (SettingsError, PortsTakenError, ToolMissingError, SupervisorError, UnhealthyError) as trouble:
        error(str(trouble))
        return 1
    except OSError as trouble:
        # Of files: what talks to servers tells its own. Such as a folder that is read-only, or belongs to another user.
        error(f"{trouble.filename or 'The system'}: {trouble.strerror or trouble}")
        return 1
    except KeyboardInterrupt:
        error("Interrupted. What was started goes on; `make down` stops it.")
        return 130
    return code


def _up(options: argparse.Namespace, terminal: Terminal) -> int:
    with _alone(options.root):
        made_token = ensure(options.root)
        settings = load(options.root)
        how = _start(settings, terminal)
    terminal.say("")
    terminal.say(f"[bold]llmvitals runs[/] ({how}).")
    shown = native.states(settings).keys()
    terminal.table(("", "address"), _addresses(settings, dashboards=not shown or bool(shown & {"grafana", "viewer"})))
    if made_token:
        terminal.say("")
        terminal.say("The console's admin token, shown this once (it is kept in .env):")
        terminal.plain(settings["LLMVITALS_ADMIN_TOKEN"])
    terminal.say("")
    terminal.say("Next: [bold]make chaos SCENARIO=users-pile-up[/]. Stop with [bold]make down[/].")
    return 0


def _start(settings: Settings, terminal: Terminal) -> str:
    mode = settings["LLMVITALS_MODE"]
    if mode == "auto" and native.states(settings):
        # An engine that came up since then would find our own ports taken.
        mode = "native"
    if mode != "native":
        try:
            compose.up(settings, terminal)
        except compose.ComposeUnusableError as reason:
            if mode == "compose":
                raise UnhealthyError(f"LLMVITALS_MODE is compose, but {reason}") from None
            terminal.plain(f"Native processes, because {reason}.")
        else:
            return "Docker Compose"
    native.up(settings, terminal)
    return "native processes under supervisor"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second `make up` or `make down` of this checkout out meanwhile; the lock ends with its process."""
    folder = root / ".run"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SupervisorError("Another `make up` or `make down` works here; wait until it is done.") from None
        yield


def _place(options: argparse.Namespace) -> Settings:
    """Where the stack is, and nothing of `.env`: a mistake in it must not keep anybody from stopping what runs."""
    return Settings(options.root, {})


def _addresses(settings: Settings, *, dashboards: bool) -> list[tuple[str, str]]:
    return [
        *([("Dashboards", settings.url("GRAFANA"))] if dashboards else []),
        ("Remediation console", settings.url("REMEDIATION")),
        ("Prometheus", settings.url("PROMETHEUS")),
        ("Alertmanager", settings.url("ALERTMANAGER")),
        ("Companion (the demo)", settings.url("COMPANION")),
        ("  its metrics", f"{settings.url('COMPANION_METRICS')}/metrics"),
        ("Exporter", f"{settings.url('EXPORTER')}/metrics"),
        ("Faulty LLM's dials", f"{settings.url('FAULTY_LLM_CONTROL')}/dials/primary"),
    ]


def _down(options: argparse.Namespace, terminal: Terminal) -> int:
    settings = _place(options)
    with _alone(options.root), terminal.step("stopping"):
        processes, containers = native.down(settings), compose.down(settings)
    if processes:
        terminal.say("Stopped; the data stays in .run.")
    if containers:
        terminal.say("Stopped; the data stays in the containers' volumes.")
    if not processes and not containers:
        terminal.say("Nothing ran.")
    return 0


def _status(options: argparse.Namespace, terminal: Terminal) -> int:
    settings = _place(options)
    if states := native.states(settings):
        terminal.table(("program", "state"), states.items())
        return 0 if all(state == "RUNNING" for state in states.values()) else 1
    if compose.running(settings):
        os.execvp(compose.command()[0], [*compose.command(), "ps"])  # noqa: S606 -- Compose says it best itself.
    if native.supervisor(settings).orphaned():
        terminal.say("The supervisor was killed, and its programs go on alone; `make up` starts them anew.")
        return 1
    terminal.say("Nothing runs; `make up` starts it.")
    return 3


def _logs(options: argparse.Namespace, terminal: Terminal) -> int:
    settings = _place(options)
    if not native.states(settings) and compose.running(settings):
        command = [*compose.command(), "logs", "--follow", "--tail", "50", *filter(None, [options.program])]
        os.execvp(command[0], command)  # noqa: S606 -- as above
    folder = settings.run / "logs"
    files = sorted(folder.glob(f"{options.program or '*'}.log"))
    if not files:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        raise UnhealthyError(f"No log of {options.program or 'any program'!r}; there are: {known}")
    terminal.say(f"[dim]{folder}; Ctrl-C ends[/]")
    os.execvp("tail", ["tail", "-n", "20", "-F", *map(str, files)])  # noqa: S606 -- tail(1) follows best.


def _doctor(options: argparse.Namespace, terminal: Terminal) -> int:
    return 0 if doctor.examine(options.root, terminal) else 1


def _chaos(options: argparse.Namespace, terminal: Terminal) -> int:
    return run_chaos(SCENARIOS[options.scenario], load(options.root), terminal, runs=options.runs)


def _notify_test(options: argparse.Namespace, terminal: Terminal) -> int:
    return notify_test.run(load(options.root), terminal)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmvitals-stack", description="Run llmvitals on this machine.")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: here)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("up", _up, "start everything, wait until it is healthy, print the addresses")
    command("down", _down, "stop everything; the data stays")
    command("status", _status, "say what runs (exit code 0: all, 1: not all, 3: nothing)")
    logs = command("logs", _logs, "follow the logs")
    logs.add_argument("program", nargs="?", help="one program's log only")
    command("doctor", _doctor, "look for what is wrong, and say what to do")
    command("notify-test", _notify_test, "send one notification of each kind that .env switches on")
    chaos = command("chaos", _chaos, "turn a fault on and watch the loop close; exit code 1 if it does not in its time")
    chaos.add_argument("scenario", choices=sorted(SCENARIOS), help="the fault")
    chaos.add_argument("--runs", type=int, default=1, help="how often (default 1); from 2 on, prints p50 and p95")
    return parser


if __name__ == "__main__":
    sys.exit(main())
