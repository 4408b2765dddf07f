"""What goes on between the questions: an inner monologue, what it is drawn to, and how it feels about the day."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import cachetools

from companion._dials import Dials
from companion._embedding import Embedding, embed, similarity, words_of
from companion._llm import LLM
from companion._store import Store
from llmvitals import Module, Vitals
from llmvitals import Settings as Numbers

__all__ = ["InnerLife"]

log = logging.getLogger("companion")

_HEARD = 20
_MONOLOGUE = "You are a companion who is alone for a moment. In one sentence, think about what you heard."
_WORDS: dict[str, frozenset[str]] = {
    "warm": frozenset({"thank", "thanks", "love", "nice", "good", "happy", "friend", "cheer", "garden", "sea"}),
    "worried": frozenset({"bad", "sad", "afraid", "alone", "lost", "tired", "sick", "asleep", "dream", "winter"}),
    "curious": frozenset({"what", "why", "how", "read", "think", "learn", "recipe", "job", "capital", "rhymes"}),
}


class InnerLife:
    """
    Three background modules, each run every *every_seconds* in a task of its own. What they come to is kept for a while
    in a cache, from which the companion's state is made when somebody asks.
    """

    def __init__(
        self, vitals: Vitals, dials: Dials, numbers: Numbers, llm: LLM, store: Store, *, every_seconds: float
    ) -> None:
        self._vitals = vitals
        self._dials = dials
        self._llm = llm
        self._store = store
        self._every = every_seconds
        self._heard: deque[str] = deque(maxlen=_HEARD)
        self._new = False
        self._results: MutableMapping[str, str] = vitals.cache(
            "modules", cachetools.TTLCache(numbers.cache_max_entries, ttl=numbers.cache_modules_ttl_seconds)
        )
        self._state: MutableMapping[str, str] = vitals.cache(
            "state", cachetools.TTLCache(numbers.cache_max_entries, ttl=numbers.cache_state_ttl_seconds)
        )
        self._ending = threading.Event()
        modules: dict[str, Callable[[Module], Awaitable[str]]] = {
            "inner_monologue": self._inner_monologue,
            "motivation": self._motivation,
            "subjective_experience": self._subjective_experience,
        }
        self._tasks = [
            asyncio.create_task(self._go_on(name, think), name=f"companion-{name}") for name, think in modules.items()
        ]

    def hear(self, text: str) -> None:
        """Something to think about."""
        self._heard.append(text[:300])
        self._new = True

    def mood(self) -> str:
        """How the companion is, in a word or two: what the modules came to of late, a moment old at most."""
        state = self._state.get("mood")
        if state is None:
            results = [self._results.get(name) for name in ("subjective_experience", "motivation")]
            state = self._state["mood"] = ", ".join(result for result in results if result) or "calm"
        return state

    async def close(self) -> None:
        self._ending.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _go_on(self, name: str, think: Callable[[Module], Awaitable[str]]) -> None:
        module = self._vitals.module(name, timeout_seconds=max(self._every, 1.0))
        well = True
        while True:
            # Not all at the same moment.
            await asyncio.sleep(self._every * random.uniform(0.8, 1.2))
            try:
                result = await think(module)
            except Exception as error:  # noqa: BLE001 -- whatever ails one thought, there will be another
                if well:
                    log.warning("%s: %s: %s", name, type(error).__name__, str(error)[:200])
                well = False
                continue
            well = True
            if result:
                self._results[name] = result

    def _bad_day(self) -> None:
        if random.random() < self._dials.module_error_ratio:
            raise RuntimeError("the dials ask for an error")

    # --- the modules --------------------------------------------------------------------------------------------------

    async def _inner_monologue(self, module: Module) -> str:
        """A sentence about what was heard last, by the talker; nothing when nothing was heard since."""
        async with module:
            await asyncio.sleep(self._dials.module_seconds)
            self._bad_day()
            if not self._new:
                return ""
            self._new = False
            messages: list[Any] = [
                {"role": "system", "content": _MONOLOGUE},
                {"role": "user", "content": "\n".join(list(self._heard)[-3:])},
            ]
            return (await self._llm.answer("talker", messages, 48)).text

    async def _motivation(self, module: Module) -> str:
        """What it would like to hear more of. It computes in a thread, where nothing can interrupt it."""

        @module
        def think(heard: list[str]) -> str:
            self._ending.wait(self._dials.module_seconds)
            self._bad_day()
            return _centre(heard)

        return await asyncio.to_thread(think, list(self._heard))

    async def _subjective_experience(self, module: Module) -> str:
        """How the last hour felt, by the words that were said."""
        async with module:
            await asyncio.sleep(self._dials.module_seconds)
            self._bad_day()
            questions = await self._store.questions(since=time.time() - 3600, limit=200)
            return await asyncio.to_thread(_feeling, questions)


def _centre(texts: list[str]) -> str:
    """The longest word of the text that is most like all the others."""
    if not texts:
        return ""
    vectors: list[Embedding] = [embed(text) for text in texts]
    nearness = [sum(similarity(one, other) for other in vectors) for one in vectors]
    words = words_of(texts[nearness.index(max(nearness))])
    return f"drawn to {max(words, key=len)}" if words else ""


def _feeling(texts: list[str]) -> str:
    said = [set(words_of(text)) for text in texts]
    counts = {feeling: sum(bool(words & signs) for words in said) for feeling, signs in _WORDS.items()}
    return max(counts, key=lambda feeling: counts[feeling]) if any(counts.values()) else "calm"
