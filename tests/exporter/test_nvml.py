"""What the child makes of NVML's answers; NVML is played from the description of a card."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.exporter.reading import until

import llmvitals_exporter.nvml
from llmvitals_exporter.nvml.__main__ import Driver
from llmvitals_exporter.nvml._demo import Demo
from llmvitals_exporter.nvml._driver import number
from llmvitals_exporter.nvml._recording import Recording
from llmvitals_exporter.nvml._replay import Replay

CARDS = Path(llmvitals_exporter.nvml.__file__).parent / "cards"
NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, FUNCTION_NOT_FOUND = 3, 4, 999, 13


def capture(name="h100", changes=None, without=(), xids=()):
    """The description of a card with other answers to some calls, and some functions gone."""
    described = json.loads((CARDS / f"{name}.json").read_text())
    calls = {call: answer for call, answer in described["calls"].items() if call.partition("(")[0] not in without}
    return {"source": described["source"], "calls": calls | (changes or {}), "xids": xids}


def driver(name="h100", changes=None, *, also=(), **more):
    return Driver(Replay(capture(name, changes, **more)), frozenset(also))


def readings(*arguments, **more):
    (device,) = driver(*arguments, **more).answer()["devices"]
    return {(name, *labels): value for name, labels, value in device["readings"]}


def test_whole_card():
    """Every reading is in base units."""
    found = readings()

    assert (36.0, 43.0) == (found["temperature_celsius", "gpu"], found["temperature_celsius", "memory"])
    assert (118.0, 700.0, 1e9) == tuple(
        found[name,] for name in ("power_watts", "power_limit_watts", "energy_joules_total")
    )
    assert (1.98e9, 2.619e9) == (found["clock_hertz", "sm"], found["clock_hertz", "memory"])
    assert (
        81559.0 * 2**20
        == found["memory_total_bytes",]
        == sum(found[f"memory_{kind}_bytes",] for kind in ("used", "free", "reserved"))
    )
    assert (1.0, 0.0) == (found["throttle_active", "gpu_idle"], found["throttle_active", "hw_slowdown"])
    assert (0.0, 0.0) == (found["ecc_errors_total", "uncorrected", "aggregate"], found["remapped_rows", "correctable"])
    assert (1.0, 500_000 * 1024.0) == (found["nvlink_up", "17"], found["nvlink_receive_bytes_total", "17"])
    assert 0.0 == found["processes",]
    assert ("process_memory_bytes", "1", "") not in found
    assert ("pcie_receive_bytes_per_second",) not in found


def test_identity():
    """The driver's and the card's identity is told once."""
    answer = driver().answer()

    assert {"driver_version": "570.133.20", "cuda_version": "12.8"} == answer["driver"]
    assert {
        "index": "0",
        "name": "NVIDIA H100 80GB HBM3",
        "pci_bus_id": "00000000:17:00.0",
        "vbios_version": "00.00.00.00.00",
        "mig_mode": "disabled",
        "memory": "dedicated",
    } == answer["devices"][0]["info"]


ASKED = sorted({call.partition("(")[0] for call in capture()["calls"] if call.startswith("nvmlDeviceGet")})
OPTIONAL = [name for name in ASKED if name[13:] not in ("Count", "UUID", "HandleByIndex")]


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, FUNCTION_NOT_FOUND])
@pytest.mark.parametrize("name", OPTIONAL)
def test_unsupported_reading_is_absent(name, code):
    """A function that fails takes its own readings away, and changes no others."""
    failing = {call: {"error": code} for call in capture()["calls"] if call.startswith(f"{name}(")}
    whole, found = readings(), readings("h100", failing)

    assert found.items() <= whole.items()
    assert found


@pytest.mark.parametrize("name", OPTIONAL)
def test_function_missing_in_an_old_library(name):
    """A function that the library does not have is as good as unsupported."""
    assert readings(without=(name,)).items() <= readings().items()


@pytest.mark.parametrize("code", [1, 9, 15, 16, 18, 28])
@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetTemperature(gpu0, 0)", "nvmlDeviceGetCount()", "nvmlDeviceGetName(gpu0)"]
)
def test_lost_driver_fails_the_collection(call, code):
    """When the driver or a card is gone, no reading of the others is told either, then and for ever after."""
    lost = driver("h100", {call: {"error": code}})

    for _ in range(2):
        answer = lost.answer()
        assert ("failed", code) == (answer["status"], answer["code"])
        assert "devices" not in answer


@pytest.mark.parametrize("blank", [-1, 2**31 - 16, 2**32 - 16, 2**32 - 1, 2**63 - 16, 2**64 - 1, None, True, "41"])
def test_blank_value_is_absent(blank):
    """The driver's ways to write "no value" are no values."""
    assert number(blank) is None
    found = readings(
        "h100",
        {
            "nvmlDeviceGetTemperature(gpu0, 0)": blank,
            "nvmlDeviceGetPowerUsage(gpu0)": blank,
            "nvmlDeviceGetFieldValues(gpu0, 82)": blank,
            "nvmlDeviceGetUtilizationRates(gpu0)": {"struct": {"gpu": blank, "memory": blank}},
            "nvmlDeviceGetMemoryInfo(gpu0, 2)": {"struct": {"total": 1, "used": blank, "free": blank}},
            "nvmlDeviceGetTotalEccErrors(gpu0, 0, 0)": blank,
            "nvmlDeviceGetRemappedRows(gpu0)": [blank] * 4,
        },
    )

    assert not {name for name, *_ in found} & {
        "power_watts",
        "utilization_ratio",
        "memory_used_bytes",
        "temperature_celsius",
        "remapped_rows",
        "row_remap_failure",
    }
    assert ("ecc_errors_total", "corrected", "volatile") not in found
    assert 0.0 == found["ecc_errors_total", "corrected", "aggregate"]


@pytest.mark.parametrize(
    "answer",
    [{"error": NOT_SUPPORTED}, {"struct": {"total": 0, "used": 0, "free": 0}}],
    ids=["not supported", "zeros"],
)
def test_unified_memory_has_no_memory_series(answer):
    """A card that shares the machine's memory has none of its own to report, whichever way its driver says so."""
    changes = {f"nvmlDeviceGetMemoryInfo({handle})": answer for handle in ("gpu0", "gpu0, 2")}
    (device,) = driver("gb10", changes).answer()["devices"]

    assert "unified" == device["info"]["memory"]
    assert not [name for name, *_ in device["readings"] if name.startswith("memory_") and name.endswith("_bytes")]


def test_no_card():
    """A driver without a card is a failure."""
    answer = driver("h100", {"nvmlDeviceGetCount()": 0}).answer()

    assert ("failed", "the driver is there, but shows no GPU") == (answer["status"], answer["error"])


def test_two_cards_of_one_name():
    """Cards that cannot be told apart are a failure, not a mixture."""
    calls = capture("h200")["calls"]
    twin = {"nvmlDeviceGetUUID(gpu1)": calls["nvmlDeviceGetUUID(gpu0)"]}

    assert "two GPUs have the UUID" in driver("h200", twin).answer()["error"]


@pytest.mark.parametrize(
    ("code", "status"), [(12, "absent"), (9, "absent"), (18, "failed"), (999, "failed"), (4, "failed")]
)
def test_start(code, status):
    """No library and no driver are absence; anything else that stops NVML is a failure."""
    answer = driver("h100", {"nvmlInit()": {"error": code}}).answer()

    assert {"status": status, "code": code, "error": f"nvmlInit: error {code}", "xids": []} == answer


def test_activity_needs_two_looks():
    """What hardware counters measure is the share between two looks, so the first answer has none."""
    h100 = driver()
    first, second = (h100.answer()["devices"][0]["readings"] for _ in range(2))
    found = {name: value for name, labels, value in second if name.endswith(("activity_ratio", "occupancy_ratio"))}

    assert not [name for name, *_ in first if name.endswith("activity_ratio")]
    assert {
        "graphics_activity_ratio": 0.625,
        "sm_activity_ratio": 0.48,
        "sm_occupancy_ratio": 0.31,
        "tensor_activity_ratio": 0.22,
        "dram_activity_ratio": 0.35,
    } == found


def test_instances():
    """A split card's instances have their memory once each, however many compute instances share it."""
    a100 = driver("a100-mig")
    a100.answer()
    found = [tuple(reading[:2]) for reading in a100.answer()["devices"][0]["readings"]]
    names = [name for name, _ in found]

    assert [["1"], ["2"]] == [labels for name, labels in found if name == "mig_memory_total_bytes"]
    assert [["1", "0"], ["2", "0"], ["2", "1"]] == [labels[:2] for name, labels in found if name == "mig_info"]
    assert not {"utilization_ratio", "encoder_utilization_ratio", "mig_sm_activity_ratio"} & set(names)


def test_activity_of_instances():
    """From Hopper on each instance has its activity, and the split card none of its own."""
    h100 = driver("h100-mig")
    h100.answer()
    (device,) = h100.answer()["devices"]
    found = {(name, *labels): value for name, labels, value in device["readings"]}

    assert (0.48, 0.48) == (found["mig_sm_activity_ratio", "3"], found["mig_sm_activity_ratio", "9"])
    assert ("sm_activity_ratio",) not in found


def process(pid, memory):
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def test_processes():
    """Memory by process is opt-in, for the fifty largest and the rest together; a name is no command line."""
    shown = [process(pid, pid * 2**20) for pid in range(1, 61)] + [process(99, None), process(100, 2**64 - 1)]
    changes = {"nvmlDeviceGetComputeRunningProcesses(gpu0)": shown}
    changes |= {f"nvmlSystemGetProcessName({pid})": f"/opt/app/python{pid} --token secret" for pid in range(1, 61)}
    found = readings("h100", changes, also=("processes",))
    told = {key[1:]: value for key, value in found.items() if key[0] == "process_memory_bytes"}

    assert 62.0 == found["processes",] == readings("h100", changes)["processes",]
    assert 51 == len(told)
    assert 60.0 * 2**20 == told["60", "python60"]
    assert sum(range(1, 11)) * 2.0**20 == told["other", ""]
    assert "secret" not in str(told)


def test_pcie_throughput_is_opt_in():
    """What costs the driver 20 ms a direction is asked only when it is wanted."""
    found = readings(also=("pcie-throughput",))

    assert (1200 * 1024.0, 3400 * 1024.0) == (
        found["pcie_transmit_bytes_per_second",],
        found["pcie_receive_bytes_per_second",],
    )


def test_xids():
    """XIDs are counted as they come, by card and number, with the time of the last."""
    h200 = driver("h200", xids=[[0.0, "gpu0", 94], [0.01, "gpu1", 94], [0.02, "gpu0", 94], [0.03, "gpu0", 31]])
    h200.answer()
    until(lambda: 4 == sum(count for _, _, count, _ in h200.answer()["xids"]))
    counts = {(uuid[-1], xid): count for uuid, xid, count, _ in h200.answer()["xids"]}

    assert {("0", 94): 2, ("1", 94): 1, ("0", 31): 1} == counts
    assert all(last > 1.7e9 for _, _, _, last in h200.answer()["xids"])


def test_xid_of_a_lost_card():
    """An XID is counted by its card, although that cannot even say its name any more, and while all else fails."""
    lost = driver("h100", xids=[[0.3, "gpu0", 79]])
    name = lost.answer()["devices"][0]["uuid"]
    lost._nvml._calls["nvmlDeviceGetUUID(gpu0)"] = {"error": 15}
    until(lambda: lost.answer()["xids"])
    answer = lost.answer()

    assert ("failed", [(name, 79, 1)]) == (answer["status"], [(*entry[:3],) for entry in answer["xids"]])


def test_xid_of_no_card():
    """An XID of nothing that is known, a null pointer say, counts all the same."""
    strange = driver("h100", xids=[[0.0, ctypes.POINTER(ctypes.c_int)(), 31], [0.01, "gpu7", 31]])
    strange.answer()
    until(lambda: 2 == sum(count for _, _, count, _ in strange.answer()["xids"]))

    assert [("unknown", 31, 2)] == [(*entry[:3],) for entry in strange.answer()["xids"]]


def test_xids_where_they_are_not_supported():
    """A card that tells no events costs no thread."""
    nvml = Replay(capture())
    nvml.nvmlDeviceRegisterEvents = lambda *_: (_ for _ in ()).throw(nvml.NVMLError(NOT_SUPPORTED))
    silent = Driver(nvml)

    assert [] == silent.answer()["xids"]
    assert not silent._xids.supported


def test_demo_lives():
    """A demonstration's card has a load that comes and goes, plausible in every reading, and counters that grow."""
    demo = Demo(capture("h200"))
    now = [0.0]
    demo.elapsed = lambda: now[0]
    shown = Driver(demo)
    seen = []
    for second in range(0, 400, 20):
        now[0] = second
        (device, _) = shown.answer()["devices"]
        seen.append({(name, *labels): value for name, labels, value in device["readings"]})
    utilization = [found["utilization_ratio",] for found in seen]
    energy = [found["energy_joules_total",] for found in seen]

    assert min(utilization) < 0.1
    assert 0.9 < max(utilization) <= 1.0
    assert energy == sorted(energy)
    assert energy[0] < energy[-1]
    for found in seen:
        total = found["memory_total_bytes",]
        assert total == sum(found[f"memory_{kind}_bytes",] for kind in ("used", "free", "reserved"))
        assert 0 < found["power_watts",] <= found["power_limit_watts",]


@pytest.mark.parametrize("file", sorted(CARDS.glob("*.json")), ids=lambda file: file.stem)
def test_what_is_recorded_plays_the_same(file):
    """Recording a driver's answers and playing them gives the same answers: each card's description survives it."""
    described = json.loads(file.read_text())
    recording = Recording(Replay(described))
    first = Driver(recording, frozenset(["processes", "pcie-throughput"]))
    asked = [first.answer() for _ in range(2)]
    written = json.loads(json.dumps(recording.capture("test")))
    second = Driver(Replay(written), frozenset(["processes", "pcie-throughput"]))

    assert asked == [second.answer() for _ in range(2)]
    assert "test" == written["source"]
    assert described["source"].startswith(("recorded on ", "written from "))


def test_recording_masks_what_identifies_a_card():
    """UUIDs and serial numbers are masked, equal ones alike."""
    uuid = "GPU-4d0ea3c8-1111-2222-3333-444455556666"
    nvml = Replay(capture("h100", {"nvmlDeviceGetUUID(gpu0)": uuid, "nvmlDeviceGetSerial(gpu0)": "1654922"}))
    recording = Recording(nvml)
    Driver(recording).answer()
    recording.nvmlDeviceGetSerial("gpu0")
    text = json.dumps(recording.capture("test"))

    assert uuid[4:] not in text
    assert "1654922" not in text
    assert "GPU-00000000-0000-0000-0000-000000000000" in text


def test_conversation():
    """The real child answers each line with one line, and ends when its input does."""
    result = subprocess.run(
        [sys.executable, "-m", "llmvitals_exporter.nvml"],
        input=b'{"id": 1}\n{"id": 2}\n',
        capture_output=True,
        timeout=30,
        check=True,
    )
    answers = [json.loads(line) for line in result.stdout.splitlines()]

    assert [1, 2] == [answer["id"] for answer in answers]
    assert {answer["status"] for answer in answers} <= {"ok", "absent", "failed"}
