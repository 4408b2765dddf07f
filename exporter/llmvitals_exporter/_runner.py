"""Reads all collectors, each isolated from the others, and waits for none longer than its time.

Collectors that only read the kernel's files share one thread, one after another; each one that waits for something
outside has its own. A collector that is late is *stuck*: its thread is left alone until it returns, it is skipped by
the scrapes meanwhile, and whoever stood behind it goes on in a new thread. So there is at most one thread left behind
for each collector, however many scrapes come.
"""

import logging
import math
import queue
import re
import threading
import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from llmvitals_exporter._declaration import (
    CollectionFailedError,
    Declaration,
    NothingToCollect,
    Settings,
    Source,
)
from llmvitals_exporter._family import Reading
from llmvitals_exporter._samples import Samples, checked

_log = logging.getLogger("llmvitals_exporter")

_FIGURES = re.compile(r"[0-9.]+")


class State(Enum):
    """What became of one collector in one scrape."""

    OK = "ok"
    FAILED = "failed"
    STUCK = "stuck"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One collector's part of a scrape; its samples are complete, or there are none but those about the failure."""

    collector: str
    state: State
    seconds: float
    samples: Samples
    error: str = ""


@dataclass(slots=True, eq=False)
class _Unopened:
    """A source that could not be opened at the start; each read tries it again."""

    declaration: Declaration
    settings: Settings
    source: Source | None = None

    def read(self) -> Iterable[Reading]:
        if self.source is None:
            self.source = self.declaration.open(self.settings)
        return () if self.source is None else self.source.read()

    def close(self) -> None:
        if self.source is not None:
            self.source.close()


@dataclass(slots=True, eq=False)
class _Member:
    declaration: Declaration
    source: Source
    busy: bool = False
    #: Told last; a failure or an absence is logged when it begins, changes or ends, not at each scrape.
    told: str = ""


@dataclass(slots=True, eq=False)
class _Turn:
    """One collector's turn in one scrape. Whoever takes it first, the reading thread or the clock, decides it."""

    member: _Member
    started: float = field(default_factory=time.monotonic)
    decided: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """Members that one thread reads one after another.

    Attributes:
        turn: The last that began; None before the first.
        outcomes: Of those that came back in time.
    """

    waiting: list[_Member]
    turn: _Turn | None = None
    outcomes: list[Outcome] = field(default_factory=list)


#: The lanes that are through. One word for each: every wake-up makes the threads pass Python's lock to and fro.
_Through = queue.SimpleQueue[_Lane]


class Runner:
    """Opens the collectors, and reads them all whenever it is asked.

    Args:
        timeout: Seconds that one collector may take.
    """

    def __init__(self, declarations: Sequence[Declaration], settings: Settings, *, timeout: float = 2.0) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._members = []
        for declaration in declarations:
            source: Source | None
            try:
                source = declaration.open(settings)
            except Exception:  # noqa: BLE001 -- whatever it is: the others are served, and the first read tells it
                source = _Unopened(declaration, settings)
            if source is not None:
                self._members.append(_Member(declaration, source))

    @property
    def collectors(self) -> tuple[str, ...]:
        """The names of those that the settings gave something to do."""
        return tuple(member.declaration.name for member in self._members)

    def collect(self, *, only: Container[str] | None = None, within: float = math.inf) -> list[Outcome]:
        """One outcome for each collector, in the order of their declarations. One call at a time.

        Args:
            only: The names of those to read; all when None.
            within: Seconds that the whole may take. Who is not ready by then is stuck, or had no time.
        """
        deadline = time.monotonic() + within
        members = [member for member in self._members if only is None or member.declaration.name in only]
        through: _Through = queue.SimpleQueue()
        outcomes: dict[str, Outcome] = {}
        lanes = self._lanes(members, outcomes)
        for lane in lanes:
            self._start(lane, through)
        while lanes:
            arrived = self._next(through, lanes, deadline)
            if arrived is not None:
                lanes.remove(arrived)
                _take(outcomes, arrived.outcomes)
            elif time.monotonic() < deadline:
                lanes = self._give_up_the_late(through, lanes, outcomes)
            else:
                _take(outcomes, self._stop(lanes))
                over = f"the {within:g} s of the scrape were over"
                for member in members:
                    name = member.declaration.name
                    outcomes.setdefault(name, Outcome(name, State.STUCK, within, {}, over))
                break
        self._tell(members, outcomes)
        return [outcomes[member.declaration.name] for member in members]

    def close(self) -> None:
        for member in self._members:
            member.source.close()

    # --- Lanes --------------------------------------------------------------------------------------------------------

    def _lanes(self, members: Sequence[_Member], outcomes: dict[str, Outcome]) -> list[_Lane]:
        """Who is to be read; those still stuck in an earlier scrape have their outcome at once."""
        shared = _Lane([])
        lanes = [shared]
        for member in members:
            name = member.declaration.name
            with self._lock:
                busy = member.busy
            if busy:
                outcomes[name] = Outcome(name, State.STUCK, 0.0, {}, "has not returned from an earlier scrape")
            elif member.declaration.waits:
                lanes.append(_Lane([member]))
            else:
                shared.waiting.append(member)
        return [lane for lane in lanes if lane.waiting]

    def _start(self, lane: _Lane, through: _Through) -> None:
        threading.Thread(target=self._run, args=(lane, through), name="collector", daemon=True).start()

    def _run(self, lane: _Lane, through: _Through) -> None:
        while True:
            with self._lock:
                if not lane.waiting:
                    break
                member = lane.waiting.pop(0)
                member.busy = True
                turn = lane.turn = _Turn(member)
            outcome = _read(member, turn.started)
            with self._lock:
                member.busy = False
                if turn.decided:
                    return  # The scrape went on without us.
                turn.decided = True
                lane.outcomes.append(outcome)
        through.put(lane)

    # --- Time ---------------------------------------------------------------------------------------------------------

    def _next(self, through: _Through, lanes: Sequence[_Lane], deadline: float) -> _Lane | None:
        """The next lane that is through, or None when somebody may be late, or all are."""
        with self._lock:
            turns = [lane.turn for lane in lanes]
        now = time.monotonic()
        # A turn that began meanwhile is seen at the end of the one before it, which is never later than its own.
        end = min(deadline, *((now if turn is None else turn.started) + self._timeout for turn in turns))
        try:
            return through.get(timeout=max(0.0, end - now))
        except queue.Empty:
            return None

    def _give_up_the_late(self, through: _Through, lanes: Sequence[_Lane], outcomes: dict[str, Outcome]) -> list[_Lane]:
        """Returns the lanes to wait for: a late one is replaced by one of those who stood behind."""
        going = []
        for lane in lanes:
            with self._lock:
                turn, now = lane.turn, time.monotonic()
                late = turn is not None and not turn.decided and now - turn.started >= self._timeout
                if turn is None or not late:
                    going.append(lane)
                    continue
                turn.decided = True
                # A list of its own: the late thread must find nothing more to do.
                rest, lane.waiting = _Lane(lane.waiting), []
            name = turn.member.declaration.name
            stuck = Outcome(name, State.STUCK, now - turn.started, {}, f"took longer than {self._timeout:g} s")
            _take(outcomes, [*lane.outcomes, stuck])
            if rest.waiting:
                going.append(rest)
                self._start(rest, through)
        return going

    def _stop(self, lanes: Sequence[_Lane]) -> list[Outcome]:
        """What there is; nothing more is read for this scrape."""
        with self._lock:
            for lane in lanes:
                lane.waiting.clear()
                if lane.turn is not None:
                    lane.turn.decided = True
            return [outcome for lane in lanes for outcome in lane.outcomes]

    # --- The log ------------------------------------------------------------------------------------------------------

    def _tell(self, members: Sequence[_Member], outcomes: dict[str, Outcome]) -> None:
        for member in members:
            outcome = outcomes[member.declaration.name]
            # Figures in the text change from scrape to scrape and are no news.
            news = "" if outcome.state is State.OK else f"{outcome.state.value} {_FIGURES.sub('', outcome.error)}"
            if news == member.told:
                continue
            member.told = news
            if outcome.state is State.OK:
                _log.info("collector %s works again", outcome.collector)
            elif outcome.state is State.ABSENT:
                _log.info("collector %s has nothing to read here: %s", outcome.collector, outcome.error)
            else:
                _log.warning("collector %s %s: %s", outcome.collector, outcome.state.value, outcome.error)


def _take(outcomes: dict[str, Outcome], more: Sequence[Outcome]) -> None:
    outcomes.update((outcome.collector, outcome) for outcome in more)


# --- One collector ----------------------------------------------------------------------------------------------------


def _read(member: _Member, started: float) -> Outcome:
    name = member.declaration.name
    state, samples, error = State.OK, {}, ""
    try:
        try:
            samples = checked(member.declaration, member.source.read())
        except CollectionFailedError as failure:
            state, error = State.FAILED, str(failure)
            samples = checked(member.declaration, failure.health)
    except NothingToCollect as absence:
        state, error = State.ABSENT, str(absence)
    except BaseException as failure:  # noqa: BLE001 -- whatever it is, even SystemExit: the others are served
        state, error = State.FAILED, f"{type(failure).__name__}: {failure}"
    return Outcome(name, state, time.monotonic() - started, samples, error)
