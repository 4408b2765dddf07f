"""The WebSocket side: questions come in as they are asked, pieces of answers go out in batches."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from companion._bodies import BadInputError, parse_object, question, user_id
from companion._chat import Chat, Piece
from companion._llm import BrokenOffError, RefusedError, UnavailableError
from companion._settings import Settings
from companion._turns import TooManyError
from llmvitals import Vitals

__all__ = ["Sockets"]

log = logging.getLogger("companion")

_QUESTIONS_WAITING = 8
_TRY_AGAIN_LATER = 1013
_GOING_AWAY = 1001
_POLICY = 1008
_SEND_SECONDS = 5.0
_NOT_TAKEN = 1003


@dataclass(frozen=True, slots=True)
class _Outgoing:
    conversation: _Conversation
    place: int
    """In the order in which the conversation's messages were made."""
    message: dict[str, Any]


@dataclass(slots=True)
class _Conversation:
    """One connection: the questions that wait, the answer that is being given, and what of it is on its way."""

    socket: WebSocket
    user: str
    waiting: asyncio.Queue[tuple[int, str]] = field(default_factory=lambda: asyncio.Queue(_QUESTIONS_WAITING))
    asked: int = 0
    busy: bool = False
    made: int = 0
    going_out: set[asyncio.Task[None]] = field(default_factory=set)
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, text: str) -> bool:
        """Queue a question under the next number; False when too many wait already."""
        self.asked += 1
        try:
            self.waiting.put_nowait((self.asked, text))
        except asyncio.QueueFull:
            return False
        return True

    def outgoing(self, question: int, message: dict[str, Any]) -> _Outgoing:
        self.made += 1
        return _Outgoing(self, self.made, {"question": question, **message})


class Sockets:
    """
    `/ws?user=…`. A frame out is {"messages": [...]}, each with the number of the question it belongs to.

    Pieces wait a moment for company; the end of an answer, or an error, sends what waits at once.
    """

    def __init__(self, settings: Settings, vitals: Vitals, chat: Chat) -> None:
        self._chat = chat
        numbers = settings.numbers
        self._idle_seconds = settings.websocket_idle_seconds
        self._pool = vitals.pool("websocket", max_size=settings.websocket_max)
        self.outbox = vitals.batcher(
            "outbox",
            self._flush,
            max_items=numbers.batch_max_items,
            most_items=5 * numbers.batch_max_items,
            max_wait_seconds=numbers.batch_max_wait_seconds,
        )
        self._max = settings.websocket_max
        self._open = 0

    def route(self) -> WebSocketRoute:
        return WebSocketRoute("/ws", self._serve)

    async def close(self) -> None:
        await self.outbox.close()

    async def _serve(self, socket: WebSocket) -> None:
        try:
            user = user_id(socket.query_params.get("user"))
        except BadInputError as error:
            await socket.accept()
            await socket.close(_POLICY, str(error))
            return
        await socket.accept()
        if self._open >= self._max:
            await socket.close(_TRY_AGAIN_LATER, "all connections are taken, try again later")
            return
        self._open += 1
        self._pool.acquire()
        try:
            await self._converse(socket, user)
        finally:
            self._open -= 1
            self._pool.release()

    async def _converse(self, socket: WebSocket, user: str) -> None:
        conversation = _Conversation(socket, user)
        answering = asyncio.create_task(self._answer_all(conversation))
        try:
            while True:
                try:
                    text = await asyncio.wait_for(socket.receive_text(), self._idle_seconds)
                except TimeoutError:
                    if not conversation.busy:
                        await socket.close(_GOING_AWAY, "nothing was said for a while")
                        return
                    continue
                if not conversation.take(text):
                    error = {"type": "error", "error": "too many questions at once"}
                    await self._send_now(conversation, conversation.asked, error)
        except KeyError:
            # Starlette expects text.
            await socket.close(_NOT_TAKEN, "text frames only")
        except WebSocketDisconnect:
            log.debug("websocket: %s left", user)
        finally:
            ending = [answering, *conversation.going_out]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _answer_all(self, conversation: _Conversation) -> None:
        while True:
            conversation.busy = False
            number, text = await conversation.waiting.get()
            conversation.busy = True
            try:
                await self._answer(conversation, number, text)
            except (BadInputError, BrokenOffError, UnavailableError, RefusedError, TooManyError) as error:
                await self._send_now(conversation, number, {"type": "error", "error": str(error)})
            except Exception:
                # The next question may fare better; without this, nobody would answer on this connection any more.
                log.exception("websocket: question %d could not be answered", number)
                await self._send_now(conversation, number, {"type": "error", "error": "something went wrong here"})

    async def _answer(self, conversation: _Conversation, number: int, text: str) -> None:
        asked = question(parse_object(text) | {"user": conversation.user})
        async with aclosing(self._chat.stream(asked)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    await self._send_soon(conversation, number, {"type": "delta", **asdict(piece)})
                else:
                    await self._send_now(conversation, number, {"type": "done", **asdict(piece)})

    async def _send_soon(self, conversation: _Conversation, number: int, message: dict[str, Any]) -> None:
        """Put a message into the outbox, and go on: waiting until it is sent would hold the answer back."""
        going = asyncio.create_task(self.outbox.put(conversation.outgoing(number, message)))
        conversation.going_out.add(going)
        going.add_done_callback(conversation.going_out.discard)
        # The task has its first step, which queues the message, before the next one is made.
        await asyncio.sleep(0)

    async def _send_now(self, conversation: _Conversation, number: int, message: dict[str, Any]) -> None:
        await self.outbox.put(conversation.outgoing(number, message), priority="high")

    async def _flush(self, batch: list[_Outgoing]) -> None:
        groups: dict[int, list[_Outgoing]] = {}
        for outgoing in batch:
            groups.setdefault(id(outgoing.conversation), []).append(outgoing)
        # Side by side: one reader that is slow must not hold up the others for longer than itself.
        await asyncio.gather(*(_send_frame(group) for group in groups.values()))


async def _send_frame(group: list[_Outgoing]) -> None:
    conversation = group[0].conversation
    # The batcher puts urgent ones in front; to the reader of an answer its end comes last.
    messages = [outgoing.message for outgoing in sorted(group, key=lambda outgoing: outgoing.place)]
    try:
        async with asyncio.timeout(_SEND_SECONDS), conversation.sending:
            await conversation.socket.send_text(json.dumps({"messages": messages}))
    except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError) as error:
        # It left while we wrote; its own reader notices and cleans up.
        log.debug("websocket: a frame of %d messages went nowhere: %s", len(messages), error)
