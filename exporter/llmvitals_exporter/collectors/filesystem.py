"""Space and files of mounted filesystems."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmvitals_exporter._declaration import Declaration, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._patience import Patience
from llmvitals_exporter._places import PROCFS, ROOTFS, read_text

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
_LOCAL_TYPES = frozenset(["btrfs", "ext2", "ext3", "ext4", "f2fs", "ramfs", "tmpfs", "vfat", "xfs", "zfs"])
#: Less than a collector's time, so that the filesystems that do answer are served.
_WAIT_SECONDS = 1.0
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    device: str
    fstype: str
    mountpoint: str
    readonly: bool


def mounts(text: str) -> Iterator[Mount]:
    """The mounts of a ``/proc/*/mounts`` that are measured, each place once."""
    seen = set()
    for line in text.splitlines():
        device, mountpoint, fstype, options, *_ = map(_unescape, line.split(" "))
        mount = Mount(device, fstype, mountpoint, "ro" in options.split(","))
        key = (device, fstype, mountpoint)
        if fstype not in _TYPES_LEFT_OUT and not _MOUNTS_LEFT_OUT.match(mountpoint) and key not in seen:
            seen.add(key)
            yield mount


def _unescape(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


class Filesystems:
    """Asks local filesystems at once, and those that may hang with patience: a dead server costs its own mount only."""

    def __init__(self, procfs: str, rootfs: str) -> None:
        # The first process's view: ours may lack what a service's sandbox hides, in a container it is not the host's.
        self._mounts = f"{procfs}/1/mounts"
        self._root = "" if rootfs == "/" else rootfs
        self._patience = Patience(self._ask, seconds=_WAIT_SECONDS)

    def read(self) -> Iterator[Reading]:
        mounted = list(mounts(read_text(self._mounts)))
        distant = self._patience.answers([mount for mount in mounted if mount.fstype not in _LOCAL_TYPES])
        for mount in mounted:
            labels = (mount.device, mount.fstype, mount.mountpoint)
            try:
                stat = distant[mount] if mount in distant else self._ask(mount)
            except OSError as error:
                stat = error
            if isinstance(stat, Exception):
                yield DEVICE_ERROR, labels, 1.0
                continue
            yield DEVICE_ERROR, labels, 0.0
            yield READONLY, labels, float(mount.readonly)
            yield SIZE, labels, float(stat.f_blocks * stat.f_frsize)
            yield FREE, labels, float(stat.f_bfree * stat.f_frsize)
            yield AVAIL, labels, float(stat.f_bavail * stat.f_frsize)
            yield FILES, labels, float(stat.f_files)
            yield FILES_FREE, labels, float(stat.f_ffree)

    def close(self) -> None:
        """A thread that hangs in the kernel ends with the process."""

    def _ask(self, mount: Mount) -> os.statvfs_result:
        return os.statvfs(self._root + mount.mountpoint)


def _open(settings: Settings) -> Filesystems:
    return Filesystems(settings[PROCFS], settings[ROOTFS])


COLLECTOR = Declaration(
    name="filesystem",
    help="space and files of mounted filesystems",
    families=(SIZE, FREE, AVAIL, FILES, FILES_FREE, READONLY, DEVICE_ERROR),
    options=(PROCFS, ROOTFS),
    open=_open,
    waits=True,  # A server behind a network mount can be gone.
)
