"""Memory. On Linux one family for each line of ``/proc/meminfo`` that node_exporter names.

On macOS those of node_exporter's families that psutil has in the same meaning; there and on Windows our own too, since
what may be called available differs by system.
"""

from collections.abc import Iterator
from typing import Any

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, lines

#: meminfo's keys. A key that a newer kernel adds is left out until it is named here.
_KEYS = [
    "Active",
    "Active(anon)",
    "Active(file)",
    "AnonHugePages",
    "AnonPages",
    "Balloon",
    "Bounce",
    "Buffers",
    "Cached",
    "CmaFree",
    "CmaTotal",
    "CommitLimit",
    "Committed_AS",
    "DirectMap1G",
    "DirectMap2M",
    "DirectMap4M",
    "DirectMap4k",
    "Dirty",
    "FileHugePages",
    "FilePmdMapped",
    "HardwareCorrupted",
    "HugePages_Free",
    "HugePages_Rsvd",
    "HugePages_Surp",
    "HugePages_Total",
    "Hugepagesize",
    "Hugetlb",
    "Inactive",
    "Inactive(anon)",
    "Inactive(file)",
    "KReclaimable",
    "KernelStack",
    "Mapped",
    "MemAvailable",
    "MemFree",
    "MemTotal",
    "Mlocked",
    "NFS_Unstable",
    "PageTables",
    "Percpu",
    "SReclaimable",
    "SUnreclaim",
    "SecPageTables",
    "Shmem",
    "ShmemHugePages",
    "ShmemPmdMapped",
    "Slab",
    "SwapCached",
    "SwapFree",
    "SwapTotal",
    "Unaccepted",
    "Unevictable",
    "VmallocChunk",
    "VmallocTotal",
    "VmallocUsed",
    "Writeback",
    "WritebackTmp",
    "Zswap",
    "Zswapped",
]


def _family(key: str) -> Family:
    name = key.replace("(", "_").replace(")", "")
    if key.startswith("HugePages_"):  # Counted, not measured: these lines have no unit.
        return Family(f"node_memory_{name}", "gauge", f"Memory information field {key}, in pages.")
    return Family(f"node_memory_{name}_bytes", "gauge", f"Memory information field {key}, in bytes.")


_FAMILY_OF = {key: _family(key) for key in _KEYS}


def _read(path: str) -> Iterator[Reading]:
    for line in lines(path):
        key, _, rest = line.partition(":")
        family = _FAMILY_OF.get(key)
        if family is not None:
            number, _, unit = rest.strip().partition(" ")
            yield family, (), float(int(number) * (1024 if unit == "kB" else 1))


# --- Elsewhere --------------------------------------------------------------------------------------------------------

#: psutil's field, and node_exporter's family on macOS. Its free is not there: psutil takes speculative pages off.
_DARWIN = {
    "total": Family("node_memory_total_bytes", "gauge", "Memory that is installed, on macOS."),
    "active": Family("node_memory_active_bytes", "gauge", "Memory in active use, on macOS."),
    "inactive": Family("node_memory_inactive_bytes", "gauge", "Memory not used lately, on macOS."),
    "wired": Family("node_memory_wired_bytes", "gauge", "Memory that stays in RAM, on macOS."),
}
_DARWIN_SWAP = {
    "total": Family("node_memory_swap_total_bytes", "gauge", "Swap space, on macOS."),
    "used": Family("node_memory_swap_used_bytes", "gauge", "Swap space in use, on macOS."),
    "sin": Family("node_memory_swapped_in_bytes_total", "counter", "Bytes paged in, on macOS."),
    "sout": Family("node_memory_swapped_out_bytes_total", "counter", "Bytes paged out, on macOS."),
}
_HOST = {
    "total": Family("llmvitals_host_memory_total_bytes", "gauge", "Memory that is installed, on macOS and Windows."),
    "available": Family(
        "llmvitals_host_memory_available_bytes",
        "gauge",
        "Memory that programs could be given without swapping, as psutil reckons it on macOS and Windows.",
    ),
}
_HOST_SWAP = {
    "total": Family("llmvitals_host_swap_total_bytes", "gauge", "Swap space (page files), on macOS and Windows."),
    "used": Family("llmvitals_host_swap_used_bytes", "gauge", "Swap space in use, on macOS and Windows."),
}


def portable(psutil: Any, *, darwin: bool) -> Iterator[Reading]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    tables = [(memory, _HOST), (swap, _HOST_SWAP)]
    if darwin:
        tables += [(memory, _DARWIN), (swap, _DARWIN_SWAP)]
    for numbers, families in tables:
        for field, family in families.items():
            value = _portable.number(numbers, field)
            if value is not None:
                yield family, (), value


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        psutil, darwin = _portable.psutil(), _portable.on_darwin()
        return Reader(lambda: portable(psutil, darwin=darwin))
    path = f"{settings[PROCFS]}/meminfo"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(
    name="memory",
    help="memory and swap",
    families=tuple(
        family for families in (_FAMILY_OF, _DARWIN, _DARWIN_SWAP, _HOST, _HOST_SWAP) for family in families.values()
    ),
    options=(PROCFS,),
    open=_open,
)
