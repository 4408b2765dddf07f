"""What the child makes of NVML's answers; NVML is an object with the functions of `pynvml`."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from llmvitals_exporter.nvml_child import DriverFailedError, collect, start


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(f"error {value}")
        self.value = value


NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, FUNCTION_NOT_FOUND = 3, 4, 999, 13


def fake(**functions):
    """A `pynvml` with one well-behaved card; *functions* replaces answers, and None takes the function away."""
    answers = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlDeviceGetPciInfo": SimpleNamespace(busId="00000000:01:00.0"),
        "nvmlDeviceGetVbiosVersion": "96.00",
        "nvmlDeviceGetMigMode": [0, 0],
        "nvmlSystemGetDriverVersion": "570.86",
        "nvmlSystemGetCudaDriverVersion": 12080,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetPowerUsage": 76_500,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetTotalEnergyConsumption": 5_000_000_000_000,
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetCurrPcieLinkGeneration": 5,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetPcieReplayCounter": 0,
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50, memory=20),
        "nvmlDeviceGetEncoderUtilization": [0, 167000],
        "nvmlDeviceGetDecoderUtilization": [10, 167000],
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=1000, used=300, free=600, reserved=100),
        "nvmlDeviceGetFieldValues": [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=45))],
        "nvmlDeviceGetCurrentClocksEventReasons": 0x1 | 0x40,
        "nvmlDeviceGetComputeRunningProcesses": [1, 2],
        **functions,
    }

    def function(answer):
        def call(*_arguments):
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    removed = [name for name, answer in functions.items() if answer is None]
    calls = {name: function(answer) for name, answer in answers.items() if name not in removed}
    return SimpleNamespace(NVMLError=NVMLError, nvmlMemory_v2=2, **calls)


def readings(**functions):
    (device,) = collect(fake(**functions))["devices"]
    return {(name, *labels): value for name, labels, value in device["readings"]}


def test_whole_card():
    """Every reading is in base units."""
    found = readings()

    assert 41.0 == found["temperature_celsius", "gpu"]
    assert 45.0 == found["temperature_celsius", "memory"]
    assert 76.5 == found["power_watts",]
    assert 5e9 == found["energy_joules_total",]
    assert 1.98e9 == found["clock_hertz", "sm"]
    assert (0.5, 0.2, 0.1) == (
        found["utilization_ratio",],
        found["memory_copy_utilization_ratio",],
        found["decoder_utilization_ratio",],
    )
    assert (1000.0, 300.0, 600.0, 100.0) == tuple(
        found[f"memory_{kind}_bytes",] for kind in ("total", "used", "free", "reserved")
    )
    assert (1.0, 1.0, 0.0) == tuple(
        found["throttle_active", reason] for reason in ("gpu_idle", "hw_thermal_slowdown", "hw_slowdown")
    )
    assert 2.0 == found["processes",]


def test_identity():
    """The driver's and the card's identity is told once."""
    answer = collect(fake())

    assert {"driver_version": "570.86", "cuda_version": "12.8"} == answer["driver"]
    assert {
        "index": "0",
        "name": "NVIDIA H200",
        "pci_bus_id": "00000000:01:00.0",
        "vbios_version": "96.00",
        "mig_mode": "disabled",
    } == answer["devices"][0]["info"]


ASKED = [name for name in vars(fake()) if name.startswith("nvmlDeviceGet") and name[13:] not in ("Count", "UUID")]
OPTIONAL = [name for name in ASKED if name != "nvmlDeviceGetHandleByIndex"]


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, FUNCTION_NOT_FOUND])
@pytest.mark.parametrize("name", OPTIONAL)
def test_unsupported_reading_is_absent(name, code):
    """A function that fails takes its own readings away, and no others."""
    whole, found = readings(), readings(**{name: NVMLError(code)})

    assert found.items() <= whole.items()
    assert len(found) >= len(whole) - 9


@pytest.mark.parametrize("name", OPTIONAL)
def test_function_missing_in_an_old_library(name):
    """A function that the library does not have is as good as unsupported."""
    assert readings(**{name: None}).items() <= readings().items()


@pytest.mark.parametrize("code", [1, 9, 15, 16, 18, 28])
@pytest.mark.parametrize("name", ["nvmlDeviceGetTemperature", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_lost_driver_fails_the_collection(name, code):
    """When the driver or a card is gone, no reading of the others is told either."""
    with pytest.raises(DriverFailedError) as failure:
        collect(fake(**{name: NVMLError(code)}))

    assert code == failure.value.code


@pytest.mark.parametrize("blank", [-1, 2**31 - 16, 2**32 - 16, 2**63 - 16, 2**64 - 1])
def test_blank_value_is_absent(blank):
    """The driver's ways to write "no value" are no values."""
    found = readings(
        nvmlDeviceGetTemperature=blank,
        nvmlDeviceGetPowerUsage=blank,
        nvmlDeviceGetUtilizationRates=SimpleNamespace(gpu=blank, memory=blank),
        nvmlDeviceGetMemoryInfo=SimpleNamespace(total=blank, used=blank, free=blank),
    )

    assert not {name for name, *_ in found} & {"power_watts", "utilization_ratio", "memory_used_bytes"}
    assert ("temperature_celsius", "gpu") not in found


@pytest.mark.parametrize(
    "answer", [NVMLError(NOT_SUPPORTED), SimpleNamespace(total=0, used=0, free=0)], ids=["not supported", "zeros"]
)
def test_unified_memory_has_no_memory_series(answer):
    """A card that shares the machine's memory has no memory of its own to report, whichever way its driver says so."""
    assert not [name for name, *_ in readings(nvmlDeviceGetMemoryInfo=answer) if name.startswith("memory_total")]


def test_no_card():
    """A driver without a card is a failure."""
    with pytest.raises(DriverFailedError, match="no GPU"):
        collect(fake(nvmlDeviceGetCount=0))


@pytest.mark.parametrize(
    ("code", "status"), [(12, "absent"), (9, "absent"), (18, "failed"), (999, "failed"), (4, "failed")]
)
def test_start(code, status):
    """No library and no driver are absence; anything else that stops NVML is a failure."""
    answer = start(fake(nvmlInit=NVMLError(code)))

    assert {"status": status, "code": code, "error": f"nvmlInit: error {code}"} == answer


def test_conversation():
    """The real child answers each line with one line, and ends when its input does."""
    result = subprocess.run(
        [sys.executable, "-m", "llmvitals_exporter.nvml_child"],
        input=b'{"id": 1}\n{"id": 2}\n',
        capture_output=True,
        timeout=30,
        check=True,
    )
    answers = [json.loads(line) for line in result.stdout.splitlines()]

    assert [1, 2] == [answer["id"] for answer in answers]
    assert {answer["status"] for answer in answers} <= {"ok", "absent", "failed"}
