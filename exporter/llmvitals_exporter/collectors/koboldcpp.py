"""KoboldCpp servers, from ``/api/extra/perf``. They are asked at each scrape, all at once."""

import http.client
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llmvitals_exporter._declaration import Declaration, Option, Settings, each
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._patience import Patience


def _family(name: str, help_: str) -> Family:
    return Family(f"llmvitals_koboldcpp_{name}", "counter" if name.endswith("_total") else "gauge", help_, ("server",))


UP = _family("up", "1 when the server answered with its performance figures.")
PROCESS_SPEED = _family("last_process_tokens_per_second", "Prompt processing speed of the last request.")
GENERATION_SPEED = _family("last_generation_tokens_per_second", "Generation speed of the last request.")

#: Key in the answer, and family. KoboldCpp writes -1 where it has no number, and old versions lack some keys.
_FIELDS: dict[str, Family] = {
    "idle": _family("idle", "1 when the server generates nothing."),
    "queue": _family("queue_length", "Requests that wait or run."),
    "total_gens": _family("generations_total", "Text generations since the server's start."),
    "total_img_gens": _family("image_generations_total", "Image generations since the server's start."),
    "total_tts_gens": _family("speech_generations_total", "Speech generations since the server's start."),
    "total_transcribe_gens": _family("transcriptions_total", "Transcriptions since the server's start."),
    "uptime": _family("uptime_seconds", "Seconds since the server's start."),
    "idletime": _family("idle_seconds", "Seconds since the last request."),
    "last_input_count": _family("last_prompt_tokens", "Prompt tokens of the last request."),
    "last_token_count": _family("last_generated_tokens", "Generated tokens of the last request."),
    "last_process_time": _family("last_process_seconds", "Seconds of prompt processing of the last request."),
    "last_eval_time": _family("last_generation_seconds", "Seconds of generation of the last request."),
    "last_process_speed": PROCESS_SPEED,
    "last_eval_speed": GENERATION_SPEED,
}
#: Old versions tell no speed, but milliseconds a token.
_MILLISECONDS_A_TOKEN = {"last_process": PROCESS_SPEED, "last_eval": GENERATION_SPEED}

_WAIT_SECONDS = 1.0
_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """Where a KoboldCpp listens; `label` is its host and port, the value of the label ``server``."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def label(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_server(text: str) -> Server:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # A password may be in it, so it is not repeated.
        raise ValueError(f"{text.rpartition('@')[2]!r} is not a URL like http://127.0.0.1:5001")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"the URL of {parts.hostname} may have no user, query or fragment")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Server(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"))


def _parse_servers(texts: Sequence[str]) -> tuple[Server, ...]:
    servers = each(_parse_server)(texts)
    labels = [server.label for server in servers]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"servers given twice: {', '.join(twice)}")
    return servers


KOBOLDCPP: Option[tuple[Server, ...]] = Option(
    flag="--koboldcpp",
    metavar="URL",
    help="ask the KoboldCpp server at this base URL (repeatable)",
    default=(),
    parse=_parse_servers,
)


def fetch(server: Server, timeout: float = _WAIT_SECONDS) -> dict[str, Any]:
    """The server's performance figures. Raises OSError, HTTPException or ValueError when it has none to give."""
    kind = http.client.HTTPSConnection if server.secure else http.client.HTTPConnection
    connection = kind(server.host, server.port, timeout=timeout)
    try:
        # http.client follows no redirect: what we ask is what was configured.
        connection.request("GET", f"{server.path}/api/extra/perf", headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise ValueError(f"{server.label} answered with status {response.status}")
        body = response.read(_ANSWER_BYTES + 1)
    finally:
        connection.close()
    if len(body) > _ANSWER_BYTES:
        raise ValueError(f"{server.label} answered with more than {_ANSWER_BYTES} bytes")
    try:
        figures = json.loads(body)
    except RecursionError as error:
        raise ValueError(f"{server.label} answered with JSON nested too deep") from error
    if not isinstance(figures, dict) or not figures.keys() & _FIELDS.keys():
        raise ValueError(f"{server.label} answered with something else than performance figures")
    return figures


class KoboldCpp:
    """Asks every server; one that drips its answer out holds up nobody."""

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        wait_seconds: float = _WAIT_SECONDS,
        fetch: Callable[[Server], dict[str, Any]] = fetch,
    ) -> None:
        self._servers = servers
        self._patience = Patience(fetch, seconds=wait_seconds)

    def read(self) -> Iterator[Reading]:
        for server, figures in self._patience.answers(self._servers).items():
            if isinstance(figures, Exception):
                yield UP, (server.label,), 0.0
                continue
            yield UP, (server.label,), 1.0
            for family, value in _believed(figures).items():
                yield family, (server.label,), value

    def close(self) -> None:
        """The threads are daemons; a request that hangs ends with the process."""


def _believed(figures: dict[str, Any]) -> dict[Family, float]:
    found = {}
    for key, family in _MILLISECONDS_A_TOKEN.items():
        value = _number(figures.get(key))
        if value:
            found[family] = 1000.0 / value
    for key, family in _FIELDS.items():
        value = _number(figures.get(key))
        if value is not None:
            found[family] = value
    return {family: value for family, value in found.items() if math.isfinite(value)}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:  # NaN is not either.
        return None
    return float(value)


def _open(settings: Settings) -> KoboldCpp | None:
    servers = settings[KOBOLDCPP]
    return KoboldCpp(servers) if servers else None


COLLECTOR = Declaration(
    name="koboldcpp",
    help="KoboldCpp servers: up, queue, speed, generations (needs --koboldcpp)",
    families=(UP, *_FIELDS.values()),
    options=(KOBOLDCPP,),
    open=_open,
    waits=True,
)
