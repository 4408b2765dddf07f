"""Faults of cards that are not there, turned on in a file."""

import json
from pathlib import Path

import pytest
from tests.exporter.reading import until

import llmvitals_exporter.nvml
from llmvitals_exporter.nvml.__main__ import Driver
from llmvitals_exporter.nvml._demo import Demo

CARD = json.loads((Path(llmvitals_exporter.nvml.__file__).parent / "cards" / "h200.json").read_text())
GPU0, GPU1 = "GPU-00000000-0000-0000-0000-000000000000", "GPU-00000000-0000-0000-0000-000000000001"


def test_demo_faults(tmp_path):
    """A fault that a file names changes its card's readings alone, and as long as it is named."""
    file = tmp_path / "faults"
    demo = Demo(CARD, file)
    demo.elapsed = lambda: 100.0
    shown = Driver(demo)

    def look():
        return {
            (device["uuid"], name, *labels): value
            for device in shown.answer()["devices"]
            for name, labels, value in device["readings"]
        }

    look()  # Activity needs two looks.
    well = look()
    file.write_text(
        "gpu0 ecc\ngpu0 overheated # a remark\ngpu0 row-remap-failure\ngpu0 recovery\ngpu0 full\n"
        "gpu1 idle\ngpu1 nvlink-down\nnonsense\n"
    )
    ill = look()
    file.write_text("gpu1 missing\n")
    lost = look()
    file.unlink()

    assert [3.0, 94.0, 1.0, 1.0, 1.0] == [
        ill[GPU0, *reading]
        for reading in (
            ("ecc_errors_total", "uncorrected", "volatile"),
            ("temperature_celsius", "gpu"),
            ("throttle_active", "hw_thermal_slowdown"),
            ("row_remap_failure",),
            ("recovery_action",),
        )
    ]
    assert 0.97 == pytest.approx(ill[GPU0, "memory_used_bytes"] / ill[GPU0, "memory_total_bytes"])
    assert (0.0, 0.0) == (ill[GPU1, "utilization_ratio"], ill[GPU1, "nvlink_up", "0"])
    assert 0.1 < ill[GPU1, "memory_used_bytes"] / ill[GPU1, "memory_total_bytes"]
    assert {GPU0} == {uuid for uuid, *_ in lost}
    assert {key: value for key, value in well.items() if key[0] == GPU0} == lost
    assert well == look()


def test_demo_xid(tmp_path):
    """An XID that the file names comes once."""
    file = tmp_path / "faults"
    file.write_text("gpu1 xid-79\n")
    shown = Driver(Demo(CARD, file))

    until(lambda: shown.answer()["xids"])

    assert [(GPU1, 79, 1)] == [tuple(seen[:3]) for seen in shown.answer()["xids"]]
