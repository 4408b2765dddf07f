"""Ollama servers, from ``/api/ps``, ``/api/tags`` and ``/api/version``. They count nothing themselves: what is told is
what they hold now; rates and latencies of their calls come from the applications that call them.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from http.client import HTTPException
from typing import Any

from llmvitals_exporter._believable import number, text
from llmvitals_exporter._declaration import Declaration, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._patience import Patience
from llmvitals_exporter._servers import WAIT_SECONDS, Server, ask_json, entries, servers_option


def _family(name: str, help_: str, *labels: str) -> Family:
    return Family(f"llmvitals_ollama_{name}", "gauge", help_, ("server", *labels))


UP = _family("up", "1 when the server told which models it has loaded.")
INFO = _family("info", "The server's version.", "version")
MODELS = _family("models", "Models that the server has on its disk.")
LOADED = _family("model_loaded", "1 for each model in memory.", "model")
MEMORY = _family("model_memory_bytes", "Memory of a loaded model, that of the GPU included.", "model")
GPU_MEMORY = _family("model_gpu_memory_bytes", "GPU memory of a loaded model.", "model")
CONTEXT = _family("model_context_tokens", "Tokens that a loaded model's context holds.", "model")
EXPIRES = _family(
    "model_expires_timestamp_seconds", "When a model that nobody uses is unloaded, in Unix time.", "model"
)

#: More loaded models than this are not told: each is a set of series.
_MODELS_TOLD = 50

OLLAMA = servers_option("--ollama", "Ollama", "http://127.0.0.1:11434")


def fetch(server: Server) -> dict[str, dict[str, Any]]:
    """What the server says, by path. The first question decides whether it is up; an old one may lack the others."""
    answers = {"/api/ps": ask_json(server, "/api/ps", WAIT_SECONDS / 2)}
    entries(answers["/api/ps"], "models")
    for path in ("/api/tags", "/api/version"):
        try:
            answers[path] = ask_json(server, path, WAIT_SECONDS / 4)
        except (OSError, HTTPException, ValueError):
            answers[path] = {}
    return answers


class Ollama:
    """Asks every server in a thread of its own: one that hangs holds up nobody."""

    def __init__(
        self, servers: Sequence[Server], *, fetch: Callable[[Server], dict[str, dict[str, Any]]] = fetch
    ) -> None:
        self._servers = servers
        self._patience = Patience(fetch, seconds=WAIT_SECONDS)

    def read(self) -> Iterator[Reading]:
        for server, answers in self._patience.answers(self._servers).items():
            labels = (server.label,)
            if isinstance(answers, Exception):
                yield UP, labels, 0.0
                continue
            yield UP, labels, 1.0
            version = text(answers["/api/version"].get("version"))
            if version:
                yield INFO, (*labels, version), 1.0
            models = answers["/api/tags"].get("models")
            if isinstance(models, list):
                yield MODELS, labels, float(len(models))
            yield from _models(labels, entries(answers["/api/ps"], "models"))

    def close(self) -> None:
        """A request that hangs ends with the process."""


def _models(labels: tuple[str], models: Sequence[dict[str, Any]]) -> Iterator[Reading]:
    by_name = {text(model.get("name")) or text(model.get("model")): model for model in models}
    by_name.pop("", None)
    for name in sorted(by_name)[:_MODELS_TOLD]:
        model = by_name[name]
        yield LOADED, (*labels, name), 1.0
        for key, family in (("size", MEMORY), ("size_vram", GPU_MEMORY), ("context_length", CONTEXT)):
            value = number(model.get(key))
            if value is not None:
                yield family, (*labels, name), value
        expires = _unix_time(model.get("expires_at"))
        if expires is not None:
            yield EXPIRES, (*labels, name), expires


def _unix_time(value: object) -> float | None:
    try:
        # Go writes nanoseconds; fromisoformat takes any number of digits.
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    # One that is never unloaded has a moment some hundred years away, which is true enough.
    return moment.timestamp() if moment.tzinfo is not None and moment.year > 1970 else None


def _open(settings: Settings) -> Ollama | None:
    servers = settings[OLLAMA]
    return Ollama(servers) if servers else None


COLLECTOR = Declaration(
    name="ollama",
    help="Ollama servers: up, models in memory and their sizes (needs --ollama)",
    families=(UP, INFO, MODELS, LOADED, MEMORY, GPU_MEMORY, CONTEXT, EXPIRES),
    options=(OLLAMA,),
    open=_open,
    waits=True,
)
