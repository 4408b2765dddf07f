"""The command line: every mistake is told, at once, by its flag."""

import shlex

import pytest

from llmvitals_exporter._options import UsageError, parse
from llmvitals_exporter.collectors.koboldcpp import KOBOLDCPP
from llmvitals_exporter.collectors.nvidia import NVIDIA
from llmvitals_exporter.collectors.processes import WATCH


def problems(*arguments):
    with pytest.raises(UsageError) as error:
        parse(arguments)
    return list(error.value.problems)


def test_defaults():
    """Without a flag it serves on this machine only, with every collector."""
    plan = parse([])

    assert ("serve", "127.0.0.1", 9465, 2.0) == (plan.mode, plan.host, plan.port, plan.timeout)
    assert 17 == len(plan.collectors)
    assert ((), (), "auto") == (plan.settings[WATCH], plan.settings[KOBOLDCPP], plan.settings[NVIDIA])


def test_everything_given():
    """Each flag reaches its collector."""
    plan = parse(
        shlex.split(
            "--host 0.0.0.0 --port 0 --collector-timeout 0.5 --only cpu,processes --watch a=x --watch b=y=z "
            "--koboldcpp http://127.0.0.1:5001 --nvidia off --once"
        )
    )

    assert ("once", "0.0.0.0", 0, 0.5) == (plan.mode, plan.host, plan.port, plan.timeout)
    assert ["cpu", "processes"] == [collector.name for collector in plan.collectors]
    assert [("a", "x"), ("b", "y=z")] == [(watch.group, watch.pattern.pattern) for watch in plan.settings[WATCH]]
    assert ["127.0.0.1:5001"] == [server.label for server in plan.settings[KOBOLDCPP]]
    assert "off" == plan.settings[NVIDIA]


def test_servers():
    """Servers stand in one text with commas between, or in several."""
    plan = parse(["--koboldcpp", "http://a:1, http://b:2,", "--koboldcpp", "http://c:3"])

    assert ["a:1", "b:2", "c:3"] == [server.label for server in plan.settings[KOBOLDCPP]]


def test_without():
    """A collector can be left out by name."""
    names = [collector.name for collector in parse(["--without", "cpu, disk"]).collectors]

    assert "memory" in names
    assert not {"cpu", "disk"} & set(names)


def test_all_mistakes_at_once():
    """No mistake hides another."""
    told = problems(
        *shlex.split(
            "--nope --port 70000 --collector-timeout never --only gpu --watch =x --watch a= --watch b=( "
            "--koboldcpp ftp://user:secret@host --koboldcpp http://user:secret@host --nvidia maybe --procfs /nowhere"
        )
    )

    assert 11 == len(told)
    for flag, count in {"--nope": 1, "--watch": 3, "--koboldcpp": 2, "--procfs": 1, "--port": 1}.items():
        assert count == len([problem for problem in told if problem.startswith(f"{flag}:")])
    assert not [problem for problem in told if "secret" in problem]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--port 1 --port 2", "--port: is given 2 times"),
        ("--port", "argument --port: expected one argument"),
        ("--host=", "--host: is empty"),
        ("--port ²", "'²' is not a port"),
        ("--only cpu --without disk", "--without: is given together with --only"),
        ("--only ,", "--only: names no collector"),
        ("--watch a=x --watch a=y", "--watch: names used twice: a"),
        ("--watch a/b=x", "--watch: 'a/b' is not a name"),
        ("--koboldcpp http://h:1 --koboldcpp http://h:1/x", "--koboldcpp: servers given twice: h:1"),
        ("--koboldcpp http://h:99999", "--koboldcpp: Port out of range"),
        ("--once --check", "not allowed with argument"),
        ("extra", "extra: there is no such argument"),
    ],
)
def test_mistake(arguments, part):
    """Each mistake names its flag and says what is wrong."""
    (problem,) = problems(*arguments.split())

    assert part in problem


def test_flags_that_cannot_be_told_apart():
    """Where the command line as such is wrong, the environment's mistakes are told as well."""
    with pytest.raises(UsageError) as error:
        parse(["--port"], {"LLMVITALS_EXPORTER_OLLAMA": "x"})

    assert ["argument --port", "LLMVITALS_EXPORTER_OLLAMA"] == [
        problem.partition(":")[0] for problem in error.value.problems
    ]
