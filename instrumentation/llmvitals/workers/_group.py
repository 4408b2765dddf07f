"""The directory that the workers of one service share: who is in it, who still lives, and when it goes.

In it: `lock`, `group.json`, for each worker its cells (`w<slot>.<process id>-<token>`), beside them its socket
(`.sock`) and what it last said of all that is not in cells (`.last`), and `retained`, the numbers of the dead. A worker
holds a lock on its cells: when it can be had, the worker is dead, whatever its process id is used for by then.
"""

import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmvitals.workers import _kin
from llmvitals.workers._kin import Process

VARIABLE = "LLMVITALS_WORKERS_DIR"
LOCK_SECONDS = 5.0
"""How long one other worker is waited for. They hold a lock for a millisecond, unless one is stopped in that."""

_HERD_SECONDS = 30.0
"""How long all others together are waited for, while a lock goes from one to the next."""

_FORGOTTEN_AFTER_SECONDS = 86_400.0
_RETAINED, _MANY, _BAD = "retained", "many", "bad"

# Nothing else is ever looked at or removed, whatever directory we were pointed to.
_GROUP = re.compile(r"[0-9a-f]{20}\.[0-9a-f]{8}")
_MEMBER = re.compile(r"w(\d{1,6})\.(\d+)-[0-9a-f]{12}")
_OURS = re.compile(
    rf"{_MEMBER.pattern}(\.sock|\.last)?|\..+\.[0-9a-f]{{8}}|(port\.|agent\.)?lock|group\.json"
    rf"|{_RETAINED}|{_MANY}|{_BAD}"
)


class NoGroupError(OSError):
    """Workers cannot share numbers here; the text says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One worker, dead or alive, as its file in the group's directory says."""

    name: str
    slot: int
    pid: int
    alive: bool


def base_directory() -> Path:
    """Return this user's directory for all groups. Raises NoGroupError when it is not this user's alone."""
    parent = Path("/dev/shm")  # noqa: S108 -- inside is a directory of ours, checked below
    if not os.access(parent, os.W_OK | os.X_OK):
        import tempfile  # noqa: PLC0415 -- milliseconds that Linux is spared

        parent = Path(tempfile.gettempdir())
    path = Path(os.environ.get(VARIABLE) or parent / f"llmvitals-{os.geteuid()}")
    with suppress(FileExistsError):
        path.mkdir(0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise NoGroupError(
            f"{path} must be a directory of user {os.geteuid()} alone (mode 0700); remove it or set {VARIABLE}"
        )
    return path


@contextmanager
def locked(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of the file at *path*, which is made if need be. TimeoutError when one other holds it that long."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not try_lock(descriptor, seconds):
            raise TimeoutError(f"another worker has held {path} for {seconds:g} s")
        os.utime(descriptor)  # Who waits sees that it has gone to another.
        try:
            yield
        finally:
            # Closing is not enough: a process that another thread forked meanwhile has this description, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, seconds: float = 0.0, *, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file, when nobody holds it for *seconds* on end; return whether it could be had."""
    now = time.monotonic()
    until, latest = now + seconds, now + max(seconds, _HERD_SECONDS if seconds else 0.0)
    pause, taken = 0.0005, 0
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            now, last, taken = time.monotonic(), taken, os.fstat(descriptor).st_mtime_ns
            if taken != last:
                until = min(now + seconds, latest)
            if now >= until:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
        else:
            return True


class Group:
    """This process's place among the workers of its service; made by `join` or `enter`."""

    def __init__(self, path: Path, name: str, slot: int, descriptor: int) -> None:
        self.path = path
        self.name = name
        self.slot = slot
        self._held = descriptor

    def lock(self, seconds: float = LOCK_SECONDS) -> Any:
        """Hold the lock under which files come and go: a context manager."""
        return locked(self.path / "lock", seconds)

    def members(self) -> list[Member]:
        """Return all workers, this one included, by slot. Only under the lock are the dead surely dead."""
        return members(self.path, self.name if self._held >= 0 else "")

    def open_cells(self) -> int:
        """Return a descriptor of this worker's own file."""
        return os.open(self.path / self.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    @property
    def is_alone(self) -> bool:
        """Whether this process is, and has always been, the only one."""
        return not any(
            name in (_RETAINED, _MANY) or (_is_member(name) and name != self.name) for name in _names(self.path)
        )

    def is_of_many(self, living: int) -> bool:
        """Whether workers are told from each other: once two have been seen at once, for good."""
        path = self.path / _MANY
        if living > 1:
            with suppress(OSError):
                path.touch(0o600)
            return True
        return path.exists()

    def let_go(self) -> None:
        """Be no member any more: what a forked child does at once, and a worker at its end."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def leave(self, fold: Callable[[list[str]], None]) -> None:
        """Let go. When that leaves nobody, take the directory away; or, when more workers may come, *fold* the dead."""
        try:
            with locked(self.path.parent / "lock"):
                self.let_go()
                with self.lock():
                    left = self.members()
                    if _is_over(self.path, but=os.getpid()):
                        remove(self.path)
                    elif not any(member.alive for member in left):
                        fold([member.name for member in left])
        except FileNotFoundError:  # It is away.
            return
        finally:
            self.let_go()


def join(address: str, marks: list[str], parents: list[Process]) -> Group:
    """Enter the group at *address* that shares a mark with this process, or found it. OSError where that cannot be."""
    base = base_directory()
    with locked(base / "lock"):
        path = _found(base, address, marks, parents)
        if path is None:
            # A service starts: the time to look what others have left.
            _sweep(base, but=0)
            path = base / f"{address}.{secrets.token_hex(4)}"
            path.mkdir(0o700)
        return enter(path, marks, parents)


def enter(path: Path, marks: list[str], parents: list[Process]) -> Group:
    """Enter the group in the directory *path*, with a file of one's own, locked. OSError where that cannot be."""
    with locked(path / "lock"):
        _introduce(path, marks, parents)
        taken = {member.slot for member in members(path) if member.alive}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        name = f"w{slot}.{os.getpid()}-{secrets.token_hex(6)}"
        return Group(path, name, slot, _hold(path / name))


def members(path: Path, own: str = "") -> list[Member]:
    found = []
    for name in _names(path):
        match = _MEMBER.fullmatch(name)
        if match:
            with suppress(FileNotFoundError):
                found.append(Member(name, int(match[1]), int(match[2]), name == own or _is_held(path / name)))
    return sorted(found, key=lambda member: (member.slot, member.name))


def sweep(base: Path, *, but: int = 0) -> None:
    """Take away what services have left that ended as a whole; the process *but* that made them makes none any more."""
    with locked(base / "lock"):
        _sweep(base, but=but)


def _sweep(base: Path, *, but: int) -> None:
    for path in filter(lambda path: _GROUP.fullmatch(path.name), base.iterdir()):
        with suppress(OSError), locked(path / "lock", 0.0):
            if _is_over(path, but=but):
                remove(path)


def remove(path: Path) -> None:
    """Remove a group's directory with what a group keeps there, and nothing else."""
    for name in _names(path):
        if _OURS.fullmatch(name):
            with suppress(FileNotFoundError):
                (path / name).unlink()
    path.rmdir()


def put_aside(path: Path) -> None:
    """Move a damaged file out of the way; of several the last is kept."""
    with suppress(FileNotFoundError):
        path.replace(path.with_name(_BAD))


def write(path: Path, data: bytes) -> None:
    """Replace a file as a whole: whoever reads has the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path, most: int, used: Callable[[bytes], int] | None = None) -> bytes:
    """Read a regular file; with *used*, as much as that makes of its first bytes.

    FileNotFoundError; OSError for anything else that cannot be read, or is over *most* bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise OSError(f"{path} is no file of at most {most} bytes")
        size = found.st_size if used is None else min(used(os.pread(descriptor, 16, 0)), found.st_size)
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)


def _hold(path: Path) -> int:
    # A description of its own: a mapping keeps another one open for as long as there are series in it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if not try_lock(descriptor, LOCK_SECONDS):
        os.close(descriptor)
        raise NoGroupError(f"{path} is locked by somebody else")
    return descriptor


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        # Shared, so that two who look at once do not take each other for the owner.
        return not try_lock(descriptor, kind=fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _names(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def _is_member(name: str) -> bool:
    return _MEMBER.fullmatch(name) is not None


def _found(base: Path, address: str, marks: list[str], parents: list[Process]) -> Path | None:
    for path in sorted(base.glob(f"{address}.*")):
        ours = bool(set(marks) & set(_known(path)["marks"])) or any(
            member.alive and member.pid == pid for pid, _ in parents for member in members(path)
        )
        if ours and not _is_over(path, but=0):
            return path
    return None


def _introduce(path: Path, marks: list[str], parents: list[Process]) -> None:
    """Write down this process's marks, and who its parents are, for they may make more workers."""
    known = _known(path)
    if set(marks) <= set(known["marks"]) and set(parents) <= set(known["parents"]):
        return  # As nearly always: workers are alike.
    living = {process for process in (*known["parents"], *parents) if _kin.is_alive(process)}
    new = {
        "namespaces": list(_kin.namespaces()),
        "marks": sorted({*known["marks"], *marks}),
        "parents": sorted(living),
    }
    write(path / "group.json", json.dumps(new).encode())


def _known(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(read(path / "group.json", 1 << 20))
        return {
            "namespaces": list(known["namespaces"]),
            "marks": [str(mark) for mark in known["marks"]],
            "parents": [(int(pid), str(at)) for pid, at in known["parents"]],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {"namespaces": [], "marks": [], "parents": []}


def _is_over(path: Path, *, but: int) -> bool:
    """Whether nobody lives in a group, and nobody lives, *but* that process id, who makes workers of it."""
    known = _known(path)
    ours = not known["namespaces"] or known["namespaces"] == list(_kin.namespaces())
    if ours and any(pid != but and _kin.is_alive((pid, started)) for pid, started in known["parents"]):
        return False
    if any(member.alive for member in members(path)):
        return False
    # Another container's processes cannot be seen from here.
    return ours or time.time() - path.stat().st_mtime > _FORGOTTEN_AFTER_SECONDS
