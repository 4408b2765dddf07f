import errno
import json
import os

import pytest

from llmvitals import catalogue
from llmvitals._family import Family
from llmvitals._recording import LABEL_SETS
from llmvitals._series import UNREAD
from llmvitals.workers import _group
from llmvitals.workers._cells import CellFile
from llmvitals.workers._merge import Foreign, Numbers
from llmvitals.workers._retained import Retained


class KilledError(BaseException):
    """What SIGKILL is to a process: nothing more is done."""


def tell(component, error, consequence):
    raise AssertionError(f"{component}: {error}; {consequence}")


def worker(path, name, *, family=catalogue.ATTEMPTS, texts=("place", "success"), amount=1.0, foreign=()):
    """The files that a worker leaves."""
    cells = CellFile(os.open(path / name, os.O_RDWR | os.O_CREAT, 0o600), tell)
    cells.allot(family, texts, len(family.buckets) + 2 if family.type == "histogram" else 1)[0] = amount
    cells.close()
    (path / f"{name}.sock").touch()
    (path / f"{name}.last").write_text(json.dumps({"foreign": list(foreign), "beside": []}))


def orders(amount):
    return ["orders", "counter", "Orders.", "", "add", [["orders_total", {"kind": "a"}, amount, None, None]]]


def totals(path):
    own, foreign = Retained(path, tell).read()
    merged = Foreign()
    merged.add_dead(foreign)
    return (
        sum(cells[0] for family, _, cells in own if family is catalogue.ATTEMPTS),
        sum(sample.value for family in merged.collect() for sample in family.samples),
    )


def names(path):
    return {entry.name for entry in path.iterdir()}


def test_numbers_of_the_dead_add_up_and_their_files_go(tmp_path):
    """Own counters and the application's are kept in one file; gauges are not."""
    retained = Retained(tmp_path, tell)
    for round_ in range(3):
        dead = [f"w{number}.1-{round_:012x}" for number in range(4)]
        for name in dead:
            worker(tmp_path, name, amount=2.0, foreign=[orders(5)])
        worker(tmp_path, "w9.1-0123456789ab", family=catalogue.BATCH_QUEUE_DEPTH, texts=("q",), amount=7.0)
        retained.fold([*dead, "w9.1-0123456789ab"])

    assert {"retained"} == names(tmp_path)
    assert (24.0, 60.0) == totals(tmp_path)
    assert all(family.type != "gauge" for family, _, _ in retained.read()[0])


@pytest.mark.parametrize("steps", range(14))
def test_a_fold_that_is_killed_loses_and_doubles_nothing(tmp_path, monkeypatch, steps):
    """At whichever of its changes to the directory it dies: the next one ends with the same numbers and no files."""
    for number in range(4):
        worker(tmp_path, f"w{number}.1-{number:012x}", amount=2.0, foreign=[orders(5)])
    Retained(tmp_path, tell).fold(["w0.1-000000000000"])
    left = steps

    def dying(change):
        def changes(*args, **kwargs):
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return change(*args, **kwargs)

        return changes

    dead = sorted(name for name in names(tmp_path) if name.count(".") == 1)
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.unlink", dying(_group.Path.unlink))
        patched.setattr("pathlib.Path.replace", dying(_group.Path.replace))
        try:
            Retained(tmp_path, tell).fold(dead)
            finished = True
        except KilledError:
            finished = False
    Retained(tmp_path, tell).fold(sorted(name for name in names(tmp_path) if _group._MEMBER.fullmatch(name)))

    assert (steps >= 10) == finished
    assert (8.0, 20.0) == totals(tmp_path)
    assert {"retained"} == {name for name in names(tmp_path) if not name.startswith(".")}


def test_what_a_worker_was_killed_in_the_middle_of_writing_goes_with_it(tmp_path):
    """Else such files pile up for as long as the service lives. A living worker's is its own."""
    living, dead, folded = (f"w{number}.1-0123456789ab" for number in range(3))
    for name in (living, dead):
        worker(tmp_path, name)
    begun = [f".{name}.last.01234567" for name in (living, dead, folded)]
    for name in (*begun, ".retained.01234567", ".group.json.01234567", "group.json", "lock"):
        (tmp_path / name).touch()

    Retained(tmp_path, tell).fold([dead])

    assert {"group.json", "lock", "retained", living, f"{living}.last", f"{living}.sock", begun[0]} == names(tmp_path)


def test_a_full_disk_keeps_the_files_of_the_dead(tmp_path, monkeypatch):
    """What cannot be written down is not removed."""
    worker(tmp_path, "w0.1-000000000000")

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(_group, "write", no_space)
        with pytest.raises(OSError, match="No space"):
            Retained(tmp_path, tell).fold(["w0.1-000000000000"])
    Retained(tmp_path, tell).fold(["w0.1-000000000000"])

    assert (1.0, 0.0) == totals(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 50, b'{"own": 3, "foreign": [], "folded": []}'], ids=repr)
def test_a_damaged_file_of_the_dead_is_put_aside(tmp_path, damage):
    """It is told, and the service goes on from nothing."""
    told = []
    (tmp_path / "retained").write_bytes(damage)
    worker(tmp_path, "w0.1-000000000000")

    Retained(tmp_path, lambda *fault: told.append(fault)).fold(["w0.1-000000000000"])

    assert 1 == len(told)
    assert (1.0, 0.0) == totals(tmp_path)
    assert {"retained", "bad"} == names(tmp_path)


@pytest.mark.parametrize("damage", [b"garbage" * 9, b"LLMVCEL1" + b"\xff" * 80], ids=["beginning", "sizes"])
def test_a_damaged_worker_costs_its_own_numbers(tmp_path, damage):
    """The others' are kept, and the damaged file goes."""
    told = []
    worker(tmp_path, "w0.1-000000000000")
    worker(tmp_path, "w1.1-000000000001")
    (tmp_path / "w0.1-000000000000").write_bytes(damage)

    Retained(tmp_path, lambda *fault: told.append(fault)).fold(["w0.1-000000000000", "w1.1-000000000001"])

    assert ["workers"] == [component for component, _, _ in told]
    assert (1.0, 0.0) == totals(tmp_path)
    assert {"retained"} == names(tmp_path)


def test_a_number_that_none_can_have_is_left_out(tmp_path):
    """One damaged number must not make a sum NaN or less than it was for ever."""
    for number, amount in enumerate((float("nan"), -5.0, 3.0)):
        worker(tmp_path, f"w{number}.1-{number:012x}", amount=amount)

    Retained(tmp_path, tell).fold(sorted(name for name in names(tmp_path) if name.count(".") == 1))

    assert (3.0, 0.0) == totals(tmp_path)


def test_label_sets_of_the_dead_are_capped_and_their_sums_exact():
    """A service whose workers come and go with ever new labels keeps what one process may have."""
    numbers = Numbers(tell)
    for number in range(3 * LABEL_SETS):
        numbers.add_dead([(catalogue.ATTEMPTS, (f"place-{number}", "success"), [1.0])])

    kept = numbers.series()
    assert len(kept) <= LABEL_SETS + 32
    assert 3.0 * LABEL_SETS == sum(cells[0] for _, _, cells in kept)


def test_a_family_that_changed_is_the_newer_ones():
    """Numbers of other labels cannot be added: those of the living stay, and it is told."""
    told = []
    numbers = Numbers(lambda *fault: told.append(fault))
    now = Family("llmvitals_some_total", "counter", "Some.", ("a",))
    before = Family("llmvitals_some_total", "counter", "Some.", ("a", "b"))

    numbers.add([(now, ("x",), [2.0])])
    numbers.add_dead([(before, ("x", "y"), [40.0])])

    assert [(now, ("x",), [2.0])] == numbers.series()
    assert 1 == len(told)


def test_gauges_become_one_as_their_family_says():
    """What is held adds up; of states one is shown, mostly the worst; a function that was not asked yet is nothing."""
    numbers = Numbers(tell)
    for value in (1.0, 5.0, 3.0):
        numbers.add(
            [
                (catalogue.BATCH_QUEUE_DEPTH, ("q",), [value]),
                (catalogue.HEALTH_STATUS, ("db",), [value]),
                (catalogue.OPERATION_TARGET, ("talker",), [value]),
                (catalogue.CACHE_ENTRIES, ("c",), [UNREAD if value == 5.0 else value]),
                (catalogue.CACHE_MAX_ENTRIES, ("c",), [UNREAD]),
                (catalogue.MEMORY_RATIO, (), [float("nan") if value == 1.0 else value]),
            ]
        )

    assert {
        catalogue.BATCH_QUEUE_DEPTH: 9.0,
        catalogue.HEALTH_STATUS: 1.0,
        catalogue.OPERATION_TARGET: 5.0,
        catalogue.CACHE_ENTRIES: 4.0,
        catalogue.MEMORY_RATIO: 5.0,
    } == {family: cells[0] for family, _, cells in numbers.series()}


def test_foreign_families_become_one():
    """Counters add up; gauges follow their mode, or name their worker; exemplars are the latest."""
    answers = [
        [
            ["hits", "counter", "", "", "add", [["hits_total", {"a": "b"}, 2.0, None, [{"t": str(at)}, 1.0, at]]]],
            ["depth", "gauge", "", "", "each", [["depth", {}, at, None, None]]],
            ["work", "gauge", "", "", "each", [["work", {"worker": "app"}, at, None, None]]],
            ["most", "gauge", "", "", "max", [["most", {}, at, None, None]]],
            ["last", "gauge", "", "", "mostrecent", [["last", {}, at, -at, None]]],
        ]
        for at in (1.0, 3.0)
    ]
    foreign = Foreign()
    for worker_, answer in enumerate(answers):
        foreign.add(answer, str(worker_))
    foreign.add_dead([orders(7.0), ["depth", "gauge", "", "", "each", [["depth", {}, 99.0, None, None]]]])

    shown = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in foreign.collect()
        for sample in family.samples
    }
    assert {
        ("hits_total", ("a", "b")): 4.0,
        ("depth", ("worker", "0")): 1.0,
        ("depth", ("worker", "1")): 3.0,
        ("work", ("llmvitals_worker", "0"), ("worker", "app")): 1.0,
        ("work", ("llmvitals_worker", "1"), ("worker", "app")): 3.0,
        ("most",): 3.0,
        ("last",): 1.0,
        ("orders_total", ("kind", "a")): 7.0,
    } == shown
    assert [{"t": "3.0"}] == [
        sample.exemplar.labels for family in foreign.collect() for sample in family.samples if sample.exemplar
    ]
