"""Ollama and LM Studio servers, well-behaved and hostile, as real servers on this machine."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tests.exporter.reading import values
from tests.exporter.test_isolation import declare
from tests.exporter.test_koboldcpp import Kobold, http

from llmvitals.exposition import encode
from llmvitals_exporter._declaration import Settings
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape, View
from llmvitals_exporter.collectors import lmstudio, ollama
from llmvitals_exporter.collectors.lmstudio import LMSTUDIO, LMStudio
from llmvitals_exporter.collectors.ollama import OLLAMA, Ollama

#: As Ollama's documentation has them.
HOLDS = {
    "/api/ps": {
        "models": [
            {
                "name": "gemma3",
                "model": "gemma3",
                "size": 6591830464,
                "digest": "a2af6cc3eb7f",
                "details": {"family": "gemma3", "parameter_size": "4.3B", "quantization_level": "Q4_K_M"},
                "expires_at": "2025-10-17T16:47:07.93355-07:00",
                "size_vram": 5333539264,
                "context_length": 4096,
            }
        ]
    },
    "/api/tags": {"models": [{"name": "gemma3", "size": 3338801804}, {"name": "qwen3", "size": 1}]},
    "/api/version": {"version": "0.12.6"},
}
#: As LM Studio's documentation of its REST API has them.
STUDIO = [
    {
        "id": "qwen2-vl-7b-instruct",
        "object": "model",
        "type": "vlm",
        "state": "not-loaded",
        "max_context_length": 32768,
    },
    {
        "id": "meta-llama-3.1-8b-instruct",
        "object": "model",
        "type": "llm",
        "state": "loaded",
        "max_context_length": 131072,
        "loaded_context_length": 4096,
    },
]


class Server(Kobold):
    """Answers each path with what belongs to it."""

    def __init__(self, answers):
        super().__init__(None)
        self._answers = answers

    def _serve(self, client):
        with client:
            path = client.recv(4096).split(b" ")[1].decode()
            self.requests.append(path)
            client.sendall(self._answers.get(path, http(b"", "404 Not Found")))


@pytest.fixture(name="server")
def _server():
    servers = []

    def make(answers):
        servers.append(Server(answers))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def ollama_of(server):
    return values(ollama.COLLECTOR, Ollama(OLLAMA.parse([server.url])))


def studio_of(server):
    return values(lmstudio.COLLECTOR, LMStudio(LMSTUDIO.parse([server.url])))


def test_ollama(server):
    """What an Ollama has in memory is told, with its sizes, by the server's address."""
    running = server({path: http(answer) for path, answer in HOLDS.items()})
    where, model = f'server="{running.address}"', f'server="{running.address}",model="gemma3"'

    assert {
        f"llmvitals_ollama_up{{{where}}}": 1.0,
        f'llmvitals_ollama_info{{{where},version="0.12.6"}}': 1.0,
        f"llmvitals_ollama_models{{{where}}}": 2.0,
        f"llmvitals_ollama_model_loaded{{{model}}}": 1.0,
        f"llmvitals_ollama_model_memory_bytes{{{model}}}": 6591830464.0,
        f"llmvitals_ollama_model_gpu_memory_bytes{{{model}}}": 5333539264.0,
        f"llmvitals_ollama_model_context_tokens{{{model}}}": 4096.0,
        f"llmvitals_ollama_model_expires_timestamp_seconds{{{model}}}": 1760744827.93355,
    } == ollama_of(running)


@pytest.mark.parametrize("rest", [{}, {"/api/tags": b"garbage", "/api/version": http(b"not JSON")}])
def test_old_ollama(server, rest):
    """A version that knows only what it has loaded is up all the same."""
    running = server({"/api/ps": http({"models": []})} | rest)

    assert {f'llmvitals_ollama_up{{server="{running.address}"}}': 1.0} == ollama_of(running)


def test_lm_studio(server):
    """Of LM Studio's models those in memory are told, with their kind."""
    running = server({"/api/v0/models": http({"object": "list", "data": STUDIO})})
    where, model = f'server="{running.address}"', f'server="{running.address}",model="meta-llama-3.1-8b-instruct"'

    assert {
        f"llmvitals_lmstudio_up{{{where}}}": 1.0,
        f"llmvitals_lmstudio_models{{{where}}}": 2.0,
        f'llmvitals_lmstudio_model_loaded{{{model},type="llm"}}': 1.0,
        f"llmvitals_lmstudio_model_context_tokens{{{model}}}": 4096.0,
    } == studio_of(running)


@pytest.mark.parametrize(
    "answer",
    [
        http(b"not JSON"),
        http([1]),
        http({"models": 3, "data": None}),
        http({}),
        http(b"[" * 100_000),
        http(b"x" * ((1 << 20) + 1)),
        http({"models": [], "data": []}, "500 Internal Server Error"),
        http(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"),
        b"garbage",
        b"",
    ],
    ids=range(10),
)
@pytest.mark.parametrize(("path", "read"), [("/api/ps", ollama_of), ("/api/v0/models", studio_of)])
def test_anything_else_is_not_up(server, path, read, answer):
    """A server that answers anything but its models is not up, and nothing of it is believed."""
    found = read(server({path: answer}))

    assert [0.0] == list(found.values())


def test_many_models_are_capped(server):
    """More models than anyone loads do not become series without end."""
    many = [{"name": f"m{number:03}", "size": 1} for number in range(500)]
    found = ollama_of(server({"/api/ps": http({"models": many})}))

    assert 50 == len([series for series in found if "_model_loaded{" in series])


json_values = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=200) | st.just([{"a": 1}])
keys = st.sampled_from(["name", "model", "size", "size_vram", "context_length", "expires_at", "id", "state", "type"])
models = st.lists(st.dictionaries(keys, st.just("loaded") | json_values) | json_values, max_size=4)


@settings(max_examples=50)
@given(models)
def test_any_models_are_a_valid_exposition(listed):
    """Whatever a server says of its models, what is served is valid, and the scrape does not fail."""
    listed = json.loads(json.dumps(listed))
    objects = [model for model in listed if isinstance(model, dict)]
    held = Ollama(
        OLLAMA.parse(["http://h:1"]), fetch=lambda _: HOLDS | {"/api/ps": {"models": listed}, "/api/version": {}}
    )
    studio = LMStudio(LMSTUDIO.parse(["http://h:1"]), fetch=lambda _: objects)
    for declaration, source in ((ollama.COLLECTOR, held), (lmstudio.COLLECTOR, studio)):
        registry = CollectorRegistry()
        read = declare(declaration.name, source.read, families=declaration.families)
        registry.register(View(Scrape(Runner([read], Settings()))))
        success = f'llmvitals_scrape_collector_success{{collector="{declaration.name}"}} 1.0'

        assert success in encode(registry).decode()
