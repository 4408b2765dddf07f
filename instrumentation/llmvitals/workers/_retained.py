"""What dead workers counted, in one file, so that theirs need not be kept.

A worker's numbers move by one rename: the new file has them, and the name of the worker's own file, which is removed
only then. Killed in between, nothing is lost, and nobody adds a file whose name is in there already.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmvitals.workers import _group
from llmvitals.workers._cells import MOST_BYTES, CellReader, DamagedError, Series, used
from llmvitals.workers._merge import Foreign, Numbers, OnFault, as_json, series_of

NAME = "retained"
LAST = ".last"
SOCKET = ".sock"

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}")
_EVERYBODYS = {NAME, "group.json"}


class Retained:
    """The numbers of the dead in one group; reads its file anew only when another has written it. Not thread-safe."""

    def __init__(self, path: Path, on_fault: OnFault) -> None:
        self._path = path / NAME
        self._on_fault = on_fault
        self.version: tuple[int, int, int] | None = None
        """Of the file that was read last: another one is another version. None when there was none."""

        self._kept: tuple[list[Series], list[Any], list[str]] = ([], [], [])

    def read(self) -> tuple[list[Series], list[Any]]:
        """Return the series of our own, and foreign families as JSON."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self.version, self._kept = None, ([], [], [])
            return [], []
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != self.version:
            try:
                content = json.loads(_group.read(self._path, 1 << 30))
                foreign: list[Any] = content["foreign"]
                Foreign().add_dead(foreign)
                self._kept = series_of(content["own"]), foreign, [str(name) for name in content["folded"]]
            except Exception as error:  # noqa: BLE001 -- damaged in any way; the service goes on without
                self._on_fault("workers", error, "the numbers of workers that died before are lost")
                _group.put_aside(self._path)
                self.version, self._kept = None, ([], [], [])
                return [], []
            self.version = version
        return self._kept[0], self._kept[1]

    @property
    def folded(self) -> list[str]:
        """The files whose numbers are in the file that was read last."""
        return self._kept[2]

    def reading(self, name: str) -> tuple[list[Series], list[Any]]:
        return reading(self._path.parent, name, self._on_fault)

    def fold(self, names: Iterable[str]) -> None:
        """Add what dead workers left in the files *names*, and remove those. Only under the group's lock."""
        names = list(names)
        if not names:
            return
        kept_own, kept_foreign = self.read()
        folded = self.folded
        own, foreign = Numbers(self._on_fault), Foreign()
        readings = [self.reading(name) for name in names if name not in folded]
        # The newest first: where a family has changed, the old numbers are those that go.
        for series, _ in readings:
            own.add_dead(series)
        own.add_dead(kept_own)
        foreign.add_dead(kept_foreign)
        for _, said in readings:
            with suppress(Exception):  # Of a shape that no worker writes.
                foreign.add_dead(said)
        if readings:
            content = {"folded": names, "own": as_json(own.series()), "foreign": foreign.as_json()}
            _group.write(self._path, json.dumps(content).encode())
        for name in names:
            # The one that names it last: until then it can be seen that there is something to remove.
            for file in (f"{name}{SOCKET}", f"{name}{LAST}", name):
                with suppress(FileNotFoundError):
                    (self._path.parent / file).unlink()
        for path in unfinished(self._path.parent):
            path.unlink(missing_ok=True)


def unfinished(path: Path) -> list[Path]:
    """Return the files in *path* that workers were killed in the middle of writing. Only under the group's lock."""
    present = {entry.name: entry for entry in path.iterdir()}
    found = []
    for name, entry in present.items():
        match = _TEMPORARY.fullmatch(name)
        # Under the lock nobody else writes what is everybody's; what is one worker's, it may be writing now.
        if match and match[1].removesuffix(LAST) not in present.keys() - _EVERYBODYS:
            found.append(entry)
    return found


def reading(
    path: Path, name: str, on_fault: OnFault, reader: CellReader | None = None
) -> tuple[list[Series], list[Any]]:
    """Return a worker's series, and what it last said of all else. What is damaged is told and left out.

    Raises FileNotFoundError when the worker's file has gone.
    """
    reader = reader or CellReader()
    series: list[Series] = []
    try:
        data = _group.read(path / name, MOST_BYTES, used)
        try:
            series = reader.read(data)
        except DamagedError as error:
            on_fault("workers", error, "some numbers of one worker are lost")
            series = reader.read_so_far(data)
    except FileNotFoundError:
        raise
    except OSError as error:
        on_fault("workers", error, "the numbers of one worker are lost")
    said = last_said(path, name, on_fault)
    try:
        beside = series_of(said.get("beside", []))
    except Exception as error:  # noqa: BLE001 -- as above
        on_fault("workers", error, "some numbers of one worker are lost")
        beside = []
    return [*series, *beside], said.get("foreign", [])


def last_said(path: Path, name: str, on_fault: OnFault) -> dict[str, Any]:
    """Return the last answer that a worker has written down; empty when there is none."""
    try:
        said = json.loads(_group.read(path / f"{name}{LAST}", 1 << 26))
        if not isinstance(said, dict) or not isinstance(said.get("foreign"), list):
            raise DamagedError(f"{name}{LAST} is not what a worker writes")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        on_fault("workers", error, "what one worker shows besides its own numbers is lost")
        return {}
    return said
