"""Servers that are configured by URL and answer JSON. What is asked is what was configured: nothing is followed."""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llmvitals_exporter._declaration import Option, each

WAIT_SECONDS = 1.0
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens; `label` is its host and port, the value of the label ``server``."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def label(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def servers_option(flag: str, name: str, example: str) -> Option[tuple[Server, ...]]:
    """A repeatable option for the base URLs of the servers called *name*."""

    def parse(texts: Sequence[str]) -> tuple[Server, ...]:
        urls = [url.strip() for text in texts for url in text.split(",") if url.strip()]
        servers = each(lambda url: _parse(url, example))(urls)
        labels = [server.label for server in servers]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"servers given twice: {', '.join(twice)}")
        return servers

    return Option(flag, "URL", f"ask the {name} server at this base URL (repeatable, or comma-separated)", (), parse)


def _parse(text: str, example: str) -> Server:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # A password may be in it, so it is not repeated.
        raise ValueError(f"{text.rpartition('@')[2]!r} is not a URL like {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"the URL of {parts.hostname} may have no user, query or fragment")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Server(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"))


def ask_json(server: Server, path: str, timeout: float = WAIT_SECONDS) -> dict[str, Any]:
    """The JSON object at *path*. Raises OSError, HTTPException or ValueError when there is none to be had."""
    kind = http.client.HTTPSConnection if server.secure else http.client.HTTPConnection
    connection = kind(server.host, server.port, timeout=timeout)
    try:
        # http.client follows no redirect.
        connection.request("GET", server.path + path, headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise ValueError(f"{server.label} answered {path} with status {response.status}")
        body = response.read(_ANSWER_BYTES + 1)
    finally:
        connection.close()
    if len(body) > _ANSWER_BYTES:
        raise ValueError(f"{server.label} answered {path} with more than {_ANSWER_BYTES} bytes")
    try:
        answer = json.loads(body)
    except RecursionError as error:
        raise ValueError(f"{server.label} answered {path} with JSON nested too deep") from error
    if not isinstance(answer, dict):
        raise ValueError(f"{server.label} answered {path} with something else than an object")  # noqa: TRY004
    return answer


def entries(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects in the list at *key*. Raises ValueError when there is no list."""
    found = answer.get(key)
    if not isinstance(found, list):
        raise ValueError(f"the answer has no list {key!r}")  # noqa: TRY004 -- it is the server's mistake, not ours
    return [entry for entry in found if isinstance(entry, dict)]
