"""Load averages, from ``/proc/loadavg``."""

from collections.abc import Iterator

from llmvitals_exporter._declaration import Declaration, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text

_FAMILIES = tuple(Family(f"node_load{span}", "gauge", f"{span}-minute load average.") for span in (1, 5, 15))


def _read(path: str) -> Iterator[Reading]:
    for family, number in zip(_FAMILIES, read_text(path).split()[:3], strict=True):
        yield family, (), float(number)


def _open(settings: Settings) -> Reader:
    path = f"{settings[PROCFS]}/loadavg"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(name="load", help="load averages", families=_FAMILIES, options=(PROCFS,), open=_open)
