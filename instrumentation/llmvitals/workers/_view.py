"""What ``/metrics`` shows: this process, or, where there are more workers, all of them as one."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar
from prometheus_client.values import ValueClass

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._series import OwnMetric
from llmvitals.exposition._encode import collectors_of
from llmvitals.workers import _kin
from llmvitals.workers._answer import Answers
from llmvitals.workers._cells import CellReader
from llmvitals.workers._group import Group, Member
from llmvitals.workers._merge import Foreign, Numbers
from llmvitals.workers._peers import Asking
from llmvitals.workers._retained import Retained, last_said, reading

_READ_TRIES = 3


class View:
    """A collector of the whole service. Thread-safe; one scrape of it at a time."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._shown: dict[str, OwnMetric] = {}
        self._group: Group | None = None

    def show(self, group: Group, answers: Answers, *, remember: bool) -> None:
        """Show all workers of *group* from now on. With *remember*, what this process shows is kept for a successor."""
        self._answers = answers
        self._remember = remember
        self._asking = Asking(group.path)
        self._retained = Retained(group.path, self._recorder.fault)
        self._readers: dict[str, CellReader] = {}
        self._lock = threading.Lock()
        self._last: Iterable[Any] = ()
        self._group = group

    def show_this(self) -> None:
        """Show this process alone from now on."""
        self._group = None

    def collect(self) -> Iterable[Metric]:
        for collector in self.collectors():
            yield from collector.collect()

    def collectors(self) -> Iterator[Any]:
        """Give what makes up a scrape, part by part; an encoder reads our own families faster than by ``collect()``."""
        group = self._group
        if group is None:
            yield from collectors_of(self._recorder.registry)
            return
        with self._lock:
            # When that fails: what was shown last, or nothing. A part would look like counters that were reset.
            with self._recorder.guard("workers"):
                if group.path.exists():
                    self._last = self._of_all(group)
                else:
                    self._recorder.fault("workers", FileNotFoundError(group.path), "only this worker is shown")
                    self._last = collectors_of(self._recorder.registry)
            yield from self._last

    def fold(self, *, least: int) -> None:
        """Put the numbers of the dead into the file for them, if there are at least so many."""
        group = self._group
        if group is not None:
            self._fold(group, group.members(), least)

    def _others(self, group: Group) -> list[Member]:
        return [member for member in group.members() if member.alive and member.name != group.name]

    def listener(self) -> tuple[socket.socket | None, bool]:
        """Return the socket on which another worker accepts scrapes; else None, and whether surely none does."""
        group = self._group
        return (None, True) if group is None else self._asking.listener([peer.name for peer in self._others(group)])

    def _of_all(self, group: Group) -> Iterable[Any]:
        """Return the parts of a scrape of all workers; of this process, where it has always been the only one."""
        in_files = _files()
        if group.is_alone and not in_files:
            if self._remember:
                self._answers.answer()
            return collectors_of(self._recorder.registry)
        own: dict[str, Any] = {}
        present = group.members()
        said, hung = self._asking.numbers(
            [member.name for member in present if member.alive and member.name != group.name],
            lambda: own.update(self._answers.answer()),
        )
        said[group.name] = own
        numbers, living, dead_foreign = self._read(group, present)
        foreign = Foreign()
        many = group.is_of_many(len(living))
        for member in living:
            answer = said.get(member.name)
            if answer is None:
                answer = last_said(group.path, member.name, self._recorder.fault)
                if member.name in hung:
                    self._recorder.fault(
                        "workers",
                        TimeoutError(f"worker {member.slot} (pid {member.pid}) did not answer in time"),
                        "what it showed last is shown",
                    )
            with self._recorder.guard("workers"):
                foreign.add(answer.get("foreign", []), str(member.slot) if many else None)
        foreign.add_dead(dead_foreign)
        if many:
            self._count_workers(numbers, living, said)
        parts: list[Any] = [*self._own(numbers, [said[member.name] for member in living if member.name in said])]
        parts += in_files
        # OpenTelemetry's collector may show some of ours: see `llmvitals._stepping_back`.
        return [*(part for part in parts if getattr(part, "name", "") not in foreign.names), foreign]

    def _read(self, group: Group, present: list[Member]) -> tuple[Numbers, list[Member], list[Any]]:
        """Return the numbers of all workers, dead ones included; who lives; and what the dead showed besides."""
        left = self._fold(group, present)
        for _ in range(_READ_TRIES):
            with suppress(FileNotFoundError):  # Somebody folded it meanwhile.
                read = self._read_once(group, left)
                before = self._retained.version
                self._retained.read()
                if self._retained.version == before:
                    return read
        with group.lock():
            return self._read_once(group, left)

    def _read_once(self, group: Group, left: list[Any]) -> tuple[Numbers, list[Member], list[Any]]:
        numbers = Numbers(self._recorder.fault)
        own, foreign = self._retained.read()
        folded = {*self._retained.folded, *(name for name, _ in left)}
        present = [member for member in group.members() if member.name not in folded]
        for member in present:
            reader = self._readers.setdefault(member.name, CellReader())
            series, said = reading(group.path, member.name, self._recorder.fault, reader)
            if member.alive:
                numbers.add(series)
            else:
                left = [*left, (member.name, (series, said))]
        for _, (series, said) in left:
            numbers.add_dead(series)
            foreign = [*foreign, *said]
        numbers.add_dead(own)
        self._readers = {member.name: self._readers[member.name] for member in present}
        return numbers, [member for member in present if member.alive], foreign

    def _fold(self, group: Group, present: list[Member], least: int = 1) -> list[Any]:
        """Put the numbers of the dead into the file for them; return what they left where that cannot be written."""
        if sum(not member.alive for member in present) < least:
            return []
        with group.lock():
            # Only under the lock are they surely dead: a new one has a file before it holds it.
            dead = [member for member in group.members() if not member.alive]
            return self._bury(dead)

    def _bury(self, dead: list[Member]) -> list[Any]:
        """Fold the dead; return what they left where that cannot be written."""
        try:
            self._retained.fold([member.name for member in dead])
        except OSError as error:
            self._recorder.fault("workers", error, "files of dead workers stay where they are")
            folded = self._retained.folded
            return [(member.name, self._retained.reading(member.name)) for member in dead if member.name not in folded]
        if ValueClass._multiprocess:  # noqa: SLF001 -- no public way to know
            from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 -- most have none

            for member in dead:
                if not _kin.started_at(member.pid):
                    with self._recorder.guard("workers"):
                        mark_process_dead(member.pid)  # type: ignore[no-untyped-call]  # untyped there
        return []

    def _count_workers(self, numbers: Numbers, living: list[Member], said: dict[str, Any]) -> None:
        resident = catalogue.WORKER_RESIDENT_MEMORY
        numbers.add([(catalogue.WORKERS, (), [float(len(living))])])
        numbers.add(
            (resident, (str(member.slot),), [float(said[member.name].get("resident_bytes", 0))])
            for member in living
            if member.name in said
        )

    def _own(self, numbers: Numbers, said: list[dict[str, Any]]) -> list[OwnMetric]:
        for name, family in numbers.families.items():
            shown = self._shown.get(name)
            if shown is None or shown.family is not family:
                shown = self._shown[name] = OwnMetric(family, None)
            shown.show(numbers.cells[name])
        parts = [self._shown[name] for name in numbers.families]
        with self._recorder.guard("workers"):
            for answer in said:
                for name, texts, exemplars in answer.get("exemplars", ()):
                    if name in numbers.families:
                        self._shown[name].exemplify(
                            tuple(texts), {int(at): Exemplar(*exemplar) for at, exemplar in exemplars.items()}
                        )
        return parts


def _files() -> list[Any]:
    """Return the collector of prometheus_client's multiprocess mode; nothing where that is off."""
    if not ValueClass._multiprocess:  # noqa: SLF001 -- no public way to know
        return []
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 -- most have none

    try:
        return [MultiProcessCollector(None)]  # type: ignore[no-untyped-call]  # untyped there
    except ValueError:  # Its directory has gone; prometheus_client says so itself, to whoever counts.
        return []
