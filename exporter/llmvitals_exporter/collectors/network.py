"""Network devices, from ``/proc/net/dev``."""

from collections.abc import Iterator

from llmvitals_exporter._declaration import Declaration, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text

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
    for line in read_text(path).splitlines()[2:]:
        device, _, numbers = line.rpartition(":")
        for family, number in zip(_COLUMNS, numbers.split(), strict=True):
            yield family, (device.strip(),), float(number)


def _open(settings: Settings) -> Reader:
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
