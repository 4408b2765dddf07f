"""Memory, from ``/proc/meminfo``: one family for each line that the kernel writes and node_exporter names."""

from collections.abc import Iterator

from llmvitals_exporter._declaration import Declaration, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text

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
    for line in read_text(path).splitlines():
        key, _, rest = line.partition(":")
        family = _FAMILY_OF.get(key)
        if family is not None:
            number, _, unit = rest.strip().partition(" ")
            yield family, (), float(int(number) * (1024 if unit == "kB" else 1))


def _open(settings: Settings) -> Reader:
    path = f"{settings[PROCFS]}/meminfo"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(
    name="memory", help="memory and swap", families=tuple(_FAMILY_OF.values()), options=(PROCFS,), open=_open
)
