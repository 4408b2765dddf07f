import errno
import os
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.workers import _cells
from llmvitals.workers._cells import SEGMENT_BYTES, CellFile, CellReader, DamagedError

FAMILIES = (catalogue.ATTEMPTS, catalogue.RETRY_WAIT, catalogue.POOL_CONNECTIONS)


def tell(component, error, consequence):
    raise AssertionError(f"{component}: {error}; {consequence}")


@pytest.fixture(name="file")
def _file(tmp_path):
    return tmp_path / "w0"


def cells_of(path, told=tell):
    return CellFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), told)


def written(path, sets=6):
    """A file with some series of each kind, and what they hold."""
    cells = cells_of(path)
    held = []
    for family in FAMILIES:
        for number in range(sets):
            texts = tuple(f"{label}-ä-{number}" * (number + 1) for label in family.labels)
            count = len(family.buckets) + 2 if family.type == "histogram" else 1
            view = cells.allot(family, texts, count)
            for index in range(count):
                view[index] = number + index / 2
            held.append((family, texts, view.tolist()))
    cells.close()
    return held


def end_of(data):
    return struct.unpack_from("<8sQ", data)[1]


def test_what_is_written_is_read(file):
    """All kinds of families, any text, every number; again and again with the same reader."""
    held = written(file)
    reader = CellReader()

    assert held == reader.read(file.read_bytes())
    assert held == reader.read(file.read_bytes())


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1))
def test_every_prefix_is_readable_and_never_wrong(tmp_path_factory, share):
    """However early the file ends, the series found are the first ones, with their numbers."""
    file = tmp_path_factory.mktemp("cells") / "w0"
    held = written(file, sets=3)
    data = file.read_bytes()
    cut = data[: int(share * end_of(data))]

    found = CellReader().read(cut)

    assert held[: len(found)] == found


@settings(max_examples=300, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_record_is_refused(tmp_path_factory, at, byte):
    """One byte changed outside the numbers either changes nothing that is read, or is told; no key is ever misread."""
    file = tmp_path_factory.mktemp("cells") / "w0"
    held = written(file, sets=3)
    data = bytearray(file.read_bytes())
    place = int(at * end_of(data))
    data[place] = byte
    reader = CellReader()
    try:
        found = reader.read(bytes(data))
    except DamagedError:
        found = reader.read_so_far(bytes(data))

    keys = [(family, texts) for family, texts, _ in held]
    assert [key for key in keys if key in [(family, texts) for family, texts, _ in found]] == [
        (family, texts) for family, texts, _ in found
    ]


@given(st.binary(max_size=400))
def test_garbage_raises_nothing_else(data):
    """Bytes of any kind, with and without a good beginning, are read as nothing or refused."""
    for beginning in (b"", _cells.MAGIC, _cells.MAGIC + struct.pack("<Q", len(data) + 16 & ~7)):
        with suppress(DamagedError):
            assert [] == CellReader().read(beginning + data)


@pytest.mark.parametrize("size", [0, 8, 1 << 31, 0xFFFF_FFF8, 12], ids=hex)
def test_hostile_sizes_are_refused(size):
    """A record cannot send the reader astray or in circles."""
    record = struct.pack("<IIIIII", size, 0xFFFF_FFFF, 0xFFFF_FFFF, 2, 0, 0) + bytes(64)

    with pytest.raises(DamagedError):
        CellReader().read(_cells.MAGIC + struct.pack("<Q", 16 + len(record)) + record)


def test_a_file_grows(file):
    """Series over one segment go on in the next; those that were made stay where they are."""
    cells = cells_of(file)
    views = [cells.allot(catalogue.RETRY_WAIT, (f"place-{number}",), 11) for number in range(1000)]
    for number, view in enumerate(views):
        view[-1] = number
    reader = CellReader()

    assert file.stat().st_size > SEGMENT_BYTES
    assert list(range(1000)) == [cells[-1] for _, _, cells in reader.read(file.read_bytes())]
    cells.close()


def test_what_is_forgotten_is_not_read_and_its_place_is_used_again(file):
    """A series that comes and goes takes the same place, and starts from 0."""
    cells = cells_of(file)
    reader = CellReader()
    size = set()
    for number in range(5):
        cells.allot(catalogue.ATTEMPTS, ("a", "b"), 1)[0] += number
        ((_, _, found),) = reader.read(file.read_bytes())
        cells.release(catalogue.ATTEMPTS, ("a", "b"))

        assert [number] == found
        assert [] == reader.read(file.read_bytes())
        size.add(end_of(file.read_bytes()))
    assert 1 == len(size)
    cells.close()


def test_a_series_that_was_forgotten_is_held_by_nobody(file):
    """Whoever still has it records into nothing that is shown, also when it was made anew."""
    recorder = Recorder(CollectorRegistry())
    cells = cells_of(file)
    recorder.move(cells)
    old = recorder.child(catalogue.BATCH_QUEUE_DEPTH, "q")
    recorder.forget(catalogue.BATCH_QUEUE_DEPTH, "q")
    recorder.child(catalogue.BATCH_QUEUE_DEPTH, "q").set(3)
    old.set(9)

    assert [3.0] == [cells[0] for _, _, cells in CellReader().read(file.read_bytes())]
    cells.close()


def test_moving_keeps_the_numbers_and_forking_only_states(file, tmp_path):
    """Counts stay with the parent; what a gauge was set to is the child's state, too."""
    recorder = Recorder(CollectorRegistry())
    attempts, depth, flight = (
        recorder.child(family, *("x" for _ in family.labels))
        for family in (catalogue.ATTEMPTS, catalogue.BATCH_QUEUE_DEPTH, catalogue.OPERATIONS_IN_FLIGHT)
    )
    attempts.inc(3)
    depth.set(5)
    flight.inc()
    parent, child = cells_of(file), cells_of(tmp_path / "w1")

    recorder.move(parent)
    attempts.inc()
    recorder.move(child, forked=True)
    attempts.inc(7)

    def held(path):
        return {family: cells for family, _, cells in CellReader().read(path.read_bytes())}

    assert {
        catalogue.ATTEMPTS: [4.0],
        catalogue.BATCH_QUEUE_DEPTH: [5.0],
        catalogue.OPERATIONS_IN_FLIGHT: [1.0],
    } == held(file)
    assert {
        catalogue.ATTEMPTS: [7.0],
        catalogue.BATCH_QUEUE_DEPTH: [5.0],
        catalogue.OPERATIONS_IN_FLIGHT: [0.0],
    } == held(tmp_path / "w1")
    parent.close()
    child.close()


def test_a_full_disk_is_told_once_and_survived(file, monkeypatch):
    """Further series keep their numbers in memory, and are handed over from there."""
    told = []
    recorder = Recorder(CollectorRegistry())
    cells = cells_of(file, lambda *fault: told.append(fault))
    recorder.move(cells)

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    for number in range(300):
        recorder.child(catalogue.RETRY_WAIT, f"{'x' * 200}-{number}").observe(1)

    in_file = CellReader().read(file.read_bytes())
    assert 300 == len(in_file) + len(cells.beside())
    assert 300 == sum(sum(cells[:-1]) for _, _, cells in [*in_file, *cells.beside()])
    assert 1 == len(told)
    cells.close()


def test_no_memory_at_all_is_an_error_before_anything_is_mapped(file, monkeypatch):
    """A full disk at the start is told by an exception, and the descriptor is not left open."""
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)

    with pytest.raises(OSError, match="full"):
        CellFile(descriptor, tell)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
