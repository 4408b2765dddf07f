"""The openai SDK, sync and async: chat completions, plain and streamed, and embeddings.

The SDK's own retries happen inside a call. Inside the application's own `Vitals.call` of the same kind, the SDK adds
what it learns (model, usage, the stream) to that call instead of counting a second one.
"""

import functools
from operator import attrgetter
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import openai
from openai.resources import chat, embeddings

from llmvitals.integrations._llm import Sdk, Seen, watch_sdk_stream, wrap
from llmvitals.integrations._session import Session

_PROVIDERS = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
_METHODS = (
    (chat.completions.Completions, "create", "chat"),
    (chat.completions.Completions, "parse", "chat"),
    (chat.completions.AsyncCompletions, "create", "chat"),
    (chat.completions.AsyncCompletions, "parse", "chat"),
    (embeddings.Embeddings, "create", "embeddings"),
    (embeddings.AsyncEmbeddings, "create", "embeddings"),
)


def install(session: Session) -> None:
    # The property `base_url` imports a module each time.
    sdk = Sdk(session, seen=_Seen, url=attrgetter("_base_url"), provider=_provider)
    for owner, name, operation in _METHODS:
        begin = functools.partial(_begin, sdk, operation)
        asynchronous = owner.__name__.startswith("Async")
        session.patch(owner, name, functools.partial(wrap, begin=begin, asynchronous=asynchronous))


def _begin(sdk: Sdk, operation: str, resource: Any, args: Any, kwargs: Any) -> Seen | None:  # noqa: ARG001 -- as `wrap` calls it
    return sdk.begin(resource._client, operation, kwargs.get("model"))  # noqa: SLF001 -- there is no public way to it


def _provider(client: Any, host: str) -> str:
    azure = isinstance(client, (openai.AzureOpenAI, openai.AsyncAzureOpenAI)) or host.endswith(".openai.azure.com")
    return "azure.ai.openai" if azure else _PROVIDERS.get(host, "openai")


class _Seen(Seen):
    __slots__ = ()

    def read_reply(self, reply: Any) -> Any:
        if not isinstance(reply, (openai.Stream, openai.AsyncStream)):
            self.call.read(reply)
        elif not self.call.is_streaming:
            if not isinstance(reply._iterator, (GeneratorType, AsyncGeneratorType)):  # noqa: SLF001
                return self.call.stream(reply)
            watch_sdk_stream(reply, self.call.watch())
        return reply
