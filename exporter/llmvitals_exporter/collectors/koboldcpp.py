"""KoboldCpp servers, from ``/api/extra/perf``. They are asked at each scrape, all at once."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmvitals_exporter._believable import number
from llmvitals_exporter._declaration import Declaration, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._patience import Patience
from llmvitals_exporter._servers import WAIT_SECONDS, Server, ask_json, servers_option


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

KOBOLDCPP = servers_option("--koboldcpp", "KoboldCpp", "http://127.0.0.1:5001")


def fetch(server: Server, timeout: float = WAIT_SECONDS) -> dict[str, Any]:
    """The server's performance figures. Raises OSError, HTTPException or ValueError when it has none to give."""
    figures = ask_json(server, "/api/extra/perf", timeout)
    if not figures.keys() & _FIELDS.keys():
        raise ValueError(f"{server.label} answered with something else than performance figures")
    return figures


class KoboldCpp:
    """Asks every server; one that drips its answer out holds up nobody."""

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        wait_seconds: float = WAIT_SECONDS,
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
        value = number(figures.get(key))
        if value:
            found[family] = 1000.0 / value
    for key, family in _FIELDS.items():
        value = number(figures.get(key))
        if value is not None:
            found[family] = value
    return {family: value for family, value in found.items() if math.isfinite(value)}


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
