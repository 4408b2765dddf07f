"""Pressure stall information, from ``/proc/pressure``: time in which work waited for a resource."""

import errno
from collections.abc import Iterator

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text


def _family(resource: str, state: str, who: str) -> Family:
    return Family(
        f"node_pressure_{resource}_{state}_seconds_total",
        "counter",
        f"Seconds in which {who} waited for {resource}.",
    )


#: The file's name and the line's first word. CPU's "full" means nothing for a whole machine; irq has no "some".
_LINES: dict[tuple[str, str], Family] = {
    ("cpu", "some"): _family("cpu", "waiting", "some processes"),
    ("io", "some"): _family("io", "waiting", "some processes"),
    ("io", "full"): _family("io", "stalled", "all processes"),
    ("memory", "some"): _family("memory", "waiting", "some processes"),
    ("memory", "full"): _family("memory", "stalled", "all processes"),
    ("irq", "full"): _family("irq", "stalled", "all processes"),
}
#: No such file: an old kernel, or no irq accounting. Not supported: the kernel was started with psi=0.
_ABSENT = (errno.ENOENT, errno.EOPNOTSUPP)


def stalls(path: str) -> dict[str, float] | None:
    """Seconds by kind, ``some`` and ``full``; None where the kernel has no such pressure."""
    try:
        text = read_text(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    # some avg10=0.00 avg60=0.00 avg300=0.00 total=0
    parts = (line.partition(" ")[::2] for line in text.splitlines())
    return {kind: int(rest.rpartition("total=")[2]) / 1e6 for kind, rest in parts}


def _read(directory: str) -> Iterator[Reading]:
    found = False
    for resource in ("cpu", "io", "memory", "irq"):
        seconds = stalls(f"{directory}/{resource}")
        if seconds is None:
            continue
        found = True
        for kind, value in seconds.items():
            family = _LINES.get((resource, kind))
            if family is not None:
                yield family, (), value
    if not found:
        raise NothingToCollect(f"the kernel has no pressure information in {directory}")


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        return _portable.linux_only("pressure stalls")
    directory = f"{settings[PROCFS]}/pressure"
    return Reader(lambda: _read(directory))


COLLECTOR = Declaration(
    name="pressure",
    help="time in which work waited for CPU, I/O or memory",
    families=tuple(_LINES.values()),
    options=(PROCFS,),
    open=_open,
)
