"""The machine as a whole: boot time, clock, kernel, context switches, open files, tracked connections."""

import os
import time
from collections.abc import Iterator
from typing import Any

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, legible, lines, read_text

BOOT = Family("node_boot_time_seconds", "gauge", "When the machine booted, in Unix time.")
NOW = Family("node_time_seconds", "gauge", "The machine's clock, in Unix time.")
SWITCHES = Family("node_context_switches_total", "counter", "Context switches.")
INTERRUPTS = Family("node_intr_total", "counter", "Interrupts serviced.")
FORKS = Family("node_forks_total", "counter", "Processes and threads started.")
RUNNING = Family("node_procs_running", "gauge", "Processes in a runnable state.")
BLOCKED = Family("node_procs_blocked", "gauge", "Processes waiting for I/O.")
FILES = Family("node_filefd_allocated", "gauge", "File handles in use.")
FILES_MAXIMUM = Family("node_filefd_maximum", "gauge", "File handles that the kernel gives at most.")
TRACKED = Family("node_nf_conntrack_entries", "gauge", "Connections in the firewall's table.")
TRACKED_LIMIT = Family("node_nf_conntrack_entries_limit", "gauge", "Connections that the firewall's table takes.")
UNAME = Family(
    "node_uname_info",
    "gauge",
    "The kernel, as uname tells it.",
    ("domainname", "machine", "nodename", "release", "sysname", "version"),
)

_STAT = {
    "btime": BOOT,
    "ctxt": SWITCHES,
    "intr": INTERRUPTS,
    "processes": FORKS,
    "procs_running": RUNNING,
    "procs_blocked": BLOCKED,
}


def _read(procfs: str) -> Iterator[Reading]:
    yield NOW, (), time.time()
    for line in lines(f"{procfs}/stat"):
        key, _, numbers = line.partition(" ")
        family = _STAT.get(key)
        if family is not None:
            # intr is a sum, followed by hundreds of numbers.
            yield family, (), float(numbers.split(" ", 1)[0])
    files = _sysctl(procfs, "fs/file-nr")
    if files is not None:
        allocated, _free, maximum = files.split()
        yield FILES, (), float(allocated)
        yield FILES_MAXIMUM, (), float(maximum)
    names = os.uname()
    domain = _sysctl(procfs, "kernel/domainname")
    yield UNAME, _uname(names, names.nodename, "(none)" if domain is None else domain.rstrip("\n")), 1.0
    entries, limit = (_sysctl(procfs, f"net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    if entries is not None and limit is not None:  # Else the module is not loaded.
        yield TRACKED, (), float(entries)
        yield TRACKED_LIMIT, (), float(limit)


def _sysctl(procfs: str, name: str) -> str | None:
    """One of the kernel's settings, which a sandbox may hide; None then."""
    try:
        return read_text(f"{procfs}/sys/{name}")
    except FileNotFoundError:
        return None


def _uname(names: os.uname_result, node: str, domain: str) -> tuple[str, ...]:
    told = (domain, names.machine, node, names.release, names.sysname, names.version)
    return tuple(legible(name) for name in told)


def portable(psutil: Any, *, windows: bool) -> Iterator[Reading]:
    yield NOW, (), time.time()
    yield BOOT, (), float(psutil.boot_time())
    if windows:
        stats = psutil.cpu_stats()  # On macOS psutil reads them from a structure that the kernel fills otherwise.
        yield SWITCHES, (), float(stats.ctx_switches)
        yield INTERRUPTS, (), float(stats.interrupts)
    else:
        names = os.uname()
        # As node_exporter does where the kernel knows no domain.
        node, _, domain = names.nodename.partition(".")
        yield UNAME, _uname(names, node, domain or "(none)"), 1.0


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        psutil, windows = _portable.psutil(), _portable.on_windows()
        return Reader(lambda: portable(psutil, windows=windows))
    procfs = settings[PROCFS]
    return Reader(lambda: _read(procfs))


COLLECTOR = Declaration(
    name="system",
    help="boot time, clock, kernel, context switches, open files, tracked connections",
    families=(NOW, *_STAT.values(), FILES, FILES_MAXIMUM, TRACKED, TRACKED_LIMIT, UNAME),
    options=(PROCFS,),
    open=_open,
)
