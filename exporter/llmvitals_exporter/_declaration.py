"""The contract between the frame and a collector.

A collector is one module in `collectors/` with one `Declaration`. Its `open` gets the settings and returns a `Source`,
or None when the settings give it nothing to do. A source's `read` either returns all its readings or raises: what it
cannot know it leaves out, and it never answers with an old value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from llmvitals_exporter._family import Family, Reading

T = TypeVar("T")


class NothingToCollect(Exception):  # noqa: N818 -- not an error: this machine lacks what the collector reads
    """This machine has nothing of the kind, so the collector contributes no series at all, its health included."""


class CollectionFailedError(Exception):
    """A collection failed, and only `health` of it may be published.

    Args:
        message: What failed, in the collector's words.
        health: Readings about the failure itself, such as a driver's return code.
    """

    def __init__(self, message: str, health: Sequence[Reading] = ()) -> None:
        super().__init__(message)
        self.health = tuple(health)


class Source(Protocol):
    """An opened collector."""

    def read(self) -> Iterable[Reading]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reader:
    """A source that keeps nothing between two reads."""

    read: Callable[[], Iterable[Reading]]

    def close(self) -> None:
        """There is nothing to give back."""


@dataclass(frozen=True, slots=True, eq=False)
class Option(Generic[T]):
    """A setting that a collector declares; the command line is made from these.

    Attributes:
        flag: As typed, for example ``--watch``.
        parse: Gets every text given for the flag, and raises ValueError, or an ExceptionGroup of them, that says
            what is wrong with a value.
    """

    flag: str
    metavar: str
    help: str
    default: T
    parse: Callable[[Sequence[str]], T]


class Settings:
    """The options' values; one that was not given has its default."""

    def __init__(self, values: Mapping[Option[Any], Any] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, option: Option[T]) -> T:
        return cast("T", self._values.get(option, option.default))


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the frame knows of a collector.

    Attributes:
        name: The value of the label ``collector``.
        help: One line for ``--list``.
        families: Everything that it may emit.
        options: What it can be told.
        waits: True when a read can wait for something outside this process (a driver, a disk, a server). Such a
            collector is read in its own thread, so that it delays no other.
    """

    name: str
    help: str
    families: tuple[Family, ...]
    open: Callable[[Settings], Source | None]
    options: tuple[Option[Any], ...] = ()
    waits: bool = False


def once(parse: Callable[[str], T]) -> Callable[[Sequence[str]], T]:
    """For an option that may be given one time."""

    def parse_one(texts: Sequence[str]) -> T:
        if len(texts) > 1:
            raise ValueError(f"is given {len(texts)} times; give it once")
        return parse(texts[0])

    return parse_one


def each(parse: Callable[[str], T]) -> Callable[[Sequence[str]], tuple[T, ...]]:
    """For an option that may be repeated; all wrong values are told together."""

    def parse_all(texts: Sequence[str]) -> tuple[T, ...]:
        values: list[T] = []
        errors: list[ValueError] = []
        for text in texts:
            try:
                values.append(parse(text))
            except ValueError as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("values that cannot be used", errors)
        return tuple(values)

    return parse_all


def one_of(*words: str) -> Callable[[Sequence[str]], str]:
    """For an option that is one of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return once(parse)


def some_of(*words: str) -> Callable[[Sequence[str]], tuple[str, ...]]:
    """For an option that is a comma-separated choice of a few words, and may be repeated."""

    def parse(texts: Sequence[str]) -> tuple[str, ...]:
        chosen = tuple(word.strip() for text in texts for word in text.split(",") if word.strip())
        unknown = [word for word in chosen if word not in words]
        if unknown:
            raise ValueError(f"{', '.join(unknown)!r} is none of {', '.join(words)}")
        return chosen

    return parse
