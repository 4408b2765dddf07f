"""A load generator: a few kinds of user at a steady, modest rate."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from companion._speech import speak

__all__ = ["Plan", "run"]

# Asked again and again: what the response cache is for.
_REPEATED = (
    "What is a good breakfast?",
    "How do I fall asleep faster?",
    "Tell me something nice.",
    "What should I read next?",
    "Is it going to be a good day?",
    "How do I say no politely?",
    "What is the capital of Iceland?",
    "Can you cheer me up?",
    "How long do I boil an egg?",
    "What rhymes with orange?",
)
_SUBJECTS = ("a garden", "an old friend", "a new job", "the sea", "my brother", "a recipe", "the winter", "a bad dream")
# Above the companion's burst, and below what it lets wait.
_RUSH = 45
_ASKS = ("What do you make of", "Help me think about", "I keep coming back to", "Write me a letter about")


@dataclass(frozen=True, slots=True)
class Plan:
    """*rate* requests a second in all, at most *in_flight* of them open, for *seconds* (None: until stopped)."""

    url: str
    rate: float = 3.0
    in_flight: int = 32
    seconds: float | None = None
    seed: int | None = None
    every: float = 10.0


@dataclass(slots=True)
class _Tally:
    begun: float = field(default_factory=time.monotonic)
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    held_back: int = 0

    def line(self, in_flight: int) -> str:
        took = time.monotonic() - self.begun
        total = len(self.seconds) + self.failed.total()
        parts = [f"{total} requests in {took:.0f} s", f"{len(self.seconds)} answered, {self.cached} from the cache"]
        if self.failed:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.failed.most_common(4))
            parts.append(f"{self.failed.total()} failed ({reasons})")
        if len(self.seconds) > 1:
            cuts = statistics.quantiles(self.seconds, n=20, method="inclusive")
            parts.append(f"p50 {cuts[9]:.2f} s, p95 {cuts[18]:.2f} s")
        if self.held_back:
            parts.append(f"{self.held_back} held back")
        return f"load: {' · '.join(parts)} · {in_flight} in flight"


class _FailedError(Exception):
    """A request was answered, but not with a reply; the text is short enough for a summary."""


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed)
        self.tally = _Tally()
        self.total = _Tally()
        self.open = 0
        self.http = httpx2.AsyncClient(
            base_url=plan.url,
            timeout=httpx2.Timeout(90, connect=5),
            trust_env=False,
            limits=httpx2.Limits(max_connections=64),
        )

    async def run(self) -> None:
        rate = self.plan.rate
        async with self.http, asyncio.TaskGroup() as group:
            group.create_task(self._summarise())
            group.create_task(self._arrivals(group, rate * 0.5, self._repeater))
            group.create_task(self._arrivals(group, rate * 0.2, self._chatter))
            group.create_task(self._arrivals(group, rate * 0.15, self._streamer))
            group.create_task(self._arrivals(group, rate * 0.1, self._speaker))
            group.create_task(self._arrivals(group, rate * 0.2, self._reader))
            group.create_task(self._arrivals(group, rate * 0.05, self._visitor))
            group.create_task(self._arrivals(group, rate * 0.01, self._rush))
            group.create_task(self._socket_user(rate * 0.15))

    # --- Kinds of user -----------------------------------------------------------------------------------------------

    async def _repeater(self) -> None:
        """Two people who ask the same few things."""
        user = self.dice.choice(("robin", "rosa"))
        await self._say({"user": user, "message": self.dice.choice(_REPEATED), "mode": "talker"})

    async def _chatter(self) -> None:
        """Two people who think aloud, and sometimes bring a text along."""
        body: dict[str, Any] = {"user": self.dice.choice(("chris", "charlie")), "message": self._thought()}
        body["mode"] = "thinker" if self.dice.random() < 0.75 else "talker"
        if self.dice.random() < 0.1:
            body["attachment"] = f"{self._thought()}\n" * self.dice.randint(10, 200)
        await self._say(body)

    async def _streamer(self) -> None:
        """One person who watches the words come in."""
        thinker = self.dice.random() < 0.5
        message = self._thought() if thinker else self.dice.choice(_REPEATED)
        body = {"user": "sam", "message": message, "mode": "thinker" if thinker else "talker"}
        async with self.http.stream("POST", "/v1/chat/stream", json=body) as response:
            if response.status_code != 200:
                raise _FailedError(str(response.status_code))
            name = ""
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif name == "error" and line.startswith("data: "):
                    raise _FailedError("broke off")
                elif name == "done" and line.startswith("data: "):
                    self.tally.cached += bool(json.loads(line[6:])["cached"])
                    return
            raise _FailedError("no end")

    async def _speaker(self) -> None:
        """One person who talks, in a room that is not always quiet."""
        sound = speak(self.dice.choice(_REPEATED), noise=self.dice.uniform(0, 0.08), dice=self.dice)
        response = await self.http.post("/v1/voice?user=vera", content=sound)
        if response.status_code != 200:
            raise _FailedError(str(response.status_code))
        self.tally.cached += bool(response.json()["cached"])

    async def _reader(self) -> None:
        """Somebody who reads again what was said, or looks what models there are."""
        user = self.dice.choice(("robin", "rosa", "chris", "charlie", "sam", "wendy", "vera"))
        path = f"/v1/messages?user={user}" if self.dice.random() < 0.9 else "/v1/models"
        response = await self.http.get(path)
        if response.status_code != 200:
            raise _FailedError(str(response.status_code))

    async def _visitor(self) -> None:
        """Somebody who opens the page."""
        for path in ("/", "/page.css", "/page.js"):
            response = await self.http.get(path)
            if response.status_code != 200:
                raise _FailedError(str(response.status_code))

    async def _rush(self) -> None:
        """Somebody's phones, that come back from a tunnel all at once: more than there are turns for a moment."""
        answers = await asyncio.gather(*(self.http.get("/v1/messages?user=rosa") for _ in range(_RUSH)))
        refused = sum(answer.status_code != 200 for answer in answers)
        if refused:
            raise _FailedError("refused in a rush")

    async def _socket_user(self, rate: float) -> None:
        """One person on a WebSocket, who comes back when it breaks."""
        parts = urlsplit(self.plan.url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        address = f"{scheme}://{parts.netloc}{parts.path}/ws?user={quote('wendy')}"
        while True:
            try:
                async with connect(address, proxy=None, open_timeout=5, max_size=2**22) as socket:
                    while True:
                        await asyncio.sleep(self.dice.expovariate(rate))
                        thinker = self.dice.random() < 0.3
                        message = self._thought() if thinker else self.dice.choice(_REPEATED)
                        asked = {"message": message, "mode": "thinker" if thinker else "talker"}
                        async with self._counted():
                            await socket.send(json.dumps(asked))
                            await self._read_answer(socket)
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(1 + self.dice.random())

    async def _read_answer(self, socket: Any) -> None:
        async with asyncio.timeout(90):
            async for frame in socket:
                for message in json.loads(frame)["messages"]:
                    if message["type"] == "error":
                        raise _FailedError("error on the socket")
                    if message["type"] == "done":
                        self.tally.cached += bool(message["cached"])
                        return
            raise _FailedError("socket closed")

    async def _say(self, body: dict[str, Any]) -> None:
        response = await self.http.post("/v1/chat", json=body)
        if response.status_code != 200:
            raise _FailedError(str(response.status_code))
        self.tally.cached += bool(response.json()["cached"])

    def _thought(self) -> str:
        if self.dice.random() < 0.3:
            return f"How much is {self.dice.randint(2, 12)} * {self.dice.randint(2, 12)}, and what comes to your mind?"
        return f"{self.dice.choice(_ASKS)} {self.dice.choice(_SUBJECTS)} ({self.dice.randrange(100_000)})"

    # --- Rate, bounds, counts ----------------------------------------------------------------------------------------

    async def _arrivals(
        self, group: asyncio.TaskGroup, rate: float, visit: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Visits come whether or not the ones before are served: a slow companion does not slow its users down."""
        while True:
            await asyncio.sleep(self.dice.expovariate(rate))
            if self.open < self.plan.in_flight:
                group.create_task(self._visit(visit))
            else:
                self.tally.held_back += 1

    async def _visit(self, visit: Callable[[], Awaitable[None]]) -> None:
        async with self._counted():
            await visit()

    @asynccontextmanager
    async def _counted(self) -> AsyncGenerator[None, None]:
        begun = time.monotonic()
        self.open += 1
        try:
            yield
        except _FailedError as error:
            self.tally.failed[str(error)] += 1
        except httpx2.ConnectError:
            self.tally.failed["unreachable"] += 1
        except httpx2.HTTPError as error:
            self.tally.failed[type(error).__name__] += 1
        except (OSError, TimeoutError, WebSocketException) as error:
            self.tally.failed[type(error).__name__] += 1
            raise
        else:
            self.tally.seconds.append(time.monotonic() - begun)
        finally:
            self.open -= 1

    async def _summarise(self) -> None:
        while True:
            await asyncio.sleep(self.plan.every)
            self._say_line(self.tally)
            self._add_up()

    def _add_up(self) -> None:
        self.total.seconds += self.tally.seconds
        # Enough for the last line's quantiles, and never more however long it runs.
        del self.total.seconds[:-10_000]
        self.total.failed += self.tally.failed
        self.total.cached += self.tally.cached
        self.total.held_back += self.tally.held_back
        self.tally = _Tally()

    def _say_line(self, tally: _Tally) -> None:
        print(tally.line(self.open), flush=True)  # noqa: T201 -- a program's face


async def run(plan: Plan) -> int:
    """Load the companion until the plan's time is over, or SIGTERM or Ctrl-C comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    load = _Load(plan)
    loading = asyncio.create_task(load.run())
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait((loading, stopping), timeout=plan.seconds, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    loading.cancel()
    results = await asyncio.gather(loading, stopping, return_exceptions=True)
    load._add_up()  # noqa: SLF001 -- the same module's own
    print(f"load: stopped. In all: {load.total.line(load.open)[6:]}", flush=True)  # noqa: T201 -- a program's face
    if loading in done and isinstance(results[0], BaseException):
        print(f"load: {results[0]!r}", file=sys.stderr)  # noqa: T201 -- a program's face
        return 1
    return 0
