"""LM Studio servers, from ``/api/v0/models``: what they have, and what of it is loaded."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmvitals_exporter._believable import number, text
from llmvitals_exporter._declaration import Declaration, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._patience import Patience
from llmvitals_exporter._servers import WAIT_SECONDS, Server, ask_json, entries, servers_option


def _family(name: str, help_: str, *labels: str) -> Family:
    return Family(f"llmvitals_lmstudio_{name}", "gauge", help_, ("server", *labels))


UP = _family("up", "1 when the server told which models it has.")
MODELS = _family("models", "Models that the server has on its disk.")
LOADED = _family("model_loaded", "1 for each model in memory.", "model", "type")
CONTEXT = _family("model_context_tokens", "Tokens that a loaded model's context holds.", "model")

_MODELS_TOLD = 50

LMSTUDIO = servers_option("--lmstudio", "LM Studio", "http://127.0.0.1:1234")


def fetch(server: Server) -> list[dict[str, Any]]:
    """The models that the server has. Raises OSError, HTTPException or ValueError when it does not say."""
    return entries(ask_json(server, "/api/v0/models"), "data")


class LMStudio:
    """Asks every server in a thread of its own: one that hangs holds up nobody."""

    def __init__(self, servers: Sequence[Server], *, fetch: Callable[[Server], list[dict[str, Any]]] = fetch) -> None:
        self._servers = servers
        self._patience = Patience(fetch, seconds=WAIT_SECONDS)

    def read(self) -> Iterator[Reading]:
        for server, models in self._patience.answers(self._servers).items():
            labels = (server.label,)
            if isinstance(models, Exception):
                yield UP, labels, 0.0
                continue
            yield UP, labels, 1.0
            yield MODELS, labels, float(len(models))
            loaded = {text(model.get("id")): model for model in models if model.get("state") == "loaded"}
            loaded.pop("", None)
            for name in sorted(loaded)[:_MODELS_TOLD]:
                yield LOADED, (*labels, name, text(loaded[name].get("type"))), 1.0
                context = number(loaded[name].get("loaded_context_length"))
                if context is not None:
                    yield CONTEXT, (*labels, name), context

    def close(self) -> None:
        """A request that hangs ends with the process."""


def _open(settings: Settings) -> LMStudio | None:
    servers = settings[LMSTUDIO]
    return LMStudio(servers) if servers else None


COLLECTOR = Declaration(
    name="lmstudio",
    help="LM Studio servers: up, models in memory (needs --lmstudio)",
    families=(UP, MODELS, LOADED, CONTEXT),
    options=(LMSTUDIO,),
    open=_open,
    waits=True,
)
