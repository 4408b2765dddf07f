"""The way to the models: two providers, each behind its breaker, retries around each, one as the other's fallback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import cachetools
import httpx2
import openai
import tenacity
from openai.types.chat import ChatCompletionMessageParam

from companion._settings import Settings
from companion._tuning import Tuning
from llmvitals import CircuitOpenError, Vitals

__all__ = ["LLM", "Answer", "BrokenOffError", "Delta", "RefusedError", "UnavailableError"]

T = TypeVar("T")
Messages = list[ChatCompletionMessageParam]

# A provider may ask for more patience than a person has.
_LONGEST_WAIT_SECONDS = 30.0


class UnavailableError(Exception):
    """No provider gave an answer. Trying again later may help."""


class RefusedError(Exception):
    """The provider will not answer this request, now or later."""


class BrokenOffError(Exception):
    """A stream ended in the middle of its answer."""


class OddReplyError(Exception):
    """A reply that is none: no choices, no text, or not JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer that is still being given."""

    text: str
    provider: str
    model: str


class _Provider:
    """One OpenAI-compatible server.

    The breaker is around each attempt, so a burst of retries opens it as it should, and around a stream to its end, so
    one that stalls on the way opens it, too.
    """

    def __init__(self, name: str, url: str, settings: Settings, vitals: Vitals) -> None:
        self.name = name
        self._timeout = openai.Timeout(
            settings.llm_timeout_seconds,
            connect=settings.llm_connect_timeout_seconds,
            pool=settings.llm_timeout_seconds,
        )
        self._stream_timeout = openai.Timeout(
            settings.llm_timeout_seconds,
            connect=settings.llm_connect_timeout_seconds,
            read=settings.llm_stall_seconds,
        )
        limits = httpx2.Limits(
            max_connections=settings.llm_connections,
            max_keepalive_connections=max(1, settings.llm_connections // 2),
            keepalive_expiry=20,
        )
        limit = vitals.limit(name)

        async def read_limits(response: httpx2.Response) -> None:
            limit.read(response.headers)
            if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                limit.rejected()

        hooks: dict[str, list[Callable[..., Any]]] = {"response": [read_limits]}
        self.client = openai.AsyncOpenAI(
            base_url=url,
            api_key=settings.llm_api_key,
            timeout=self._timeout,
            # Retries are ours, outside the client, where they can be seen.
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, timeout=self._timeout, trust_env=False, event_hooks=hooks
            ),
        )
        self.breaker = vitals.breaker(
            f"llm_{name}",
            failure_threshold=settings.breaker_failures,
            reset_timeout_seconds=settings.breaker_reset_seconds,
            ignore=_OUR_FAULT,
        )
        self._pool = vitals.pool(f"llm_{name}", max_size=settings.llm_connections)
        self._free = asyncio.Semaphore(settings.llm_connections)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[None, None]:
        """Wait for a turn: the client's own pool has the same size, but tells nobody how full it is."""
        with self._pool.waiting():
            await self._free.acquire()
        try:
            with self._pool:
                yield
        finally:
            self._free.release()

    async def whole(self, model: str, messages: Messages, max_tokens: int) -> Answer:
        async with self.breaker:
            try:
                async with self._connection():
                    reply = await self.client.chat.completions.create(
                        model=model, messages=messages, max_tokens=max_tokens
                    )
            except json.JSONDecodeError as error:
                raise OddReplyError("the reply is not JSON") from error
            # The types promise choices and a message; a server that misbehaves does not read them.
            if not getattr(reply, "choices", None) or not reply.choices[0].message.content:
                raise OddReplyError("the reply has no text")
        return Answer(reply.choices[0].message.content, self.name, model)

    async def open_stream(
        self, model: str, messages: Messages, max_tokens: int
    ) -> tuple[Delta, AsyncGenerator[Delta, None]]:
        """The first piece of text and the rest: a stream that fails before its first word may still be retried."""
        pieces = self._pieces(model, messages, max_tokens)
        return await anext(pieces), pieces

    async def _pieces(self, model: str, messages: Messages, max_tokens: int) -> AsyncGenerator[Delta, None]:
        silent = True
        async with self.breaker, self._connection(), aclosing(self._texts(model, messages, max_tokens)) as texts:
            async for text in texts:
                silent = False
                yield Delta(text, self.name, model)
            if silent:
                raise OddReplyError("the stream has no text")

    async def _texts(self, model: str, messages: Messages, max_tokens: int) -> AsyncGenerator[str, None]:
        stream = await self.client.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            timeout=self._stream_timeout,
        )
        try:
            async for chunk in stream:
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    yield text
        except json.JSONDecodeError as error:
            raise OddReplyError("a chunk is not JSON") from error
        finally:
            await stream.close()

    async def check(self) -> None:
        """Raise when the provider does not list its models within two seconds."""
        await self.models()

    async def models(self) -> list[str]:
        return [model.id for model in (await self.client.with_options(timeout=2.0).models.list()).data]


class LLM:
    """Asks the provider that the tunables prefer, and the other one when that fails."""

    def __init__(self, settings: Settings, vitals: Vitals, tuning: Tuning) -> None:
        self._tuning = tuning
        urls = {"primary": settings.llm_url} | ({"backup": settings.backup_url} if settings.backup_url else {})
        self._providers = {name: _Provider(name, url, settings, vitals) for name, url in urls.items()}
        self._startup = vitals.startup()
        # What a provider offers changes rarely, and nobody asks before it is shown.
        self._models: MutableMapping[str, list[str]] = vitals.cache("models", cachetools.TTLCache(100, ttl=7200))
        self._retries = vitals.retries("llm")
        self._stop = tenacity.stop_after_attempt(1 + settings.retries)
        self._backoff = tenacity.wait_exponential(multiplier=settings.retry_base_seconds, max=_LONGEST_WAIT_SECONDS)

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(self._providers)

    def breaker_states(self) -> dict[str, str]:
        return {name: str(provider.breaker.state) for name, provider in self._providers.items()}

    async def check(self, provider: str) -> None:
        await self._providers[provider].check()

    async def models(self) -> dict[str, list[str]]:
        """The models that each provider lists; of one that does not answer, none."""
        offered: dict[str, list[str]] = {}
        for name, provider in self._providers.items():
            models = self._models.get(name)
            if models is None:
                try:
                    with self._startup.lazy(f"models_{name}"):
                        models = self._models[name] = await provider.models()
                except _FAILURES:
                    models = []
            offered[name] = models
        return offered

    async def answer(self, model: str, messages: Messages, max_tokens: int) -> Answer:
        """The whole answer. Raises UnavailableError or RefusedError."""

        async def attempt(provider: _Provider) -> Answer:
            return await provider.whole(model, messages, max_tokens)

        return await self._from_one(attempt)

    async def stream(self, model: str, messages: Messages, max_tokens: int) -> AsyncGenerator[Delta, None]:
        """The answer in pieces. Raises as `answer` does before the first piece, then BrokenOffError only."""

        async def attempt(provider: _Provider) -> tuple[Delta, AsyncGenerator[Delta, None]]:
            return await provider.open_stream(model, messages, max_tokens)

        first, rest = await self._from_one(attempt)
        async with aclosing(rest):
            yield first
            try:
                async for delta in rest:
                    yield delta
            except _FAILURES as error:
                raise BrokenOffError(f"{first.provider} broke off: {_said(error)}") from error

    async def close(self) -> None:
        await asyncio.gather(*(provider.client.close() for provider in self._providers.values()))

    async def _from_one(self, attempt: Callable[[_Provider], Awaitable[T]]) -> T:
        preferred = self._tuning.provider
        order = sorted(self._providers.values(), key=lambda provider: provider.name != preferred)
        problems: list[str] = []
        for position, provider in enumerate(order):
            if position:
                order[position - 1].breaker.fallback_used()
            try:
                return await self._with_retries(provider, attempt)
            except _OUR_FAULT as error:
                raise RefusedError(_said(error)) from error
            except (CircuitOpenError, *_FAILURES) as error:
                problems.append(f"{provider.name}: {_said(error)}")
        raise UnavailableError("; ".join(problems))

    async def _with_retries(self, provider: _Provider, attempt: Callable[[_Provider], Awaitable[T]]) -> T:
        hooks: dict[str, Any] = self._retries.tenacity()
        retrying = tenacity.AsyncRetrying(
            stop=self._stop,
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(_FAILURES) & tenacity.retry_if_not_exception_type(_OUR_FAULT),
            reraise=True,
            **hooks,
        )
        result: T = await retrying(attempt, provider)
        return result

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Exponential, but never sooner than the provider asked for."""
        error = state.outcome.exception() if state.outcome else None
        asked = 0.0
        if isinstance(error, openai.APIStatusError):
            try:
                asked = float(error.response.headers.get("retry-after", 0))
            except ValueError:
                # A date: rare, and the exponential wait is a fair guess.
                asked = 0.0
        return min(max(self._backoff(state), asked), _LONGEST_WAIT_SECONDS)


# What our own request did wrong; another try, or another provider of the same kind, would say the same.
_OUR_FAULT = (
    openai.BadRequestError,
    openai.AuthenticationError,
    openai.PermissionDeniedError,
    openai.NotFoundError,
    openai.UnprocessableEntityError,
)
# What the next try may not meet again.
_FAILURES = (openai.APIError, httpx2.HTTPError, OddReplyError)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
