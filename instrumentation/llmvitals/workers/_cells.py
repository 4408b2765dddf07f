"""A worker's numbers in a file that other workers read, while it writes them, and after it was killed.

The file is a header and records, one after the other. A record says which series it holds (JSON, with a checksum) and
has the series' doubles; they are written in place, for good, so a killed worker loses nothing that it recorded. The
header says how far records are complete; it moves after the record is written, so every prefix of the file's history
can be read.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any

from llmvitals import catalogue
from llmvitals._series import Cells, cells_of, numbers, private
from llmvitals.catalogue import Family

MAGIC = b"LLMVCEL1"
HEADER = struct.Struct("<8sQ")  # Magic; where the complete records end.
RECORD = struct.Struct("<IIIIII")  # Bytes in all, bytes of the key, doubles, kind, checksum of the key, nothing.
FAMILY, LIVE, GONE, PADDING = 1, 2, 3, 4
_KIND_AT = 12

SEGMENT_BYTES = 1 << 16
"""How much a file grows at a time; a multiple of every page size."""

MOST_BYTES = 1 << 25
"""What one worker may take of memory that is shared; further series are kept in its own."""

Series = tuple[Family, tuple[str, ...], list[float]]
OnFault = Callable[[str, BaseException, str], None]


class DamagedError(ValueError):
    """A file that is not what a worker writes."""


class CellFile:
    """Where this worker's series keep their numbers; a `Store`. Not thread-safe: series are made under one lock.

    Space is taken from the file system before it is used: on a full one, writing to a mapped page would kill the
    process.
    """

    def __init__(self, descriptor: int, on_fault: OnFault) -> None:
        """*descriptor* is of a new file, and closed here or by `close`. Raises OSError where it cannot be mapped."""
        self._descriptor = descriptor
        self._on_fault = on_fault
        self._families: dict[str, int] = {}
        self._records: dict[tuple[str, tuple[str, ...]], tuple[memoryview, int, int]] = {}
        self._beside: dict[tuple[str, tuple[str, ...]], tuple[Family, Cells]] = {}
        self._full = False
        self._bytes = 0
        self._at = HEADER.size
        try:
            self._grow()
        except BaseException:
            self.close()
            raise
        header = self._segment[: HEADER.size]
        self._end = header[8:16].cast("Q")
        self._end[0] = self._at
        header[:8] = MAGIC

    def allot(self, family: Family, texts: tuple[str, ...], count: int) -> Cells:
        key = (family.name, texts)
        try:
            known = self._records.get(key)
            if known is not None:
                segment, start, cells_at = known
                again = segment[cells_at : cells_at + 8 * count]
                again[:] = bytes(8 * count)
                _set_kind(segment, start, LIVE)
                return again.cast("d")
            if not self._full:
                number = self._families.get(family.name)
                if number is None:
                    self._append(family_json(family), 0, FAMILY)
                    number = self._families[family.name] = len(self._families)
                segment, start, cells_at = self._append(json.dumps([number, *texts]).encode(), count, LIVE)
                self._records[key] = segment, start, cells_at
                return segment[cells_at : cells_at + 8 * count].cast("d")
        except (OSError, ValueError) as error:
            # Before it is told: telling makes a series, too.
            self._full = True
            self._on_fault("workers", error, "further series are merged from memory, and lost when this worker dies")
        cells = private(count)
        self._beside[key] = family, cells
        return cells

    def release(self, family: Family, texts: tuple[str, ...]) -> None:
        key = (family.name, texts)
        if self._beside.pop(key, None) is None and key in self._records:
            segment, start, _ = self._records[key]
            _set_kind(segment, start, GONE)

    def beside(self) -> list[Series]:
        """Return the series for which the file had no room."""
        return [(family, texts, numbers(cells)) for (_, texts), (family, cells) in list(self._beside.items())]

    def close(self) -> None:
        """Let go of the file; its memory stays until the last series has left it."""
        os.close(self._descriptor)

    def _append(self, key: bytes, count: int, kind: int) -> tuple[memoryview, int, int]:
        """Write a record; return its segment, and where in that it starts and has its doubles."""
        cells_at = RECORD.size + -(-len(key) // 8) * 8
        size = cells_at + 8 * count
        room = self._bytes - self._at
        if size > room:
            if size > SEGMENT_BYTES:
                raise ValueError(f"a series of {size} bytes is too large for the workers' files")
            if room >= RECORD.size:
                RECORD.pack_into(self._segment, self._at - self._starts, room, 0, 0, PADDING, 0, 0)
            end = self._bytes
            self._grow()
            self._at = end
        start = self._at - self._starts
        segment = self._segment
        segment[start + RECORD.size : start + RECORD.size + len(key)] = key
        RECORD.pack_into(segment, start, size, len(key), count, kind, _checksum(size, count, key), 0)
        self._at += size
        self._end[0] = self._at
        return segment, start, start + cells_at

    def _grow(self) -> None:
        if self._bytes + SEGMENT_BYTES > MOST_BYTES:
            raise ValueError(f"this worker's series need more than {MOST_BYTES} bytes")
        os.posix_fallocate(self._descriptor, self._bytes, SEGMENT_BYTES)
        self._segment = memoryview(mmap.mmap(self._descriptor, SEGMENT_BYTES, offset=self._bytes))
        self._starts = self._bytes
        self._bytes += SEGMENT_BYTES


class CellReader:
    """Reads one worker's file again and again; what is in it is parsed once, for it is never written anew."""

    def __init__(self) -> None:
        self._at = HEADER.size
        self._families: list[Family] = []
        self._series: list[tuple[Family, tuple[str, ...], int, int, int]] = []

    def read(self, data: bytes) -> list[Series]:
        """Return the series in *data*, the file's bytes from its beginning: all that are complete.

        Raises DamagedError when that is not what a worker writes; what comes before the damage is in `read_so_far`.
        """
        if len(data) < HEADER.size or data[: HEADER.size] == bytes(HEADER.size) or data[:8] == bytes(8):
            return []  # It was killed before it wrote anything.
        magic, end = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise DamagedError("it does not begin as a worker's file does")
        data = data[: len(data) // 8 * 8]
        if end % 8 or end < HEADER.size:
            raise DamagedError(f"its records end at {end}")
        self._parse(data, min(end, len(data)))
        return self.read_so_far(data)

    def read_so_far(self, data: bytes) -> list[Series]:
        """Return the series that `read` has found before."""
        data = data[: len(data) // 8 * 8]
        cells, kinds = memoryview(data).cast("d"), memoryview(data).cast("I")
        found: list[Series] = []
        for family, texts, kind_at, first, last in self._series:
            if last <= len(cells) and kinds[kind_at] == LIVE:
                found.append((family, texts, numbers(cells[first:last])))
        return found

    def _parse(self, data: bytes, end: int) -> None:
        while self._at + RECORD.size <= end:
            start = self._at
            left = SEGMENT_BYTES - start % SEGMENT_BYTES
            if left < RECORD.size:  # Too little for a record that says so.
                self._at += left
                continue
            size, key_bytes, count, kind, checksum, _ = RECORD.unpack_from(data, start)
            if size % 8 or size < RECORD.size or size > SEGMENT_BYTES:
                raise DamagedError(f"the record at {start} has {size} bytes")
            if start + size > end:
                return  # The rest of it was cut off.
            if kind != PADDING:
                key = data[start + RECORD.size : start + RECORD.size + key_bytes]
                cells_at = start + RECORD.size + -(-key_bytes // 8) * 8
                if cells_at + 8 * count != start + size or checksum != _checksum(size, count, key):
                    raise DamagedError(f"the record at {start} does not fit its checksum")
                self._take(key, kind, start + _KIND_AT, cells_at, count)
            self._at += size

    def _take(self, key: bytes, kind: int, kind_at: int, cells_at: int, count: int) -> None:
        try:
            if kind == FAMILY:
                self._families.append(family_of(json.loads(key)))
                return
            number, *texts = json.loads(key)
            family = self._families[number]
        except Exception as error:
            raise DamagedError(f"a record cannot be read: {type(error).__name__}: {error}") from error
        if kind not in (LIVE, GONE) or len(texts) != len(family.labels) or count != cells_of(family):
            raise DamagedError(f"{family.name} has a record that does not fit it")
        self._series.append((family, tuple(map(str, texts)), kind_at // 4, cells_at // 8, cells_at // 8 + count))


def used(head: bytes) -> int:
    """Return how many bytes of a file count, by its header; all of them where that is none, for `CellReader` to see."""
    if len(head) < HEADER.size or head[:8] != MAGIC:
        return MOST_BYTES
    return int(HEADER.unpack(head)[1])


_known = {family.name: family for family in catalogue.FAMILIES}


def family_json(family: Family) -> bytes:
    return json.dumps([family.name, family.type, family.help, family.labels, family.buckets, family.across]).encode()


def family_of(fields: Any) -> Family:
    """Make a family of what `family_json` wrote. Raises for what it did not."""
    name, kind, description, labels, buckets, across = fields
    known = _known.get(name)
    family = Family(
        str(name), kind, str(description), tuple(map(str, labels)), tuple(map(float, buckets)), across=across
    )
    if kind not in ("counter", "gauge", "histogram") or across not in ("sum", "max", "min"):
        raise DamagedError(f"{name} is a {kind} by {across}")
    if known is not None and same_numbers(known, family):
        return known
    return family


def same_numbers(one: Family, other: Family) -> bool:
    """Whether numbers of the two can be put together."""
    return (one.type, one.labels, one.buckets) == (other.type, other.labels, other.buckets)


def _set_kind(segment: memoryview, start: int, kind: int) -> None:
    # One aligned word: whoever reads meanwhile sees the old or the new.
    segment[start + _KIND_AT : start + _KIND_AT + 4].cast("I")[0] = kind


def _checksum(size: int, count: int, key: bytes) -> int:
    return zlib.crc32(key, zlib.crc32(struct.pack("<II", size, count)))
