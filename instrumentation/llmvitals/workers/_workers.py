"""One process of a service that may have many: it joins the others, shows all of them, and leaves."""

import logging
import os
import socket
import sys
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._series import PRIVATE
from llmvitals.workers import _group, _kin
from llmvitals.workers._answer import Answers, Inherited, inherited
from llmvitals.workers._cells import CellFile
from llmvitals.workers._group import Group
from llmvitals.workers._kin import Process
from llmvitals.workers._peers import Peers
from llmvitals.workers._retained import Retained
from llmvitals.workers._view import View

log = logging.getLogger("llmvitals")

_PORT_SECONDS = 2.0
_PATIENCE_SECONDS = 16  # That an address is tried for, when it is other workers', before that is told.
_SELDOM_SECONDS = 64
_MANY_DEAD = 8
"""A new worker folds the dead when they are so many; else the next scrape does."""


class _SilentError(OSError):
    """An address is taken, perhaps by workers of the same service that had no time to say so."""


class Workers:
    """This process among the workers of its service; made by `join`."""

    def __init__(self, recorder: Recorder, key: str, marks: list[str]) -> None:
        """Raises OSError where workers cannot share anything."""
        self._recorder = recorder
        self._key = key
        # Of several services in one process, each worker's first is one service, each second one another.
        alike = sum(workers.key == key for workers in _running)
        self._address = _kin.digest(key, alike)
        self._marks = marks
        self._listener: socket.socket | None = None
        self._act: Callable[[], None] | None = None
        self._tasks: list[Callable[[], bool]] = []
        self._leads = -1
        self._open = True
        self._inherited: Inherited = {}
        self._taken_along: Inherited = {}
        self.view = View(recorder)
        parents = _kin.parents()
        self._enter(_group.join(self._address, marks, parents), parents)
        with recorder.guard("workers"):
            self.view.fold(least=_MANY_DEAD)
        _running.add(self)
        if _kin.is_multiprocessing_child():
            self.finish_with_multiprocessing()

    @property
    def key(self) -> str:
        return self._key

    def _enter(self, group: Group, parents: list[Process], *, forked: bool = False) -> None:
        recorder = self._recorder
        path = group.path / group.name
        with ExitStack() as undo:
            undo.callback(group.let_go)
            cells = CellFile(group.open_cells(), recorder.fault)
            undo.callback(cells.close)
            answers = Answers(recorder, path, cells, self._inherited)
            peers = Peers(
                path,
                answer=answers.answer,
                listener=lambda: self._listener,
                tick=self._tick,
                on_fault=recorder.fault,
            )
            undo.pop_all()
        self._group, self._cells, self._answers, self._peers = group, cells, answers, peers
        recorder.move(cells, forked=forked)
        self.view.show(group, answers, remember=bool(parents))
        with recorder.guard("workers"):
            peers.start()

    # --- One address ----------------------------------------------------------------------------------------------

    def listen(self, serve: Callable[[socket.socket | None], socket.socket]) -> None:
        """Have *serve* accept scrapes on the socket of the other workers, or on one that it makes and returns.

        Raises what *serve* raises. The address is tried again then, ever more seldom: who holds it may be about to end,
        or be another worker, that had no time to answer; in that case nothing is raised for the first seconds.
        """
        seconds = 0

        def again() -> bool:
            nonlocal seconds
            seconds += 1
            if seconds & (seconds - 1) and seconds % _SELDOM_SECONDS:  # At 1, 2, 4, 8, ... and then each minute.
                return False
            try:
                self._listen(serve)
            except OSError as error:
                if seconds == _PATIENCE_SECONDS and silent:
                    self._recorder.fault("exposition", error, "this worker answers no scrapes; it tries again")
                return False
            return True

        silent = False
        try:
            self._listen(serve)
        except _SilentError:
            silent = True
            self._soon(again)
        except OSError:
            self._soon(again)
            raise

    def _listen(self, serve: Callable[[socket.socket | None], socket.socket]) -> None:
        listener, _ = self.view.listener()
        if listener is not None:
            self._listener = serve(listener)
            return
        in_vain = True
        with ExitStack() as held:
            with self._recorder.guard("workers"):
                # Two that start at once do not both bind. Without the lock, at worst the port is found taken.
                held.enter_context(_group.locked(self._group.path / "port.lock", _PORT_SECONDS))
                listener, in_vain = self.view.listener()
            try:
                self._listener = serve(listener)
            except OSError as error:
                if in_vain:
                    raise
                raise _SilentError(str(error)) from error

    # --- One agent ------------------------------------------------------------------------------------------------

    def lead(self, act: Callable[[], None]) -> None:
        """Call *act* in one worker only: here and now, or, when the one that leads has gone, in a thread."""
        self._act = act
        if self._take_lead():
            return
        log.warning(
            "llmvitals: the agent runs in another worker of this service: commands act in one worker at a time; "
            "what they should change in all of them must be shared by the application"
        )
        self._soon(self._take_lead)

    def _take_lead(self) -> bool:
        if self._leads < 0:
            descriptor = os.open(self._group.path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not _group.try_lock(descriptor):
                os.close(descriptor)
                return False
            self._leads = descriptor
            if self._act is not None:
                self._act()
        return True

    def _soon(self, task: Callable[[], bool]) -> None:
        """Call *task* each second, in a thread, until it returns True."""
        self._tasks.append(task)
        self._peers.wake()

    def _tick(self) -> bool:
        """Try what could not be done yet; return whether there is more of it."""
        for task in list(self._tasks):
            done = False
            with self._recorder.guard("workers"):
                done = task()
            if done:
                self._tasks.remove(task)
        return bool(self._tasks)

    # --- Its end, and a child's beginning -------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the others this worker's numbers, and no file when it was the last. The second time does nothing."""
        if not self._open:
            return
        self._open = False
        _running.discard(self)
        recorder = self._recorder
        with recorder.guard("workers"):
            self._peers.close()
        self._answers.answer()
        self.view.show_this()
        recorder.move(PRIVATE)
        self._listener = None
        self._let_go()
        with recorder.guard("workers"):
            self._group.leave(Retained(self._group.path, recorder.fault).fold)

    def _let_go(self) -> None:
        if self._leads >= 0:
            os.close(self._leads)
            self._leads = -1
        self._cells.close()

    def before_fork(self) -> None:
        """Note what the child takes along: there, another thread's lock may never be free again."""
        with self._recorder.guard("workers"):
            self._taken_along = inherited(self._recorder.registry)

    def after_fork(self) -> None:
        """In the child: be another worker, which has counted nothing yet."""
        recorder = self._recorder
        path = self._group.path
        self._listener = None
        # Scrapes are answered by the parent, which also leads: until it ends, when there is something to lead.
        self._tasks = [] if self._act is None else [self._take_lead]
        self._inherited = self._taken_along
        with suppress(OSError):
            self._group.let_go()
            self._peers.drop()
            self._let_go()
        try:
            parents = _kin.parents()
            try:
                group = _group.enter(path, self._marks, parents)
            except FileNotFoundError:  # The parent was quick to leave.
                group = _group.join(self._address, self._marks, parents)
            self._enter(group, parents, forked=True)
        except Exception as error:  # noqa: BLE001 -- the child goes on by itself
            self._open = False
            recorder.move(PRIVATE, forked=True)
            self.view.show_this()
            recorder.fault("workers", error, "this process is no part of the service's /metrics")
            return
        for metric in recorder.own_metrics():
            if metric.family in _THE_PARENTS:
                for texts, _ in metric.series():
                    recorder.forget(metric.family, *texts)
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:
            # What multiprocessing forks ends without atexit, and forgets at its beginning what was to be finalised.
            util.register_after_fork(self, Workers.finish_with_multiprocessing)

    def finish_with_multiprocessing(self) -> None:
        """Be closed at the end of a process of multiprocessing's."""
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(self, self.close, exitpriority=0)


# What threads of the parent keep up to date, which the child has not.
_THE_PARENTS = (
    catalogue.AGENT_INFO,
    catalogue.AGENT_CONNECTED,
    catalogue.TUNABLE_LEASES,
    catalogue.MEMORY_GROWTH,
)

_running: "weakref.WeakSet[Workers]" = weakref.WeakSet()


def _before_fork() -> None:
    for workers in list(_running):
        workers.before_fork()


def _after_fork_in_child() -> None:
    for workers in list(_running):
        workers.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
