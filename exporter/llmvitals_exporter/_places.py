"""Where the kernel's files are, and how they are read.

A line of theirs ends with a newline and with nothing else: devices and mount points may hold bytes that
`str.splitlines` and `str.split` take for the end of a line or of a word.
"""

import os
import re
import sys

from llmvitals_exporter._declaration import Option, once


def _directory(text: str) -> str:
    if sys.platform != "linux":
        raise ValueError("is for Linux only: here the system is asked, and no files are read")
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
_ESCAPE = re.compile(r"\\([0-7]{3})")


def read_text(path: str) -> str:
    r"""The whole of a kernel file, without the cost of Python's text layer (a scrape reads a dozen of them).

    What is not UTF-8 becomes visible (``\xff``), so that two names that differ in it stay two.
    """
    return read_bytes(path).decode("utf-8", "backslashreplace")


def lines(path: str) -> list[str]:
    return read_text(path).removesuffix("\n").split("\n")


def read_bytes(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunk = os.read(fd, _CHUNK)
        parts = [chunk]
        # procfs may answer short of the buffer before its end, so only an empty read ends the file.
        while chunk := os.read(fd, _CHUNK):
            parts.append(chunk)
    finally:
        os.close(fd)
    return b"".join(parts)


def unescape(field: str) -> str:
    r"""A field of a list of mounts, in which the kernel writes spaces, newlines and the like as ``\040``."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def legible(text: str) -> str:
    """A name as Python has it from the system, in characters that every encoding of a scrape can hold."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
