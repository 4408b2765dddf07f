"""Reading a YAML file that people wrote, and telling them all their mistakes at once, each with its line."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong in the file: the path of keys to it, its line (from 1), and what to do."""

    where: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.where}: {self.problem}"


class Section:
    """A mapping of the file. Asking for a key checks it; a bad value is noted and the default goes on in its place."""

    def __init__(self, node: yaml.Node | None, where: str, mistakes: list[Mistake], line: int = 1) -> None:
        self.where = where
        self.line = line if node is None else node.start_mark.line + 1
        self._mistakes = mistakes
        self._asked: set[str] = set()
        self._values: dict[str, yaml.Node] = {}
        self._keys: dict[str, yaml.Node] = {}
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            self.mistake("must be a mapping of keys to values", node)
            return
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.mistake("a key must be a text", key)
            elif key.value in self._values:
                self.mistake(f"the key {key.value!r} is there twice", key)
            else:
                self._keys[key.value], self._values[key.value] = key, value

    def mistake(self, problem: str, at: yaml.Node | None = None, key: str | None = None) -> None:
        """Note a mistake here, or at a key of this section."""
        where = self.where if key is None else self._path(key)
        if at is None and key is not None:
            at = self._values.get(key)
        line = self.line if at is None else at.start_mark.line + 1
        self._mistakes.append(Mistake(where or "the file", line, problem))

    def has(self, key: str) -> bool:
        """Whether the key is there and not null. Does not count as asking for it."""
        node = self._values.get(key)
        return node is not None and _scalar(node) is not _NULL

    def names(self) -> list[str]:
        """The keys, when they are names that the writer chose."""
        self._asked.update(self._values)
        return list(self._values)

    def number(self, key: str, default: float | None, *, low: float, high: float) -> float:
        """A number within bounds; without a default it must be there."""
        if (node := self._take(key, required=default is None)) is None:
            return low if default is None else default
        value = _scalar(node)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.mistake(f"must be a number from {low:g} to {high:g}", node, key)
            return low if default is None else default
        return float(value)

    def whole(self, key: str, default: int | None, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        if (node := self._take(key, required=default is None)) is None:
            return low if default is None else default
        value = _scalar(node)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.mistake(f"must be a whole number from {low} to {high}", node, key)
            return low if default is None else default
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty."""
        if (node := self._take(key, required=default is None)) is None:
            return default or ""
        value = _scalar(node)
        if not isinstance(value, str) or not value.strip():
            self.mistake("must be a text", node, key)
            return default or ""
        return value

    def choice(self, key: str, choices: tuple[T, ...], default: T | None = None) -> T:
        """One of a few words. `off` and `on`, which YAML reads as booleans, are the words here."""
        if (node := self._take(key, required=default is None)) is None:
            return choices[0] if default is None else default
        written = node.value if isinstance(node, yaml.ScalarNode) else None
        for known in choices:
            if written == known:
                return known
        self.mistake(f"must be one of {', '.join(choices)}", node, key)
        return choices[0] if default is None else default

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """A list of texts; required means: at least one."""
        if (node := self._take(key, required=required)) is None:
            return ()
        values = [_scalar(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else [_NULL]
        if not all(isinstance(value, str) and value for value in values) or (required and not values):
            self.mistake(f"must be a list of {'one or more ' if required else ''}texts", node, key)
            return ()
        return tuple(str(value) for value in values)

    def values(self, key: str) -> dict[str, Any]:
        """A mapping of plain values, one level of mappings within it allowed."""
        if (node := self._take(key, required=False)) is None:
            return {}
        try:
            told = _plain(node)
        except _NotPlainError as error:
            self.mistake("may hold texts, numbers, booleans, lists and mappings of them", error.node, key)
            return {}
        if not isinstance(told, dict):
            self.mistake("must be a mapping of keys to values", node, key)
            return {}
        return told

    def section(self, key: str, *, required: bool = False) -> "Section":
        """A mapping below this one; an empty section when it is absent."""
        node = self._take(key, required=required)
        return Section(node, self._path(key), self._mistakes, self.line)

    def sections(self, key: str) -> "list[Section]":
        """A list of mappings below this one."""
        if (node := self._take(key, required=False)) is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.mistake("must be a list", node, key)
            return []
        return [Section(item, f"{self._path(key)}[{i}]", self._mistakes) for i, item in enumerate(node.value)]

    def finish(self, also: Iterable[str] = ()) -> None:
        """Note every key that nobody asked for: a misspelt safety limit must not be ignored in silence."""
        known = self._asked | set(also)
        for key, node in self._keys.items():
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"
                self.mistake(f"unknown key{hint}", node, key)

    def _take(self, key: str, *, required: bool) -> yaml.Node | None:
        self._asked.add(key)
        node = self._values.get(key)
        if node is not None and _scalar(node) is _NULL:
            node = None
        if node is None and required:
            self.mistake("is missing", self._keys.get(key), key)
        return node

    def _path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


def compose(text: str, mistakes: list[Mistake]) -> Section:
    """The file's top section. Text that is not YAML is one mistake, with its line."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"is not YAML: {error.problem or error.context}"
        mistakes.append(Mistake("the file", 1 if mark is None else mark.line + 1, problem))
        return Section(None, "", [])
    except (yaml.YAMLError, RecursionError) as error:
        mistakes.append(Mistake("the file", 1, f"is not YAML: {error}"))
        return Section(None, "", [])
    if node is None:
        mistakes.append(Mistake("the file", 1, "is empty"))
        return Section(None, "", [])
    return Section(node, "", mistakes)


_NULL = object()
_MAX_DEPTH = 4


class _NotPlainError(Exception):
    def __init__(self, node: yaml.Node) -> None:
        super().__init__()
        self.node = node


def _scalar(node: yaml.Node) -> object:
    """A scalar's value as YAML reads it; `_NULL` for null, None for what is no scalar or cannot be read."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag == "tag:yaml.org,2002:null":
        return _NULL
    readers: dict[str, Callable[[str], object]] = {
        "str": str,
        "int": _int,
        "float": _float,
        "bool": lambda text: text.lower() in ("true", "yes", "on"),
    }
    reader = readers.get(node.tag.removeprefix("tag:yaml.org,2002:"))
    try:
        return None if reader is None else reader(node.value)
    except ValueError:
        return None


def _int(text: str) -> int:
    return int(text.replace("_", ""), 0) if text.lower().startswith(("0x", "0b", "0o")) else int(text)


def _float(text: str) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 -- NaN is what differs from itself
        raise ValueError(text)
    return value


def _plain(node: yaml.Node, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise _NotPlainError(node)
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value, depth + 1) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, depth + 1) for item in node.value]
    value = _scalar(node)
    if value is None or value is _NULL:
        raise _NotPlainError(node)
    return value
