"""Network devices, from ``/proc/net/dev``; elsewhere from psutil."""

from collections.abc import Iterator
from typing import Any

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, legible, lines

_RECEIVE = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
_TRANSMIT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")


def _family(way: str, what: str) -> Family:
    return Family(f"node_network_{way}_{what}_total", "counter", f"Network device statistic {way} {what}.", ("device",))


#: In the order of the file's columns.
_COLUMNS = (
    *(_family("receive", what) for what in _RECEIVE),
    *(_family("transmit", what) for what in _TRANSMIT),
)


def _read(path: str) -> Iterator[Reading]:
    try:
        devices = lines(path)[2:]
    except FileNotFoundError as error:
        raise NothingToCollect(f"the kernel has no {path}") from error
    for line in devices:
        device, _, numbers = line.rpartition(":")
        for family, number in zip(_COLUMNS, numbers.split(), strict=True):
            yield family, (device.lstrip(" "),), float(number)


# --- Elsewhere --------------------------------------------------------------------------------------------------------

_FIELDS = {
    "bytes_recv": "node_network_receive_bytes_total",
    "packets_recv": "node_network_receive_packets_total",
    "errin": "node_network_receive_errs_total",
    "dropin": "node_network_receive_drop_total",
    "bytes_sent": "node_network_transmit_bytes_total",
    "packets_sent": "node_network_transmit_packets_total",
    "errout": "node_network_transmit_errs_total",
    "dropout": "node_network_transmit_drop_total",
}
_BY_NAME = {family.name: family for family in _COLUMNS}


def portable(psutil: Any, *, darwin: bool) -> Iterator[Reading]:
    for device, numbers in psutil.net_io_counters(pernic=True, nowrap=False).items():
        for field, name in _FIELDS.items():
            if darwin and field == "dropout":
                continue  # macOS does not count them, and psutil says 0.
            value = _portable.number(numbers, field)
            if value is not None:
                yield _BY_NAME[name], (legible(device),), value


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        psutil, darwin = _portable.psutil(), _portable.on_darwin()
        return Reader(lambda: portable(psutil, darwin=darwin))
    procfs = settings[PROCFS]
    # "net" is "self/net". With the host's procfs mounted in a container, self still has the container's network; the
    # host's is that of its first process.
    path = f"{procfs}/net/dev" if procfs == "/proc" else f"{procfs}/1/net/dev"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(
    name="network",
    help="bytes, packets and errors of network devices",
    families=_COLUMNS,
    options=(PROCFS,),
    open=_open,
)
