"""What happens around a GPU: rights, cards and processes that go, forks; and that the demonstration lacks nothing."""

import logging
import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families
from tests.exporter.reading import values
from tests.exporter.test_gpu_cards import GOLDEN
from tests.exporter.test_hostile import cards
from tests.exporter.test_nvidia import UUID, Driver, gpu, ok
from tests.exporter.test_nvml import capture, process

from llmvitals.exposition import encode
from llmvitals_exporter._declaration import Settings
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site
from llmvitals_exporter.collectors.nvidia import COLLECTOR, NVIDIA
from llmvitals_exporter.nvml import __main__ as nvml
from llmvitals_exporter.nvml import _driver
from llmvitals_exporter.nvml._replay import Replay


def site_of(*declarations):
    runner = Runner(declarations, Settings(), timeout=20.0)
    return Site(Scrape(runner), runner.collectors)


def test_forbidden_reading_is_told_once(caplog, monkeypatch):
    """What NVML does not permit is absent, and told in the log once, however often it is asked."""
    monkeypatch.setattr(_driver, "_forbidden", set())
    forbidden = {"nvmlDeviceGetPowerUsage(gpu0)": {"error": _driver.NO_PERMISSION}}
    driver = nvml.Driver(Replay(capture("h100", forbidden)))
    with caplog.at_level(logging.WARNING):
        answers = [driver.answer() for _ in range(10)]

    assert not [name for name, _, _ in answers[-1]["devices"][0]["readings"] if name == "power_watts"]
    assert ["NVML does not let this user ask nvmlDeviceGetPowerUsage: what it would tell is absent"] == caplog.messages


def test_fewer_cards(tmp_path):
    """A card that is gone has no series any more, and the number of cards says so."""
    other = f"{UUID[:-1]}2"
    driver = Driver(tmp_path, [ok(gpu(), gpu(uuid=other)), ok(gpu()), {**ok(), "devices": []}])
    try:
        both, one = driver.read(), driver.read()
        driver.fails("no GPU")
    finally:
        driver.source.close()

    assert (2.0, 1.0) == tuple(found['llmvitals_gpu_count{vendor="nvidia"}'] for found in (both, one))
    assert [series for series in both if other in series]
    assert not [series for series in one if other in series]


def told_processes(named):
    """The labels of each process's memory, from NVML's answer to the reading."""
    changes = {"nvmlDeviceGetComputeRunningProcesses(gpu0)": [process(pid, 2**20) for pid in named]}
    changes |= {f"nvmlSystemGetProcessName({pid})": name for pid, name in named.items()}
    declaration = cards(nvml.Driver(Replay(capture("h100", changes)), frozenset(["processes"])).answer())
    text = encode(site_of(declaration).registry).decode()
    (family,) = (
        family for family in text_string_to_metric_families(text) if family.name == "llmvitals_gpu_process_memory_bytes"
    )
    return {sample.labels["pid"]: sample.labels["name"] for sample in family.samples}


def test_hostile_names_of_processes():
    """A process may call itself anything: its name is shortened and escaped, its arguments are nobody's business."""
    names = {1: '}"\n\\', 2: "x" * 10_000, 3: "/opt/my app/python --api-key=secret", 4: "", 5: "C:\\a\\b.exe"}
    told = told_processes(names)

    assert {"1", "2", "3", "4", "5"} == told.keys()
    assert '}"\n\\' == told["1"]
    assert "x" * 64 == told["2"]
    assert "secret" not in "".join(told.values())


def test_dead_processes_vanish():
    """Of a thousand processes fifty have series, and the rest has one; of the dead there is none."""
    many = told_processes(dict.fromkeys(range(1, 1001), "python"))

    assert (51, "") == (len(many), many["other"])
    assert {"7": "python"} == told_processes({7: "python"})


# --- Forks ------------------------------------------------------------------------------------------------------------

FORKED = """
import os, socket, sys
from llmvitals.exposition import encode, serve
from llmvitals_exporter._options import parse
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site

plan = parse(["--only", "load,nvidia", "--nvidia", "demo", "--collector-timeout", "20"], {})
runner = Runner(plan.collectors, plan.settings, timeout=plan.timeout)
site = Site(Scrape(runner), runner.collectors)
runner._members[1].source._wait = 20.0

def gpus():
    lines = encode(site.registry).decode().splitlines()
    return len([line for line in lines if line.startswith("llmvitals_gpu_info{")])

server = serve(site.registry, port=0)
print(gpus(), runner._members[1].source._child.pid, flush=True)
(done, tell_done), (end, tell_end) = os.pipe(), os.pipe()
forked = os.fork()
if not forked:
    print(gpus(), runner._members[1].source._child.pid, flush=True)
    os.write(tell_done, b"x")
    os.read(end, 1)
    runner.close()
    os._exit(0)
os.read(done, 1)
server.close()
socket.create_server(("127.0.0.1", server.port)).close()
print(gpus(), runner._members[1].source._child.pid, flush=True)
runner.close()
os.write(tell_end, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))
"""


def test_fork_after_start():
    """A forked process asks a driver's child of its own, keeps no port, and takes no answer from its parent's."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30, check=True)
    (gpus, child), (gpus_of_forked, child_of_forked), (gpus_at_last, child_at_last) = (
        line.split() for line in done.stdout.splitlines()
    )

    assert ["2"] * 3 == [gpus, gpus_of_forked, gpus_at_last]
    assert child == child_at_last != child_of_forked
    assert "" == done.stderr


# --- The demonstration ------------------------------------------------------------------------------------------------


def test_demonstration_has_all():
    """The demonstration has every family that its card has."""
    source = COLLECTOR.open(Settings({NVIDIA: "demo"}))
    source._wait = 20.0
    try:
        values(COLLECTOR, source)  # Activity needs two looks.
        found = {series.partition("{")[0] for series in values(COLLECTOR, source)}
    finally:
        source.close()
    golden = text_string_to_metric_families((GOLDEN / "gpu-h200.prom").read_text(encoding="utf-8"))
    names = {sample.name for family in golden for sample in family.samples if "gpu" in sample.name}

    assert names == found
