"""Whole cards, from the driver's answers to the exposition."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.exporter.reading import until, values
from tests.exporter.test_catalogue import excused
from tests.exporter.test_nvml import CARDS, capture

from llmvitals.exposition import encode
from llmvitals_exporter._cards import Cards
from llmvitals_exporter._child import Child
from llmvitals_exporter._dcgm import dcgm_view, warn_of_dcgm_exporter
from llmvitals_exporter._declaration import CollectionFailedError, Settings
from llmvitals_exporter._gpu import INFO, XID_LAST
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape, View
from llmvitals_exporter.collectors.nvidia import COLLECTOR, NVIDIA, NVIDIA_ALSO, VENDOR

GOLDEN = Path(__file__).parent / "golden"
TIMES = ("llmvitals_scrape_collector_duration_seconds",)


def child_of(file, *more):
    return Child([sys.executable, "-m", "llmvitals_exporter.nvml", "--replay", str(file), *more])


@pytest.fixture(name="source")
def _source():
    opened = []

    def make(file, *more, **options):
        opened.append(Cards(child_of(file, *more), VENDOR, wait=20.0, required=True, **options))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def exposition(source):
    declaration = COLLECTOR.__class__(COLLECTOR.name, "", COLLECTOR.families, lambda _: source, waits=True)
    registry = CollectorRegistry()
    scrape = Scrape(Runner([declaration], Settings(), timeout=20.0))
    registry.register(View(scrape))
    scrape.outcomes()  # Activity needs two looks.
    text = encode(registry).decode()
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(TIMES))


@pytest.mark.parametrize("dcgm", [False, True], ids=["ours", "dcgm"])
@pytest.mark.parametrize("file", sorted(CARDS.glob("*.json")), ids=lambda file: file.stem)
def test_card(source, file, dcgm):
    """Each card gives exactly the exposition of its golden file; LLMVITALS_UPDATE_GOLDEN=1 writes them anew."""
    text = exposition(source(file, "--also", "processes", view=dcgm_view if dcgm else None))
    golden = GOLDEN / f"gpu-{file.stem}.prom"
    if dcgm:
        golden = GOLDEN / f"gpu-{file.stem}-dcgm.prom"
        text = "".join(line for line in text.splitlines(keepends=True) if "DCGM_FI_" in line)
        text = text.replace(f'hostname="{os.uname().nodename}"', 'hostname="here"')
    if os.environ.get("LLMVITALS_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")

    assert golden.read_text(encoding="utf-8") == text


@pytest.mark.stack
@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("gpu-*.prom")), ids=lambda file: file.stem)
def test_promtool_finds_nothing_wrong(golden):
    """What a card gives is a valid exposition, and promtool minds dcgm-exporter's own names only."""
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=golden.read_bytes(), capture_output=True, timeout=30, check=False
    )
    told = (result.stdout + result.stderr).decode().splitlines()

    assert [] == [line for line in told if not excused(line)]


def test_xids_outlive_the_child(tmp_path, source):
    """Counts go on when the child is replaced, and are told even while the card is lost."""
    file = tmp_path / "card.json"
    described = capture(xids=[[0.0, "gpu0", 94], [0.1, "gpu0", 94]])
    file.write_text(json.dumps(described))
    nvidia = source(file)

    def count():
        found = values(COLLECTOR, nvidia)
        return sum(value for series, value in found.items() if series.startswith("llmvitals_gpu_xid_errors_total{"))

    until(lambda: 2.0 == count())
    file.write_text(json.dumps(capture(xids=[[0.0, "gpu0", 31]])))
    os.kill(nvidia._child.pid, 9)
    with pytest.raises(CollectionFailedError) as failure:
        values(COLLECTOR, nvidia)

    assert {"94": 2.0} == {
        labels[1]: value for family, labels, value in failure.value.health if family.name.endswith("errors_total")
    }

    nvidia._retry_at = 0.0
    until(lambda: 3.0 == count())


def test_demonstration():
    """--nvidia demo serves two cards that are not there, without a driver."""
    source = COLLECTOR.open(Settings({NVIDIA: "demo", NVIDIA_ALSO: ("dcgm",)}))
    try:
        source._wait = 20.0
        found = values(COLLECTOR, source)
    finally:
        source.close()

    assert 2.0 == found['llmvitals_gpu_count{vendor="nvidia"}']
    assert 2 == len([series for series in found if series.startswith("DCGM_FI_DEV_GPU_UTIL{")])


def test_another_dcgm_exporter_is_told(caplog):
    """A port of dcgm-exporter's that is taken gives a warning, one that is free none."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        warn_of_dcgm_exporter(port)
    warn_of_dcgm_exporter(port)

    assert [f"something listens on port {port}, as NVIDIA's dcgm-exporter does"] == [
        message.partition(".")[0] for message in caplog.messages
    ]


def test_dcgm_view_of_a_split_card(source):
    """As with dcgm-exporter, sums over instances are sums over what there is: the card itself has no memory beside."""
    text = exposition(source(CARDS / "a100-mig.json", view=dcgm_view))
    used = [line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_FB_USED{")]

    assert all('GPU_I_PROFILE=""' not in line and 'GPU_I_ID=""' not in line for line in used)
    assert len(used) == text.count("\nllmvitals_gpu_mig_memory_used_bytes{")
    assert 'GPU_I_PROFILE="3g.40gb"' in used[0]


def test_dcgm_view_of_an_xid():
    """The last XID of each card is its value, and its label."""
    uuid, more = "GPU-1", [""] * (len(INFO.labels) - 1)
    readings = [(INFO, (uuid, *more), 1.0), (XID_LAST, (uuid, "48"), 7.0), (XID_LAST, (uuid, "13"), 9.0)]

    assert [("13", 13.0)] == [(labels[-1], value) for _, labels, value in dcgm_view(readings)]
