"""Where the kernel's files are, and how they are read."""

import os

from llmvitals_exporter._declaration import Option, once


def _directory(text: str) -> str:
    if not os.path.isdir(text):  # noqa: PTH112 -- the collectors join strings: a scrape opens many files
        raise ValueError(f"{text!r} is not a directory")
    return text.rstrip("/") or "/"


PROCFS = Option(
    flag="--procfs",
    metavar="DIR",
    help="where procfs is mounted; in a container, the place of the host's",
    default="/proc",
    parse=once(_directory),
)
ROOTFS = Option(
    flag="--rootfs",
    metavar="DIR",
    help="where the root of the measured machine is mounted; in a container, the place of the host's",
    default="/",
    parse=once(_directory),
)

_CHUNK = 1 << 16


def read_text(path: str) -> str:
    """The whole of a kernel file, without the cost of Python's text layer (a scrape reads a dozen of them)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunk = os.read(fd, _CHUNK)
        parts = [chunk]
        # procfs may answer short of the buffer before its end, so only an empty read ends the file.
        while chunk := os.read(fd, _CHUNK):
            parts.append(chunk)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")
