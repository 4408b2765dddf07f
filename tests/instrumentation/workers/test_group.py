import os
import socket
import stat
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry
from tests.instrumentation.workers.services import run

import llmvitals
from llmvitals.exposition import encode
from llmvitals.workers import _group, _kin, _peers
from llmvitals.workers._group import NoGroupError

NAME = "0" * 20 + ".00000000"


def _nobody(names):
    raise AssertionError(f"{names} are folded into a group that is over")


def errors(registry):
    return registry.get_sample_value("llmvitals_instrumentation_errors_total", {"component": "workers"})


def test_the_directory_is_this_users_alone(groups):
    """Whatever the umask, nobody else can look in."""
    with llmvitals.start(port=0, registry=CollectorRegistry()):
        for path in (groups, *groups.rglob("*")):
            if not path.is_socket():
                assert not stat.S_IMODE(path.lstat().st_mode) & 0o077


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file", "nowhere"])
def test_a_directory_that_is_not_ours_alone_is_refused(groups, tmp_path, monkeypatch, caplog, kind):
    """It is told with what to do, and the process is scraped by itself."""
    if kind == "open to others":
        groups.chmod(0o755)
    elif kind == "a link":
        (tmp_path / "link").symlink_to(groups)
        monkeypatch.setenv("LLMVITALS_WORKERS_DIR", str(tmp_path / "link"))
    elif kind == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("LLMVITALS_WORKERS_DIR", str(tmp_path / "file"))
    else:
        monkeypatch.setenv("LLMVITALS_WORKERS_DIR", str(tmp_path / "no" / "where"))
    registry = CollectorRegistry()

    with llmvitals.start(port=0, registry=registry) as vitals:
        assert vitals.metrics_port
        assert 1 == errors(registry)
    (message,) = [record.message for record in caplog.records]
    assert "fault in workers" in message
    if kind != "nowhere":
        assert "LLMVITALS_WORKERS_DIR" in message


def test_it_can_be_switched_off(groups, monkeypatch):
    """By argument or variable; then there is not one file."""
    with llmvitals.start(port=0, registry=CollectorRegistry(), workers="off"):
        assert [] == list(groups.iterdir())
    monkeypatch.setenv("LLMVITALS_WORKERS", "off")
    with llmvitals.start(port=0, registry=CollectorRegistry()):
        assert [] == list(groups.iterdir())


def test_two_services_of_one_process_are_two(groups):
    """Also when nothing tells them apart but their registries."""
    with (
        llmvitals.start(port=0, registry=CollectorRegistry()) as one,
        llmvitals.start(port=0, registry=CollectorRegistry()) as two,
    ):
        with one.call(provider="local", model="talker"):
            pass

        assert 2 == len([path for path in groups.iterdir() if path.is_dir()])
        assert b"gen_ai_client_operation_duration_seconds_count" in encode(one.shown)
        assert b"gen_ai_client_operation_duration_seconds_count" not in encode(two.shown)
    assert ["lock"] == [path.name for path in groups.iterdir()]


def test_a_restarted_program_starts_from_nothing():
    """The numbers of a run that was killed are no part of the next one's, and its files go."""
    script = """
import llmvitals, os, subprocess, sys
program = '''
import llmvitals, os
vitals = llmvitals.start("again", port=0)
vitals.call(provider="local", model="talker").finish()
os.kill(os.getpid(), 9)
'''
for _ in range(3):
    subprocess.run([sys.executable, "-c", program])
vitals = llmvitals.start("again", port=0)
from llmvitals.exposition import encode
assert b"gen_ai" not in encode(vitals.shown)
directory = os.environ["LLMVITALS_WORKERS_DIR"]
assert 2 == len(os.listdir(directory)), os.listdir(directory)
"""
    run(script)


def test_nothing_but_ours_is_ever_removed(groups):
    """Pointed to a directory with other things in it, and to groups with other files in them."""
    (groups / "wedding").mkdir()
    (groups / "wedding" / "w0.1-000000000000").touch()
    (groups / NAME).mkdir()
    (groups / NAME / "wanted.txt").touch()
    (groups / NAME / "w0.1-000000000000").touch()

    with llmvitals.start(port=0, registry=CollectorRegistry()):
        pass

    assert (groups / "wedding" / "w0.1-000000000000").exists()
    assert ["wanted.txt"] == [path.name for path in (groups / NAME).iterdir()]


def test_a_group_whose_directory_vanished_shows_this_process(caplog):
    """Somebody tidied up; the numbers are still in memory."""
    registry = CollectorRegistry()
    with llmvitals.start(port=0, registry=registry) as vitals:
        _group.remove(vitals._workers._group.path)
        with vitals.call(provider="local", model="talker"):
            pass

        assert b"gen_ai_client_operation_duration_seconds_count" in encode(vitals.shown)
    assert "only this worker is shown" in caplog.text


def test_a_lock_that_is_never_free_is_not_waited_for_for_ever(groups, monkeypatch):
    """A process that was stopped while it held it."""
    monkeypatch.setattr(_group, "LOCK_SECONDS", 0.05)
    descriptor = os.open(groups / "lock", os.O_RDWR | os.O_CREAT)
    assert _group.try_lock(descriptor)

    with pytest.raises(TimeoutError, match="has held"), _group.locked(groups / "lock", 0.05):
        pass
    os.close(descriptor)


def test_a_lock_that_goes_from_one_to_the_next_is_waited_for(groups, monkeypatch):
    """Workers that all start at once have their turn, however many there are before them; within reason."""

    class Clock:
        """On which each pause takes a second, and then another worker has the lock, until *turns* have had it."""

        def __init__(self, turns):
            self.now, self.turns = 0, turns

        def monotonic(self):
            return self.now

        def sleep(self, _):
            self.now += 1
            os.utime(groups / "lock", ns=(self.now, self.now))
            if self.now == self.turns:
                os.close(descriptor)

    waited = []
    for turns in (25, 1000):
        descriptor = os.open(groups / "lock", os.O_RDWR | os.O_CREAT)
        assert _group.try_lock(descriptor)
        clock = Clock(turns)
        monkeypatch.setattr(_group, "time", clock)
        with suppress(TimeoutError), _group.locked(groups / "lock"):
            waited.append(clock.now)
    os.close(descriptor)

    assert [25] == waited
    assert clock.now == pytest.approx(30, abs=2)


def test_a_child_forked_under_a_lock_does_not_keep_it(groups):
    """It has the open file of its parent's other thread, and nobody there who would close it."""
    out = run(
        """
import os, sys
from pathlib import Path
from llmvitals.workers import _group
path = Path(sys.argv[1])
end, hold = os.pipe()
with _group.locked(path):
    child = os.fork()
    if not child:
        os.close(hold)
        os.read(end, 1)  # Until the parent is done.
        os._exit(0)
with _group.locked(path, 0.05):
    print("free")
os.close(hold)
os.waitpid(child, 0)
""",
        groups / "lock",
    )

    assert "free\n" == out


def test_slots_are_used_again(groups):
    """Workers are told apart by small numbers, as few as there are living workers at once."""
    marks = ["0" * 20]
    first, second, third = (_group.join("1" * 20, marks, []) for _ in range(3))
    second.let_go()
    fourth = _group.join("1" * 20, marks, [])

    assert [0, 1, 2, 1] == [member.slot for member in (first, second, third, fourth)]
    assert [True, False, True, True] == [
        member.alive
        for name in (first, second, third, fourth)
        for member in first.members()
        if member.name == name.name
    ]
    for member in (first, third, fourth):
        member.leave(_nobody)
    assert ["lock"] == [path.name for path in groups.iterdir()]


def test_strangers_are_not_kin(groups):
    """The same service and address, started twice by hand, are two groups."""
    one, two = _group.join("1" * 20, ["a"], []), _group.join("1" * 20, ["b"], [])

    assert one.path != two.path
    one.leave(_nobody)
    two.leave(_nobody)


def test_what_the_kernel_says_of_processes():
    """Forks share the marks of their execution; an id that is used again is another process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, repr((_kin.kin()[:1], _kin.parents())).encode())
        os._exit(0)
    marks, parents = eval(os.read(reading, 10_000))
    os.waitpid(child, 0)

    assert _kin.kin()[:1] == marks
    assert [(os.getpid(), _kin.started_at(os.getpid()))] == parents
    assert _kin.is_alive(parents[0])
    assert not _kin.is_alive((os.getpid(), "1"))
    assert not _kin.is_alive((child, _kin.started_at(os.getpid())))


def test_a_stranger_at_a_workers_socket_changes_nothing(groups):
    """Whatever is asked, and whoever hangs up, it answers the next one."""
    with llmvitals.start(port=0, registry=CollectorRegistry()) as vitals:
        (path,) = vitals._workers._group.path.glob("*.sock")

        def connected():
            stranger = socket.socket(socket.AF_UNIX)
            stranger.settimeout(10)
            with _peers._short(path) as address:
                stranger.connect(address)
            return stranger

        for asked in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"numbers"):
            with connected() as stranger:
                stranger.sendall(asked)
                stranger.shutdown(socket.SHUT_WR)
                assert b"" == stranger.recv(100)
        with connected() as worker:
            worker.sendall(b"numbers\n")
            assert b'{"foreign"' in worker.recv(100)


def test_no_room_raises_no_group_error_for_a_foreign_lock(tmp_path):
    """A file that somebody else has locked is not taken for one's own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_group, "try_lock", lambda *_, **__: False)
        with pytest.raises(NoGroupError, match="locked by somebody else"):
            _group._hold(tmp_path / "w0.1-000000000000")
