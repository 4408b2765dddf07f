"""Ports: who holds one is told, with what to set."""

import os
import socket
from pathlib import Path

import pytest

from llmvitals_stack import ports
from llmvitals_stack.settings import PORTS, Settings


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(name="settings")
def _settings(tmp_path):
    return Settings(tmp_path, {key: str(free_port()) for key in PORTS})


def test_free_ports_pass(settings):
    """Nothing is said where nothing listens."""
    ports.check(settings)


def test_a_taken_port_names_its_setting_and_holder(settings):
    """The message has the port, the setting to change, and the process that holds it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", settings.port("PROMETHEUS")))
        server.listen()

        with pytest.raises(ports.PortsTakenError) as caught:
            ports.check(settings)

    told = str(caught.value)
    assert f"Port {settings.port('PROMETHEUS')} (LLMVITALS_PROMETHEUS_PORT, for prometheus)" in told
    assert f"pid {os.getpid()}" in told
    assert ".env" in told


def test_our_own_processes_may_hold_theirs(settings):
    """A second `make up` finds its own programs, and goes on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", settings.port("PROMETHEUS")))
        server.listen()

        ports.check(settings, ours=frozenset({os.getpid()}))


def test_every_port_of_the_example_is_known():
    """A port in `.env.example` that nobody checks would be found taken only when a program dies."""
    example = (Path(__file__).parents[2] / ".env.example").read_text()

    assert set(PORTS) == {line.partition("=")[0] for line in example.splitlines() if "_PORT=" in line}
