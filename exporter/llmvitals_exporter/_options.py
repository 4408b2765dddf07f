"""The settings: general ones, and those that the collectors declare. All mistakes are told at once.

Each can be a flag, a variable of the environment, or a line of a YAML file; the first of these that has it counts.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from llmvitals_exporter._declaration import Declaration, Option, Settings, once
from llmvitals_exporter._sources import PREFIX, Given, from_environment, from_file
from llmvitals_exporter._web_config import WebConfig, WebConfigError, load, unreadable
from llmvitals_exporter.collectors import COLLECTORS


class UsageError(Exception):
    """The settings are wrong.

    Args:
        problems: Each a sentence that names the flag, the variable, or the file and its line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the exporter was told to do."""

    mode: str
    host: str
    port: int
    timeout: float
    collectors: tuple[Declaration, ...]
    settings: Settings
    web: WebConfig


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    known = [collector.name for collector in COLLECTORS]
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no collector {', '.join(unknown)}; there are {', '.join(known)}")
    if not names:
        raise ValueError("names no collector")
    return names


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port, a number from 0 to 65535")
    return int(text)


def _host(text: str) -> str:
    if not text.strip():
        # To the system an empty one means all addresses, which nobody would guess.
        raise ValueError("is empty; 127.0.0.1 is this machine only, 0.0.0.0 all of its addresses")
    return text.strip()


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.01 <= seconds <= 60:
        raise ValueError(f"{text!r} is not a number of seconds from 0.01 to 60")
    return seconds


_CONFIG = Option("--config", "FILE", "read further settings from this YAML file", "", once(str))
_WEB_CONFIG: Option[str] = Option(
    "--web-config",
    "FILE",
    "TLS, client certificates and passwords, in the format of Prometheus' own exporters' web configuration",
    "",
    once(str),
)
_HOST = Option("--host", "ADDRESS", "address to serve at (default: 127.0.0.1)", "127.0.0.1", once(_host))
_PORT = Option("--port", "PORT", "port to serve at; 0 takes a free one (default: 9465)", 9465, once(_port))
_TIMEOUT = Option(
    "--collector-timeout",
    "SECONDS",
    "leave a collector out of a scrape that takes longer (default: 2)",
    2.0,
    once(_timeout),
)
_ONLY: Option[tuple[str, ...]] = Option("--only", "NAMES", "use these collectors only, comma-separated", (), _names)
_WITHOUT: Option[tuple[str, ...]] = Option("--without", "NAMES", "use all collectors but these", (), _names)
_GENERAL: tuple[Option[Any], ...] = (_CONFIG, _WEB_CONFIG, _HOST, _PORT, _TIMEOUT, _ONLY, _WITHOUT)

_MODES = {
    "once": "print the metrics to standard output, and end",
    "check": "read every collector once, tell how it went, and end; status 1 if one failed",
    "list": "tell the collectors and what they read, and end",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError([message])


def _declared() -> tuple[Option[Any], ...]:
    """The collectors' options, each once however many of them share it."""
    return tuple(dict.fromkeys(option for collector in COLLECTORS for option in collector.options))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="llmvitals-exporter",
        description="Serve metrics of this machine, its processes, GPUs and local LLM servers to Prometheus.",
        epilog="examples:\n"
        "  llmvitals-exporter --watch app='python .*my_app'     serve http://127.0.0.1:9465/metrics\n"
        "  llmvitals-exporter --koboldcpp http://127.0.0.1:5001 --check\n"
        "  llmvitals-exporter --once --only cpu,memory\n"
        "each flag can also be a variable, --only as "
        f"{PREFIX}ONLY, or a line of the --config file, as 'only: [cpu, memory]'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    modes = parser.add_mutually_exclusive_group()
    for mode, text in _MODES.items():
        modes.add_argument(f"--{mode}", action="store_const", dest="mode", const=mode, default="serve", help=text)
    _add(parser, _GENERAL)
    _add(parser.add_argument_group("collectors"), _declared())
    return parser


def _add(group: "argparse._ActionsContainer", options: Sequence[Option[Any]]) -> None:
    for option in options:
        # Texts are kept as they are, and parsed when all are known, so that no mistake hides another.
        group.add_argument(option.flag, action="append", metavar=option.metavar, help=option.help.replace("%", "%%"))


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Plan:
    """Raises `UsageError` with everything that is wrong."""
    options = (*_GENERAL, *_declared())
    try:
        mode, flags, problems = _from_flags(arguments, options)
    except UsageError as error:  # Flags without their values, say: no flag is known then.
        mode, flags, problems = "", {}, list(error.problems)
    variables, wrong = from_environment(options, os.environ if environment is None else environment)
    problems += wrong
    config = flags.get(_CONFIG) or variables.get(_CONFIG)
    if config is not None:
        lines, wrong = from_file(config.texts[-1], options[1:])
        problems += wrong
    else:
        lines = {}
    values: dict[Option[Any], Any] = {}
    # All that is written is parsed, not only what counts: a mistake is one wherever it stands.
    for given in (lines, variables, flags):
        problems += _parsed_into(values, given)
    settings = Settings(values)
    if settings[_ONLY] and settings[_WITHOUT]:
        problems.append("--without: is given together with --only; give one of them")
    web = WebConfig()
    if settings[_WEB_CONFIG]:
        try:
            web = load(Path(settings[_WEB_CONFIG]))
            problems += unreadable(web)
        except WebConfigError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return Plan(
        mode=mode,
        host=settings[_HOST],
        port=settings[_PORT],
        timeout=settings[_TIMEOUT],
        collectors=tuple(
            collector
            for collector in COLLECTORS
            if (not settings[_ONLY] or collector.name in settings[_ONLY]) and collector.name not in settings[_WITHOUT]
        ),
        settings=settings,
        web=web,
    )


def _from_flags(
    arguments: Sequence[str], options: Sequence[Option[Any]]
) -> tuple[str, dict[Option[Any], Given], list[str]]:
    given, strange = _parser().parse_known_args(list(arguments))
    found = {
        option: Given(option.flag, tuple(texts))
        for option in options
        if (texts := getattr(given, option.flag.removeprefix("--").replace("-", "_"))) is not None
    }
    return given.mode, found, [f"{argument}: there is no such argument; see --help" for argument in strange]


def _parsed_into(values: dict[Option[Any], Any], found: Mapping[Option[Any], Given]) -> list[str]:
    problems = []
    for option, given in found.items():
        try:
            values[option] = option.parse(given.texts)
        except ExceptionGroup as group:
            problems += [f"{given.where}: {error}" for error in group.exceptions]
        except ValueError as error:
            problems.append(f"{given.where}: {error}")
    return problems
