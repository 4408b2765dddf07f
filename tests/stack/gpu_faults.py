"""Faults of the GPUs that the exporter plays: lines of the file that docs/exporter.md tells of."""

from collections.abc import Callable

from tests.stack.demo_world import Undo, World
from tests.stack.fault import Fault


def _lines(*lines: str) -> Callable[[World], Undo]:
    return lambda world: world.gpu_faults(*lines)


def _played(fault: str, alerts: tuple[str, ...], seconds: float, *, start: float = 0) -> Fault:
    return Fault(f"played: `{fault}` in `.run/gpu-faults`", alerts, start, seconds, _lines(*fault.split(", ")))


GPU_FAULTS = (
    _played("gpu0 ecc", ("GPUEccUncorrected",), 300),
    _played("gpu0 row-remap-pending", ("GPURowRemapPending",), 600),
    _played("gpu0 row-remap-failure", ("GPURowRemapFailure",), 300),
    _played("gpu0 recovery", ("GPURecoveryNeeded",), 300),
    _played("gpu0 full", ("GPUMemoryNearlyFull",), 300),
    _played("gpu0 hot, gpu0 overheated", ("GPUTemperatureHigh", "GPUThrottled"), 600),
    _played("gpu0 xid-79, gpu0 xid-94", ("GPUXidError",), 60),
    _played("gpu0 nvlink-errors", ("GPUNvlinkErrors",), 900),
    _played("gpu1 nvlink-down", ("GPUNvlinkDown",), 1000, start=310),
    _played("gpu0 missing", ("GPUMissing",), 900, start=1400),
    # It is so from before the start: see `yesterday`.
    _played("gpu1 idle", ("GPUIdle",), 2300),
)
