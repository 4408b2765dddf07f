"""AMD's GPUs; the package that asks them is played (`fake_amdsmi`)."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from tests.exporter import fake_amdsmi
from tests.exporter.fake_amdsmi import DRIVER_NOT_LOADED, MI300X, NO_PERM, NOT_FOUND, NOT_INIT, RADEON, AmdSmi
from tests.exporter.reading import values

from llmvitals_exporter._answering import Talk
from llmvitals_exporter._declaration import CollectionFailedError, Settings
from llmvitals_exporter.amd.__main__ import Driver
from llmvitals_exporter.collectors.amd import AMD, AMD_ALSO, COLLECTOR

UUID = MI300X["amdsmi_get_gpu_device_uuid"]


def talk(*cards, also=(), init=None):
    return Talk(Driver(lambda: AmdSmi(*cards, init=init), frozenset(also)).start)


def readings(changes=None, *, card=MI300X, also=()):
    (device,) = talk({**card, **(changes or {})}, also=also).answer()["devices"]
    return {(name, *labels): value for name, labels, value in device["readings"]}


def test_whole_card():
    """Every reading is in base units, under NVIDIA's names; what the card does not support is absent."""
    assert {
        ("utilization_ratio",): 0.87,
        ("memory_copy_utilization_ratio",): 0.42,
        ("memory_total_bytes",): 206_141_652_992.0,
        ("memory_used_bytes",): 120e9,
        ("power_watts",): 612.0,
        ("power_limit_watts",): 750.0,
        ("energy_joules_total",): 30_600.0,
        ("temperature_celsius", "hotspot"): 68.0,
        ("temperature_celsius", "memory"): 55.0,
        ("clock_hertz", "graphics"): 2.1e9,
        ("clock_hertz", "memory"): 1.3e9,
        ("pcie_link_generation",): 5.0,
        ("pcie_link_width",): 16.0,
        ("pcie_replay_total",): 3.0,
        ("ecc_errors_total", "corrected", "volatile"): 7.0,
        ("ecc_errors_total", "uncorrected", "volatile"): 0.0,
        ("ecc_errors_total", "deferred", "volatile"): 1.0,
        ("processes",): 1.0,
    } == pytest.approx(readings())


def test_consumer_card():
    """A card that tells little has what it tells, its average power included, and no process where we may not ask."""
    assert {
        ("utilization_ratio",): 0.03,
        ("memory_copy_utilization_ratio",): 0.01,
        ("memory_total_bytes",): 25_753_026_560.0,
        ("memory_used_bytes",): 1.2e9,
        ("power_watts",): 24.0,
        ("temperature_celsius", "gpu"): 41.0,
        ("temperature_celsius", "hotspot"): 47.0,
        ("temperature_celsius", "memory"): 50.0,
    } == readings(card=RADEON)


@pytest.mark.parametrize("blank", ["N/A", 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, -1, None, True])
def test_no_value_is_absent(blank):
    """Whichever way the library writes "no value", there is no reading, and never one of another unit's size."""
    keys = ("socket_power", "current_socket_power", "average_socket_power")
    found = readings({"amdsmi_get_power_info": dict.fromkeys(keys, blank)})

    assert ("power_watts",) not in found
    assert 68.0 == found["temperature_celsius", "hotspot"]


@pytest.mark.parametrize(
    "trouble",
    [[NO_PERM], [NOT_FOUND], ValueError("invalid literal for int()"), AttributeError("amdsmi_get"), "text", {}],
)
def test_a_question_that_fails_costs_its_own_readings(trouble):
    """An error of a question, or of the package that decodes its answer, costs what it would have told."""
    found = readings({"amdsmi_get_energy_count": trouble, "amdsmi_get_gpu_asic_info": trouble})

    assert readings().keys() - {("energy_joules_total",)} == found.keys()


def test_older_versions():
    """Other keys of older versions are understood: the energy's, the clock's, and the link's speed in gigatransfers."""
    found = readings(
        {
            "amdsmi_get_energy_count": {"power": 1_000_000, "counter_resolution": 15.3, "timestamp": 1},
            "amdsmi_get_clock_info": {(kind,): {"cur_clk": 500} for kind in (0, 3, 4, 6)},
            "amdsmi_get_pcie_info": {"pcie_metric": {"pcie_speed": 16, "pcie_width": 8}},
        }
    )

    assert (15.3, 5e8, 4.0) == pytest.approx(
        (found["energy_joules_total",], found["clock_hertz", "graphics"], found["pcie_link_generation",])
    )


def test_processes():
    """Memory by process is opt-in, for the fifty largest and the rest together; a name is no command line."""
    shown = [
        {"pid": pid, "name": f"/opt/app{pid} --token secret", "memory_usage": {"vram_mem": pid * 2**20}}
        for pid in range(1, 61)
    ]
    found = readings({"amdsmi_get_gpu_process_list": shown}, also=("processes",))
    told = {key[1:]: value for key, value in found.items() if key[0] == "process_memory_bytes"}

    assert (60.0, 51) == (found["processes",], len(told))
    assert (60.0 * 2**20, sum(range(1, 11)) * 2.0**20) == (told["60", "app60"], told["other", ""])


def test_an_integrated_gpu_shares_the_machines_memory():
    """A GPU without memory of its own is told to be unified, and has no memory series."""
    (device,) = talk({**RADEON, "amdsmi_get_gpu_memory_total": {(0,): 0}}).answer()["devices"]

    assert "unified" == device["info"]["memory"]
    assert not [name for name, *_ in device["readings"] if name.startswith("memory_") and name.endswith("_bytes")]


def test_cards_without_a_uuid_of_their_own():
    """Two consumer cards of one model can have one UUID: their addresses tell them apart."""
    twin = {**RADEON, "amdsmi_get_gpu_device_bdf": "0000:0b:00.0"}
    nameless = {**RADEON, "amdsmi_get_gpu_device_uuid": [NO_PERM], "amdsmi_get_gpu_device_bdf": "0000:0c:00.0"}
    shared = RADEON["amdsmi_get_gpu_device_uuid"]
    answer = talk(MI300X, RADEON, twin, nameless).answer()

    assert [UUID, f"{shared}@0000:0a:00.0", f"{shared}@0000:0b:00.0", "0000:0c:00.0"] == [
        device["uuid"] for device in answer["devices"]
    ]
    assert "no UUID or PCI address of its own" in talk(RADEON, RADEON).answer()["error"]


@pytest.mark.parametrize(("code", "status"), [(NOT_INIT, "absent"), (DRIVER_NOT_LOADED, "absent"), (18, "failed")])
def test_start(code, status):
    """Without a driver there is nothing here; anything else that stops the library is a failure."""
    answer = talk(MI300X, init=code).answer()

    assert (status, code) == (answer["status"], answer["code"])
    assert "\n" not in answer["error"]


def test_no_card_is_absence():
    """ROCm without a card, or a package without its library, is no failure."""

    def broken():
        raise KeyError("libamd_smi.so")

    assert "absent" == talk().answer()["status"]
    assert "KeyError: 'libamd_smi.so'" in Talk(Driver(broken).start).answer()["error"]


@pytest.mark.parametrize(
    "lost",
    [{"amdsmi_get_gpu_device_bdf": "0000:05:00.0"}, {**MI300X, "amdsmi_get_gpu_activity": [DRIVER_NOT_LOADED]}],
    ids=["card", "driver"],
)
def test_lost(lost):
    """A card that answers nothing any more, or a driver that is gone, fails all, and stays failed in this process."""
    smi = AmdSmi(MI300X)
    said = Talk(Driver(lambda: smi).start)
    before = said.answer()
    smi.cards = [lost]
    after = said.answer()
    smi.cards = [MI300X]

    assert ("ok", "failed") == (before["status"], after["status"])
    assert after == said.answer()


@pytest.fixture(name="opened")
def _opened(tmp_path, monkeypatch):
    """Opens the collector, with the fake package where its child can import it."""
    shutil.copy(Path(fake_amdsmi.__file__), tmp_path / "amdsmi.py")
    sources = []

    def make(mode="auto", *, installed=True, also=()):
        if installed:
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        source = COLLECTOR.open(Settings({AMD: mode, AMD_ALSO: also}))
        if source is not None:
            source._wait = 20.0
            sources.append(source)
        return source

    yield make
    for source in sources:
        source.close()


def test_collector(opened):
    """The child that the exporter starts reads both cards; no process but the child imports the package."""
    found = values(COLLECTOR, opened(also=("processes",)))

    assert 2.0 == found['llmvitals_gpu_count{vendor="amd"}']
    assert 0.0 == found["llmvitals_gpu_collector_amdsmi_return_code"]
    assert 0.87 == found[f'llmvitals_gpu_utilization_ratio{{uuid="{UUID}"}}']
    assert 9e10 == found[f'llmvitals_gpu_process_memory_bytes{{uuid="{UUID}",pid="4242",name="python3"}}']
    assert (
        1.0
        == found[
            f'llmvitals_gpu_info{{uuid="{UUID}",index="0",name="AMD Instinct MI300X",pci_bus_id="0000:05:00.0",'
            'vbios_version="022.040.003.042",mig_mode="",memory="dedicated",driver_version="6.12.12",cuda_version=""}'
        ]
    )
    assert "amdsmi" not in sys.modules


def test_off(opened):
    """With --amd off there is no child at all."""
    assert opened("off") is None


@pytest.mark.skipif(importlib.util.find_spec("amdsmi") is not None, reason="amdsmi is installed")
def test_not_installed(opened):
    """Without the package there is no collector; asked for, it is a failure that says what is missing."""
    assert opened(installed=False) is None

    with pytest.raises(CollectionFailedError, match="No module named 'amdsmi'"):
        values(COLLECTOR, opened("on", installed=False))
