"""One provider at work: its dials, its dice, its ledger, and the pace at which tokens leave it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from faulty_llm._dials import Dials, ProviderDials
from faulty_llm._http import CutError
from faulty_llm._ledger import Ledger, Served
from faulty_llm._quota import Quota
from faulty_llm._text import count_tokens, reply_tokens
from faulty_llm._vllm_metrics import Engine

__all__ = ["Broken", "Fault", "Generation", "Provider"]


class Fault(Exception):  # noqa: N818 -- not an error of ours: the dials asked for it
    """The dials say that this request is answered with an error status."""

    def __init__(self, status: int, retry_after_seconds: float) -> None:
        super().__init__(f"the dials ask for status {status}")
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Broken(Enum):
    """A chunk, or a plain body, that is not what the protocol promises."""

    CUT = "cut"
    NO_CHOICES = "no_choices"
    NULL_CONTENT = "null_content"


@dataclass(slots=True)
class Generation:
    """One request being served. Iterate `tokens()` once; `outcome` goes to the ledger when the request is over."""

    provider: Provider
    model: str
    words: list[str]
    finish_reason: str
    input_tokens: int
    stream: bool
    served: Served
    outcome: str = "cancelled"
    sent: int = 0

    async def tokens(self) -> AsyncIterator[str | Broken]:
        """The reply's tokens at the dials' pace, re-read at each token so that a turned dial shows at once."""
        begun = time.monotonic()
        await asyncio.sleep(self.dials.time_to_first_token_seconds)
        first = due = time.monotonic()
        cut_at = len(self.words) // 2 if self.stream and self.provider.dice.random() < self.dials.cut_ratio else None
        for number, word in enumerate(self.words):
            if number == cut_at:
                self.outcome = "cut"
                raise CutError
            await self.provider.while_stalled(self.model, self.sent)
            # A late token is not made up for by a burst: the schedule restarts when we fell far behind.
            due = max(due + 1 / self.dials.tokens_per_second, time.monotonic() - 0.25)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.provider.dice.random() < self.dials.malformed_ratio:
                self.outcome = "malformed"
                yield self.provider.dice.choice(list(Broken))
            self.sent += 1
            yield word
        await self.provider.while_stalled(self.model, self.sent)
        if self.outcome != "malformed":
            self.outcome = "completed"
        process, generation = first - begun, time.monotonic() - first
        self.provider.ledger.completed(
            input_tokens=self.input_tokens, output_tokens=self.sent, process=process, generation=generation
        )
        self.provider.engine.timed(self.model, process=process, generation=generation, tokens=self.sent)

    def hides_usage(self) -> bool:
        """Whether this reply does not say how many tokens it took: ask once."""
        return self.provider.dice.random() < self.dials.usage_missing_ratio

    @property
    def dials(self) -> Dials:
        return self.provider.dials.for_model(self.model)


class Provider:
    """A named provider. Everything runs on one event loop, so nothing here is locked."""

    def __init__(self, name: str, models: tuple[str, ...], seed: int, dials: ProviderDials) -> None:
        self.name = name
        self.models = models
        self.seed = seed
        self.ledger = Ledger()
        self.engine = Engine()
        self.dice = random.Random(f"{seed}/{name}")
        self._dials = dials
        self._turned = asyncio.Event()
        self._quota = Quota()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that are there."""
        return tuple(model for model in self.models if self._dials.for_model(model).loaded)

    def quota_headers(self, model: str) -> Mapping[str, str]:
        """What is left of this minute's requests."""
        return self._quota.headers(self.dials.for_model(model).requests_per_minute)

    @property
    def dials(self) -> ProviderDials:
        return self._dials

    @dials.setter
    def dials(self, dials: ProviderDials) -> None:
        self._dials = dials
        # Whoever waits on the old event wakes and looks; later waiters get the new one.
        self._turned.set()
        self._turned = asyncio.Event()

    async def while_stalled(self, model: str, sent: int) -> None:
        """Return at once, or when the dials no longer hold a stream that has sent *sent* chunks."""
        while (after := self._dials.for_model(model).stall_after_chunks) is not None and sent >= after:
            await self._turned.wait()

    @contextmanager
    def serving(
        self, model: str, prompt: str, *, max_tokens: int | None, stream: bool, attempt: str = "0"
    ) -> Iterator[Generation]:
        """Count a request from its start to its end, however it ends. *attempt*: which retry of the client's it is."""
        words = reply_tokens(model, prompt, self.seed)
        dials = self.dials.for_model(model)
        kept = words[: dials.most_tokens if max_tokens is None else min(max_tokens, dials.most_tokens)]
        finish_reason = "length" if len(kept) < len(words) else "stop"
        if self.dice.random() < dials.filtered_ratio:
            kept, finish_reason = kept[: (len(kept) + 1) // 2], "content_filter"
        served = self.ledger.of(model)
        generation = Generation(self, model, kept, finish_reason, count_tokens(prompt), stream, served)
        served.requests += 1
        served.streams += stream
        served.in_flight += 1
        self.engine.admitted(model, prompt)
        try:
            yield generation
        except Fault as fault:
            generation.outcome = f"error_{fault.status}"
            raise
        finally:
            served.in_flight -= 1
            served.ended(generation.outcome, stream=stream, attempt=attempt)
            if generation.sent:
                finished = generation.finish_reason if generation.outcome == "completed" else "abort"
                self.engine.ended(model, finished, prompt=generation.input_tokens, generated=generation.sent)
                served.input_tokens += generation.input_tokens
                served.output_tokens += generation.sent

    async def admit(self, model: str) -> None:
        """Wait the latency out, then throw the dice. Raises Fault."""
        await asyncio.sleep(self.dials.for_model(model).latency_seconds)
        dials = self.dials.for_model(model)
        wait = self._quota.take(dials.requests_per_minute)
        if wait is not None:
            raise Fault(429, wait)
        if self.dice.random() < dials.error_ratio:
            raise Fault(dials.error_status, dials.retry_after_seconds)
