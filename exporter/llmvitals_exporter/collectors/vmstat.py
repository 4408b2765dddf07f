"""Page faults, paging, swapping and out-of-memory kills, from ``/proc/vmstat``."""

from collections.abc import Iterator

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, lines

_KEYS = ("oom_kill", "pgfault", "pgmajfault", "pgpgin", "pgpgout", "pswpin", "pswpout")
_FAMILY_OF = {key: Family(f"node_vmstat_{key}", "untyped", f"/proc/vmstat information field {key}.") for key in _KEYS}


def _read(path: str) -> Iterator[Reading]:
    try:
        fields = lines(path)
    except FileNotFoundError as error:
        raise NothingToCollect(f"the kernel has no {path}") from error
    for line in fields:
        key, _, number = line.partition(" ")
        family = _FAMILY_OF.get(key)
        if family is not None:
            yield family, (), float(number)


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        return _portable.linux_only("page faults and swapping")
    path = f"{settings[PROCFS]}/vmstat"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(
    name="vmstat",
    help="page faults, paging, swapping, out-of-memory kills",
    families=tuple(_FAMILY_OF.values()),
    options=(PROCFS,),
    open=_open,
)
