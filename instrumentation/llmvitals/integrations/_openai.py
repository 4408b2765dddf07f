"""The openai SDK, sync and async: chat completions, responses, legacy completions and embeddings.

Plain, parsed and streamed, with its helpers and raw responses. The SDK's own retries happen inside a call and count as
attempts. Inside the application's own `Vitals.call` of the same kind, the SDK adds what it learns (model, usage, the
stream) to that call instead of counting a second one.
"""

import functools
import sys
from typing import Any

import openai
from openai import _base_client, _legacy_response, _response

from llmvitals._calls import Call
from llmvitals.integrations._llm import Begin, EventWatch, wrap
from llmvitals.integrations._session import Session
from llmvitals.integrations._stainless import Kinds, Reading, Sdk, tell_when_closed

_PROVIDERS = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
_KINDS = Kinds(
    streams=(openai.Stream, openai.AsyncStream),
    responses=(_response.BaseAPIResponse, _legacy_response.LegacyAPIResponse),
    client=_base_client.BaseClient,
    error=openai.APIError,
    connection_error=openai.APIConnectionError,
    operations={
        "/chat/completions": "chat",
        "/responses": "chat",
        "/completions": "text_completion",
        "/embeddings": "embeddings",
    },
)
# A stream of responses is of events: these bring the response as it is by then.
_STATES = frozenset({"response.created", "response.completed", "response.incomplete", "response.failed"})


def _has_output(event: Any) -> bool:
    kind: str = event.type
    return kind.endswith((".delta", ".partial_image", ".output_text.done")) and "reasoning" not in kind


def _read_event(call: Call, event: Any) -> None:
    if event.type in _STATES:
        call.read(event.response)


_PLAIN = Reading()
_EVENTS = Reading(watch=functools.partial(EventWatch, read=_read_event, visible=_has_output))


# The SDK imports its parts when they are used, and not every version has all of them.
_RESOURCES = (
    ("openai.resources.chat.completions", "Completions", "chat", _PLAIN),
    # Until 1.92 the only place of `parse`.
    ("openai.resources.beta.chat.completions", "Completions", "chat", _PLAIN),
    ("openai.resources.responses", "Responses", "chat", _EVENTS),
    ("openai.resources.completions", "Completions", "text_completion", _PLAIN),
    ("openai.resources.embeddings", "Embeddings", "embeddings", _PLAIN),
)
_HELPERS = (
    ("openai.lib.streaming.chat", "ChatCompletionStream"),
    ("openai.lib.streaming.responses._responses", "ResponseStream"),
)


def install(session: Session) -> None:
    sdk = Sdk(session, _KINDS, provider=_provider)
    for module, name, operation, reading in _RESOURCES:
        begin = sdk.beginning(operation, reading)
        session.when_imported(module, functools.partial(_patch_resource, session, module, name, begin))
    for module, name in _HELPERS:
        session.when_imported(module, functools.partial(_patch_helper, session, module, name))


def _patch_resource(session: Session, module: str, name: str, begin: Begin) -> None:
    for resource, asynchronous in ((name, False), (f"Async{name}", True)):
        for method in ("create", "parse"):
            patch = functools.partial(wrap, begin=begin, asynchronous=asynchronous)
            session.patch(getattr(sys.modules[module], resource), method, patch)


def _patch_helper(session: Session, module: str, name: str) -> None:
    for helper in (name, f"Async{name}"):
        session.patch(getattr(sys.modules[module], helper), "close", tell_when_closed)


def _provider(client: Any, host: str) -> str:
    azure = isinstance(client, (openai.AzureOpenAI, openai.AsyncAzureOpenAI)) or host.endswith(".openai.azure.com")
    return "azure.ai.openai" if azure else _PROVIDERS.get(host, "openai")
