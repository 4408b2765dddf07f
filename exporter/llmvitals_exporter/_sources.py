"""Where settings are written besides the command line: a YAML file and the environment.

Both give texts, as the command line does, so that an option is parsed by one function wherever it stands.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmvitals_exporter._declaration import Option

if TYPE_CHECKING:
    import yaml

PREFIX = "LLMVITALS_EXPORTER_"

_FILE_BYTES = 1 << 20
# Kubernetes gives these to every container beside a Service named llmvitals-exporter, LLMVITALS_EXPORTER_PORT included.
_SERVICE_LINK = re.compile(r"(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """The texts that one source has for one option.

    Attributes:
        where: How a mistake in them is introduced.
    """

    where: str
    texts: tuple[str, ...]


Found = tuple[dict[Option[Any], Given], list[str]]
"""What a source has, by option, and what is wrong with it, each a sentence that says where."""


def key(option: Option[Any]) -> str:
    """The option's name in a file, for example ``collector_timeout``."""
    return option.flag.removeprefix("--").replace("-", "_")


def variable(option: Option[Any]) -> str:
    """The option's name in the environment, for example ``LLMVITALS_EXPORTER_COLLECTOR_TIMEOUT``."""
    return PREFIX + key(option).upper()


def from_environment(options: Iterable[Option[Any]], environment: Mapping[str, str]) -> Found:
    """Variables ``LLMVITALS_EXPORTER_...``, several values of one on a line each; an empty one is not set."""
    known = {variable(option): option for option in options}
    found: dict[Option[Any], Given] = {}
    problems = []
    for name, text in environment.items():
        if not name.startswith(PREFIX) or not text.strip() or _SERVICE_ADDRESS.match(text):
            continue
        if name in known:
            found[known[name]] = Given(name, tuple(line.strip() for line in text.splitlines() if line.strip()))
        elif not _SERVICE_LINK.fullmatch(name.removeprefix(PREFIX)):
            problems.append(f"{name}: there is no such setting{_meant(name, known)}")
    return found, problems


def from_file(path: str, options: Iterable[Option[Any]]) -> Found:
    """A YAML mapping of an option's name to its value, to a list of them, or to a mapping for ``NAME=VALUE``."""
    try:
        text = read(Path(path))
        top = _compose(text)
    except ValueError as error:
        return {}, [f"{path}: {error}"]
    if top is None:
        return {}, []
    if _kind(top) != "mapping":
        return {}, [f"{path}: is not a mapping of settings to values, such as 'port: 9465'"]
    known = {key(option): option for option in options}
    found: dict[Option[Any], Given] = {}
    problems = []
    for name, node in top.value:
        where = f"{path} line {name.start_mark.line + 1}, {name.value}"
        option = known.get(name.value.replace("-", "_")) if isinstance(name.value, str) else None
        if option is None:
            problems.append(f"{where}: there is no such setting{_meant(str(name.value), known)}")
        elif option in found:
            problems.append(f"{where}: is set a second time")
        else:
            try:
                texts = _texts(node)
            except ValueError as error:
                problems.append(f"{where}: {error}")
                texts = ()
            found[option] = Given(where, texts)
    return {option: given for option, given in found.items() if given.texts}, problems


def read(path: Path) -> str:
    """The text of a file of settings. Raises ValueError that says why there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(content) > _FILE_BYTES:
        raise ValueError(f"has more than {_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: {error}") from error


def _compose(text: str) -> "yaml.Node | None":
    import yaml  # noqa: PLC0415 -- 15 ms that only a file need cost

    try:
        # Nodes instead of values: they know their lines, 'on' stays a text, and an alias is not multiplied.
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError(f"line {mark.line + 1 if mark else '?'}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deep") from error


def _texts(node: "yaml.Node") -> tuple[str, ...]:
    if _kind(node) == "scalar":
        return (node.value,) if node.value not in ("", "~", "null") else ()
    if _kind(node) == "sequence":
        return tuple(_scalar(item) for item in node.value)
    return tuple(f"{_scalar(name)}={_scalar(value)}" for name, value in node.value)


def _scalar(node: "yaml.Node") -> str:
    if _kind(node) != "scalar":
        raise ValueError(f"has a {_kind(node)} on line {node.start_mark.line + 1} where a single value is meant")
    return str(node.value)


def _kind(node: "yaml.Node") -> str:
    """``scalar``, ``sequence`` or ``mapping``."""
    return type(node).__name__.removesuffix("Node").lower()


def _meant(name: str, known: Mapping[str, object]) -> str:
    close: Sequence[str] = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
