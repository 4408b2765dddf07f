"""Block devices, from ``/proc/diskstats``; elsewhere disks, from psutil."""

import re
from collections.abc import Iterator
from typing import Any

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, legible, lines

#: Memory disks, and partitions, whose numbers are in their disk's too. The same devices that node_exporter leaves out.
_LEFT_OUT = re.compile(r"(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
#: diskstats counts 512-byte sectors, whatever the device's own sector size is.
_SECTOR = 512.0
_MILLISECOND = 0.001


def _counter(name: str, help_: str) -> Family:
    return Family(f"node_disk_{name}_total", "counter", help_, ("device",))


#: In the order of the file's columns, from the fourth on: family, and what its number is multiplied with.
_COLUMNS: tuple[tuple[Family, float], ...] = (
    (_counter("reads_completed", "Reads completed."), 1.0),
    (_counter("reads_merged", "Reads merged."), 1.0),
    (_counter("read_bytes", "Bytes read."), _SECTOR),
    (_counter("read_time_seconds", "Seconds spent by all reads."), _MILLISECOND),
    (_counter("writes_completed", "Writes completed."), 1.0),
    (_counter("writes_merged", "Writes merged."), 1.0),
    (_counter("written_bytes", "Bytes written."), _SECTOR),
    (_counter("write_time_seconds", "Seconds spent by all writes."), _MILLISECOND),
    (Family("node_disk_io_now", "gauge", "I/Os in progress.", ("device",)), 1.0),
    (_counter("io_time_seconds", "Seconds in which at least one I/O was in progress."), _MILLISECOND),
    (_counter("io_time_weighted_seconds", "Seconds of I/O, each weighted with the I/Os in progress."), _MILLISECOND),
    (_counter("discards_completed", "Discards completed."), 1.0),
    (_counter("discards_merged", "Discards merged."), 1.0),
    (_counter("discarded_sectors", "Sectors discarded."), 1.0),
    (_counter("discard_time_seconds", "Seconds spent by all discards."), _MILLISECOND),
    (_counter("flush_requests", "Flush requests completed."), 1.0),
    (_counter("flush_requests_time_seconds", "Seconds spent by all flush requests."), _MILLISECOND),
)


def _read(path: str) -> Iterator[Reading]:
    try:
        disks = lines(path)
    except FileNotFoundError as error:
        raise NothingToCollect(f"the kernel has no {path}") from error
    for line in disks:
        _major, _minor, device, *numbers = line.split()
        if not _LEFT_OUT.fullmatch(device):
            # zip stops at the columns that an old kernel has.
            for (family, factor), number in zip(_COLUMNS, numbers, strict=False):
                yield family, (device,), int(number) * factor


# --- Elsewhere --------------------------------------------------------------------------------------------------------

#: psutil's field, whose times are in milliseconds on every system.
_FIELDS = {
    "read_count": ("node_disk_reads_completed_total", 1.0),
    "read_bytes": ("node_disk_read_bytes_total", 1.0),
    "read_time": ("node_disk_read_time_seconds_total", _MILLISECOND),
    "write_count": ("node_disk_writes_completed_total", 1.0),
    "write_bytes": ("node_disk_written_bytes_total", 1.0),
    "write_time": ("node_disk_write_time_seconds_total", _MILLISECOND),
}
_BY_NAME = {family.name: family for family, _ in _COLUMNS}


def portable(psutil: Any) -> Iterator[Reading]:
    # A counter that starts over is a reset, which Prometheus understands: psutil need not hide it.
    disks = psutil.disk_io_counters(perdisk=True, nowrap=False)
    if not disks:
        raise NothingToCollect("the system counts no disk's reads and writes")
    for device, numbers in disks.items():
        for field, (name, factor) in _FIELDS.items():
            value = _portable.number(numbers, field)
            if value is not None:
                yield _BY_NAME[name], (legible(device),), value * factor


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        psutil = _portable.psutil()
        return Reader(lambda: portable(psutil))
    path = f"{settings[PROCFS]}/diskstats"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(
    name="disk",
    help="reads, writes and busy time of block devices",
    families=tuple(family for family, _ in _COLUMNS),
    options=(PROCFS,),
    open=_open,
)
