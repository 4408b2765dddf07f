"""The machine as a whole: boot time, clock, kernel, context switches, open files, tracked connections."""

import os
import time
from collections.abc import Iterator

from llmvitals_exporter._declaration import Declaration, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text

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
    for line in read_text(f"{procfs}/stat").splitlines():
        key, _, numbers = line.partition(" ")
        family = _STAT.get(key)
        if family is not None:
            # intr is a sum, followed by hundreds of numbers.
            yield family, (), float(numbers.split(" ", 1)[0])
    allocated, _free, maximum = read_text(f"{procfs}/sys/fs/file-nr").split()
    yield FILES, (), float(allocated)
    yield FILES_MAXIMUM, (), float(maximum)
    yield UNAME, _uname(procfs), 1.0
    yield from _conntrack(procfs)


def _uname(procfs: str) -> tuple[str, ...]:
    names = os.uname()
    domain = read_text(f"{procfs}/sys/kernel/domainname").strip()
    return (domain, names.machine, names.nodename, names.release, names.sysname, names.version)


def _conntrack(procfs: str) -> Iterator[Reading]:
    directory = f"{procfs}/sys/net/netfilter"
    try:
        entries = read_text(f"{directory}/nf_conntrack_count")
        limit = read_text(f"{directory}/nf_conntrack_max")
    except FileNotFoundError:
        return  # The module is not loaded.
    yield TRACKED, (), float(entries)
    yield TRACKED_LIMIT, (), float(limit)


def _open(settings: Settings) -> Reader:
    procfs = settings[PROCFS]
    return Reader(lambda: _read(procfs))


COLLECTOR = Declaration(
    name="system",
    help="boot time, clock, kernel, context switches, open files, tracked connections",
    families=(NOW, *_STAT.values(), FILES, FILES_MAXIMUM, TRACKED, TRACKED_LIMIT, UNAME),
    options=(PROCFS,),
    open=_open,
)
