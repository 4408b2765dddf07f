"""Push to a Pushgateway what a job has to show that ends before anybody scrapes it."""

import base64
import http.client
import io
import logging
import re
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

from prometheus_client.registry import Collector

from llmvitals.exposition._encode import OnError, encode
from llmvitals.exposition._respond import TEXT

log = logging.getLogger("llmvitals")

# Before each attempt; only what another attempt may mend is tried again.
_PAUSES = (0.0, 0.3, 1.0)

_LABEL = re.compile(r"(?!__)(?!job$)[A-Za-z_][A-Za-z0-9_]*")
# All else would be at the mercy of what decodes or tidies paths on the way; the API takes base64 for any value.
_PLAIN_VALUE = re.compile(r"(?!\.+$)[A-Za-z0-9_.~-]+")


class PushError(OSError):
    """The Pushgateway could not be reached in time, or did not take what was pushed; the text says why."""


def push(
    registry: Collector,
    url: str,
    *,
    job: str,
    grouping: Mapping[str, str] | None = None,
    replace: bool = True,
    timeout_seconds: float = 10.0,
    credentials_file: str | Path | None = None,
    on_error: OnError | None = None,
) -> None:
    """Make *registry* what the Pushgateway at *url* shows for *job* and *grouping*.

    A status of 5xx and a failed connection are tried again, three times in all. Redirects are not followed and proxies
    not used: they are no place for credentials.

    Args:
        registry: Whose metrics are pushed, without timestamps: the Pushgateway refuses those.
        url: ``http://host:port`` or ``https://host:port``, and a path if the Pushgateway is below one.
        job: The label ``job``.
        grouping: More labels; together with the job they name the group.
        replace: Whether the group has nothing afterwards but what is pushed now (PUT). Else only families of the same
            names are replaced (POST).
        timeout_seconds: For all attempts together.
        credentials_file: A file with ``user:password``, or with a token to bear.
        on_error: Told of what could not be encoded.

    Raises:
        PushError: When it was not taken.
        ValueError: For a URL, job or label that cannot be.
    """
    deadline = time.monotonic() + timeout_seconds
    parts = _split(url)
    path = parts.path.rstrip("/") + _group(job, grouping or {})
    headers = {"Content-Type": TEXT, "Connection": "close"}
    if credentials_file is not None:
        headers["Authorization"] = _authorization(Path(credentials_file))
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            log.warning("llmvitals: the Pushgateway's credentials travel unencrypted to %s; use https", parts.hostname)
    body = encode(registry, on_error=on_error)
    method, why = "PUT" if replace else "POST", "no time was given"
    for pause in _PAUSES:
        if time.monotonic() + pause >= deadline:
            break
        time.sleep(pause)
        try:
            status, reason = _send(parts, method, path, body=body, headers=headers, deadline=deadline)
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
            if isinstance(error, ssl.SSLCertVerificationError):
                break
            continue
        if 200 <= status < 300:
            return
        why = f"it answered {status}{f': {reason!r}' if reason else ''}"
        if status < 500:
            break
    raise PushError(f"{parts.scheme}://{parts.netloc} did not take job {job!r}: {why}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in parts.netloc or parts.query or parts.fragment:
        # Not a word of the URL itself: there may be a password in it.
        raise ValueError(
            "a Pushgateway's URL is http://host:port or https://host:port, perhaps with a path; "
            "user and password go into the file of the credentials"
        )
    return parts


def _group(job: str, grouping: Mapping[str, str]) -> str:
    if not job:
        raise ValueError("what is pushed needs a job")
    wrong = [name for name in grouping if not _LABEL.fullmatch(name)]
    if wrong:
        raise ValueError(f"no labels to group by: {', '.join(map(repr, wrong))}")
    labels = {"job": job, **grouping}
    return "/metrics" + "".join(_segment(name, str(value)) for name, value in labels.items())


def _segment(name: str, value: str) -> str:
    if _PLAIN_VALUE.fullmatch(value):
        return f"/{name}/{value}"
    # No segment may be empty, and padding without anything to pad is how the API writes the empty value.
    return f"/{name}@base64/{base64.urlsafe_b64encode(value.encode('utf-8', 'replace')).decode() or '='}"


def _authorization(file: Path) -> str:
    try:
        credentials = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PushError(f"the credentials cannot be read: {file}: {type(error).__name__}") from None
    if ":" in credentials and credentials.isprintable():
        return f"Basic {base64.b64encode(credentials.encode()).decode()}"
    if not re.fullmatch(r"[!-~]+", credentials):
        raise PushError(f"{file} must hold user:password or a token, and nothing else")
    return f"Bearer {credentials}"


def _send(
    parts: SplitResult, method: str, path: str, *, body: bytes, headers: Mapping[str, str], deadline: float
) -> tuple[int, str]:
    """Return the status, and the beginning of what was said to it.

    With http.client, because requests would be watched as one of the application's own, heed proxies and ~/.netrc, and
    take 40 ms to import.
    """
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=max(deadline - time.monotonic(), 0.001))
    try:
        connection.request(method, path, body, dict(headers))
        timed: Any = _Timed(cast("socket.socket", connection.sock), deadline)
        with http.client.HTTPResponse(timed, method=method) as response:
            response.begin()
            said = b"" if response.status < 400 else response.read(300)
            return response.status, " ".join(said.decode("utf-8", "replace").split())
    finally:
        connection.close()


class _Timed(io.RawIOBase):
    """Reads a socket until a deadline, also from a peer that drips: a socket's own timeout begins anew each time."""

    def __init__(self, source: socket.socket, deadline: float) -> None:
        self._source = source
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 -- a socket's, as HTTPResponse asks it
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no answer in time")
        self._source.settimeout(remaining)
        return self._source.recv_into(buffer)
