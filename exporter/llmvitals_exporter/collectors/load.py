"""Load averages, from ``/proc/loadavg``; elsewhere from the C library, where it has them."""

import os
from collections.abc import Iterator

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text

_FAMILIES = tuple(Family(f"node_load{span}", "gauge", f"{span}-minute load average.") for span in (1, 5, 15))


def _read(path: str) -> Iterator[Reading]:
    for family, number in zip(_FAMILIES, read_text(path).split()[:3], strict=True):
        yield family, (), float(number)


def portable() -> Iterator[Reading]:
    if not hasattr(os, "getloadavg"):  # psutil reckons one on Windows, from another meaning of load.
        raise NothingToCollect("this system has no load averages")
    for family, number in zip(_FAMILIES, os.getloadavg(), strict=True):
        yield family, (), number


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        return Reader(portable)
    path = f"{settings[PROCFS]}/loadavg"
    return Reader(lambda: _read(path))


COLLECTOR = Declaration(name="load", help="load averages", families=_FAMILIES, options=(PROCFS,), open=_open)
