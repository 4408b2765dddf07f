"""Space and files of mounted filesystems: the kernel's list of mounts on Linux, psutil's elsewhere."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._patience import Patience
from llmvitals_exporter._places import PROCFS, ROOTFS, legible, read_bytes, unescape

_LABELS = ("device", "fstype", "mountpoint")


def _gauge(name: str, help_: str) -> Family:
    return Family(f"node_filesystem_{name}", "gauge", help_, _LABELS)


SIZE = _gauge("size_bytes", "Size in bytes.")
FREE = _gauge("free_bytes", "Free space in bytes, with what is reserved for root.")
AVAIL = _gauge("avail_bytes", "Space in bytes that other users than root may still fill.")
FILES = _gauge("files", "File nodes in all.")
FILES_FREE = _gauge("files_free", "Free file nodes.")
READONLY = _gauge("readonly", "1 when mounted read-only.")
DEVICE_ERROR = _gauge("device_error", "1 when the filesystem could not be asked; its other series are absent then.")

#: What node_exporter leaves out, so that a sum over our series is a sum over its.
_MOUNTS_LEFT_OUT = re.compile(
    r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
_TYPES_LEFT_OUT = frozenset(
    [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "fusectl",
        "hugetlbfs",
        "iso9660",
        "mqueue",
        "nsfs",
        "overlay",
        "proc",
        "procfs",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tracefs",
    ]
)
#: Those that answer from the kernel's own memory. Any other may be a server's, or a program's, that is gone.
_LOCAL_TYPES = frozenset(
    ["apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "NTFS", "ramfs", "tmpfs", "vfat", "xfs", "zfs"]
)
#: Less than a collector's time, so that the filesystems that do answer are served.
_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Mount:
    """A place, and what Python calls it: `device` and `mountpoint` may hold what no label can."""

    device: str
    fstype: str
    mountpoint: str
    readonly: bool

    @property
    def labels(self) -> tuple[str, str, str]:
        return (legible(self.device), legible(self.fstype), legible(self.mountpoint))


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes and file nodes; the nodes are None on a filesystem that does not know them."""

    size: int
    free: int
    avail: int
    files: int | None
    files_free: int | None


def mounts(text: str) -> Iterator[Mount]:
    """The mounts of a ``/proc/*/mounts`` that are measured, each place once."""
    for line in text.split("\n"):
        if line:
            device, mountpoint, fstype, options, *_ = map(unescape, line.split(" "))
            if fstype not in _TYPES_LEFT_OUT and not _MOUNTS_LEFT_OUT.match(mountpoint):
                yield Mount(device, fstype, mountpoint, "ro" in options.split(","))


def _statvfs(path: str) -> Space:
    stat = os.statvfs(path)
    block = stat.f_frsize
    return Space(stat.f_blocks * block, stat.f_bfree * block, stat.f_bavail * block, stat.f_files, stat.f_ffree)


class Filesystems:
    """Asks local filesystems at once, and those that may hang with patience: a dead server costs its own mount only."""

    def __init__(self, mounted: Callable[[], Iterator[Mount]], ask: Callable[[str], Space]) -> None:
        self._mounted = mounted
        self._statvfs = ask
        self._patience = Patience(self._ask, seconds=_WAIT_SECONDS)

    def read(self) -> Iterator[Reading]:
        # What is mounted twice at one place is told once.
        mounted = list({mount.labels: mount for mount in self._mounted()}.values())
        distant = self._patience.answers([mount for mount in mounted if mount.fstype not in _LOCAL_TYPES])
        for mount in mounted:
            labels = mount.labels
            try:
                stat = distant[mount] if mount in distant else self._ask(mount)
            except OSError as error:
                stat = error
            if isinstance(stat, Exception):
                yield DEVICE_ERROR, labels, 1.0
                continue
            yield DEVICE_ERROR, labels, 0.0
            yield READONLY, labels, float(mount.readonly)
            yield SIZE, labels, float(stat.size)
            yield FREE, labels, float(stat.free)
            yield AVAIL, labels, float(stat.avail)
            if stat.files is not None and stat.files_free is not None:
                yield FILES, labels, float(stat.files)
                yield FILES_FREE, labels, float(stat.files_free)

    def close(self) -> None:
        """A thread that hangs in the kernel ends with the process."""

    def _ask(self, mount: Mount) -> Space:
        return self._statvfs(mount.mountpoint)


def _linux(procfs: str) -> Iterator[Mount]:
    try:
        # The first process's view: ours may lack what a service's sandbox hides, in a container it is not the host's.
        text = read_bytes(f"{procfs}/1/mounts")
    except (FileNotFoundError, PermissionError):  # procfs was mounted to hide the others' processes.
        text = read_bytes(f"{procfs}/self/mounts")
    return mounts(os.fsdecode(text))


# --- Elsewhere --------------------------------------------------------------------------------------------------------

#: What node_exporter leaves out on macOS.
_DARWIN_LEFT_OUT = re.compile(r"/dev($|/)")


def portable(psutil: Any, *, windows: bool) -> Iterator[Mount]:
    # On macOS psutil takes a share on the network for no device; on Windows it would wait for an empty drive.
    for partition in psutil.disk_partitions(all=not windows):
        if partition.fstype != "devfs" and not _DARWIN_LEFT_OUT.match(partition.mountpoint):
            readonly = "ro" in partition.opts.split(",")
            yield Mount(partition.device, partition.fstype, partition.mountpoint, readonly)


def portable_space(psutil: Any, path: str) -> Space:
    """For Windows, where a filesystem has no file nodes, and keeps nothing back for the administrator."""
    usage = psutil.disk_usage(path)
    return Space(usage.total, usage.free, usage.free, None, None)


def _open(settings: Settings) -> Filesystems:
    if _portable.on_linux():
        procfs, root = settings[PROCFS], settings[ROOTFS].rstrip("/")
        return Filesystems(lambda: _linux(procfs), lambda path: _statvfs(root + path))
    psutil, windows = _portable.psutil(), _portable.on_windows()
    ask = (lambda path: portable_space(psutil, path)) if windows else _statvfs
    return Filesystems(lambda: portable(psutil, windows=windows), ask)


COLLECTOR = Declaration(
    name="filesystem",
    help="space and files of mounted filesystems",
    families=(SIZE, FREE, AVAIL, FILES, FILES_FREE, READONLY, DEVICE_ERROR),
    options=(PROCFS, ROOTFS),
    open=_open,
    waits=True,  # A server behind a network mount can be gone.
)
