"""The conversation: who asks, what is remembered, which model answers, and when the cache does."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import cachetools

from companion._dials import Dials
from companion._inner import InnerLife
from companion._journal import Journal
from companion._llm import LLM, Answer
from companion._responses import Responses
from companion._settings import Settings
from companion._store import Exchange, Store
from companion._tools import Tools
from companion._tuning import Tuning
from companion._turns import Turns
from llmvitals import Operation, Vitals

__all__ = ["Chat", "Mode", "Piece", "Question", "Reply"]

Mode = Literal["talker", "thinker"]

TARGET_SECONDS: dict[Mode, float] = {"talker": 2.0, "thinker": 5.0}

_SYSTEM: dict[Mode, str] = {
    "talker": "You are a warm companion. Answer in a sentence or three.",
    "thinker": "You are a thoughtful companion. Take your time, weigh both sides, then answer.",
}
_TURNS_REMEMBERED = 6
_MESSAGES_SHOWN = 50
_ATTACHMENT_SHOWN = 4000


@dataclass(frozen=True, slots=True)
class Question:
    """What a person said, checked by whoever took it."""

    user: str
    message: str
    mode: Mode
    attachment: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole answer, who gave it and how long it took; `cached` when no model was asked."""

    reply: str
    mode: Mode
    model: str
    provider: str
    cached: bool
    seconds: float
    mood: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer, in order."""

    text: str


@dataclass(slots=True)
class Profile:
    """What is kept in memory of one user."""

    user: str
    created_at: float = field(default_factory=time.time)
    turns: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_TURNS_REMEMBERED))
    recalled: bool = False
    attachment: str | None = None
    """Key of the latest one in the attachment store."""


class Chat:
    """
    Answers questions. Lives on one loop; only `warm` may be called from another thread.

    The talker answers each question by itself, so its answers can be cached by what was asked, whoever asked. The
    thinker sees the user's last turns and attachment; its answers are nobody else's business.
    """

    def __init__(
        self,
        settings: Settings,
        vitals: Vitals,
        tuning: Tuning,
        dials: Dials,
        *,
        llm: LLM,
        store: Store,
        journal: Journal,
        inner: InnerLife,
        turns: Turns,
        responses: Responses,
    ) -> None:
        self._vitals = vitals
        self._journal = journal
        self._inner = inner
        self._turns = turns
        self._tuning = tuning
        self._dials = dials
        self._numbers = itertools.count(1)
        self._llm = llm
        self._store = store
        self._loop = asyncio.get_running_loop()
        # enforce=False: that profiles pile up is a fault this example is here to show.
        self._users = vitals.users(
            max_active=settings.users_max_active, idle_seconds=settings.users_idle_seconds, enforce=False
        )
        self._responses = responses
        self._tools = Tools(vitals)
        # Bounded in number and time, not in bytes: a thing that real applications forget.
        self._attachments: MutableMapping[str, bytes] = vitals.cache("attachments", cachetools.TTLCache(4096, ttl=3600))
        numbers = settings.numbers
        self._messages: MutableMapping[str, deque[Exchange]] = vitals.cache(
            "messages", cachetools.TTLCache(numbers.cache_max_entries, ttl=numbers.cache_messages_ttl_seconds)
        )

    @property
    def users(self) -> int:
        return len(self._users)

    def meet(self, user: str) -> Profile:
        """The user's profile, made when there is none yet."""
        profile: Profile = self._users.get_or_create(user, lambda: Profile(user))
        return profile

    def attach(self, profile: Profile, content: bytes) -> None:
        """Keep an attachment in the store, as the user's latest."""
        key = f"{profile.user}/{hashlib.blake2b(content, digest_size=12).hexdigest()}"
        self._attachments[key] = content
        profile.attachment = key

    async def models(self) -> dict[str, list[str]]:
        """By provider. Raises TooManyError."""
        await self._turns.take()
        return await self._llm.models()

    async def messages(self, user: str) -> list[Exchange]:
        """The user's latest exchanges, oldest first. Raises TooManyError."""
        await self._turns.take()
        return list(await self._exchanges(user))

    async def reply(self, question: Question) -> Reply:
        """The whole answer. Raises TooManyError, and the errors of `LLM.answer`."""
        await self._turns.take()
        begun = time.monotonic()
        async with self._operation(question.mode) as operation:
            prompt = await self._prompt(question)
            operation.note(model=prompt.model, asked_first=self._tuning.provider, max_tokens=prompt.max_tokens)
            answer = await self._cached(prompt)
            cached = answer is not None
            if answer is None:
                answer = await self._llm.answer(prompt.model, prompt.messages, prompt.max_tokens)
        return await self._done(question, prompt, answer, begun, cached=cached)

    async def stream(self, question: Question) -> AsyncGenerator[Piece | Reply, None]:
        """Pieces, then the Reply that they make. Raises TooManyError, and the errors of `LLM.stream`."""
        await self._turns.take()
        begun = time.monotonic()
        async with self._operation(question.mode) as operation:
            prompt = await self._prompt(question)
            operation.note(model=prompt.model, asked_first=self._tuning.provider, max_tokens=prompt.max_tokens)
            answer = await self._cached(prompt)
            cached = answer is not None
            if answer is not None:
                yield Piece(answer.text)
            else:
                text: list[str] = []
                provider = ""
                async with aclosing(self._llm.stream(prompt.model, prompt.messages, prompt.max_tokens)) as deltas:
                    async for delta in deltas:
                        text.append(delta.text)
                        provider = delta.provider
                        yield Piece(delta.text)
                answer = Answer("".join(text), provider, prompt.model)
        yield await self._done(question, prompt, answer, begun, cached=cached)

    def warm(self, limit: int, timeout_seconds: float) -> dict[str, int]:
        """Ask the talker what was asked most in the last day, and cache the answers. Blocks: not on the loop."""
        asking = asyncio.run_coroutine_threadsafe(self._warm(limit), self._loop)
        try:
            return asking.result(timeout_seconds)
        except TimeoutError:
            asking.cancel()
            raise TimeoutError(f"the response cache was not warm after {timeout_seconds:g} s") from None

    async def _warm(self, limit: int) -> dict[str, int]:
        since = time.time() - 86_400
        questions = await self._store.frequent_questions("talker", since=since, limit=limit)
        warmed = 0
        for question in questions:
            prompt = await self._prompt(Question("", question, "talker"))
            if prompt.cache_key is None or prompt.cache_key in self._responses:
                continue
            answer = await self._llm.answer(prompt.model, prompt.messages, prompt.max_tokens)
            await self._responses.put(prompt.cache_key, answer)
            warmed += 1
        return {"questions": len(questions), "warmed": warmed}

    def _operation(self, mode: Mode) -> Operation:
        name = f"{mode}_{next(self._numbers)}" if self._dials.numbered_operations else mode
        return self._vitals.operation(name, target_seconds=TARGET_SECONDS[mode])

    async def _prompt(self, question: Question) -> _Prompt:
        messages: list[Any] = [{"role": "system", "content": _SYSTEM[question.mode]}]
        if question.mode == "talker" and question.attachment is None:
            if question.user:
                self.meet(question.user)
            messages.append({"role": "user", "content": question.message})
            return _Prompt("talker", messages, self._tuning.max_tokens, cacheable=True)
        profile = self.meet(question.user)
        await self._recall(profile)
        if question.attachment is not None:
            self.attach(profile, question.attachment.encode(errors="replace"))
        content = self._attachments.get(profile.attachment) if profile.attachment else None
        if content is None:
            profile.attachment = None
        else:
            shown = content[:_ATTACHMENT_SHOWN].decode(errors="replace")
            messages.append({"role": "system", "content": f"The user attached:\n{shown}"})
        if question.mode == "thinker":
            remembered = await self._journal.context(question.user, question.message)
            known = (remembered, self._tools.notes(question.message))
            messages += [{"role": "system", "content": text} for text in known if text]
        for asked, answered in profile.turns:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        messages.append({"role": "user", "content": question.message})
        model = self._tuning.thinker_model if question.mode == "thinker" else "talker"
        return _Prompt(model, messages, self._tuning.max_tokens, cacheable=False)

    async def _recall(self, profile: Profile) -> None:
        if profile.recalled:
            return
        profile.recalled = True
        for exchange in list(await self._exchanges(profile.user))[-_TURNS_REMEMBERED:]:
            profile.turns.append((exchange.question, exchange.answer))

    async def _exchanges(self, user: str) -> deque[Exchange]:
        kept = self._messages.get(user)
        if kept is None:
            found = await self._store.recent(user, _MESSAGES_SHOWN)
            kept = self._messages[user] = deque(found, maxlen=_MESSAGES_SHOWN)
        return kept

    async def _cached(self, prompt: _Prompt) -> Answer | None:
        return None if prompt.cache_key is None else await self._responses.get(prompt.cache_key)

    async def _done(self, question: Question, prompt: _Prompt, answer: Answer, begun: float, *, cached: bool) -> Reply:
        if prompt.cache_key is not None and not cached:
            await self._responses.put(prompt.cache_key, answer)
        self.meet(question.user).turns.append((question.message[:2000], answer.text))
        self._remember(question, Exchange(question.user, question.mode, question.message, answer.text, time.time()))
        seconds = round(time.monotonic() - begun, 4)
        return Reply(answer.text, question.mode, answer.model, answer.provider, cached, seconds, self._inner.mood())

    def _remember(self, question: Question, exchange: Exchange) -> None:
        self._store.remember(exchange)
        # `in` and `pop` count neither a hit nor a miss.
        kept = self._messages.pop(question.user, None)
        if kept is not None:
            kept.append(exchange)
            self._messages[question.user] = kept
        self._inner.hear(question.message)
        if question.mode == "thinker":
            self._journal.keep(question.user, question.message)


class _Prompt:
    """What is sent to a model, and the key of its answer in the cache when it may be cached."""

    __slots__ = ("cache_key", "max_tokens", "messages", "model")

    def __init__(self, model: str, messages: list[Any], max_tokens: int, *, cacheable: bool) -> None:
        self.model = model
        self.messages = messages
        self.max_tokens = max_tokens
        self.cache_key: str | None = None
        if cacheable:
            sent = json.dumps([model, max_tokens, messages], sort_keys=True)
            self.cache_key = hashlib.blake2b(sent.encode(), digest_size=20).hexdigest()
