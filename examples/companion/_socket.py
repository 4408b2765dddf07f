"""The WebSocket side: questions come in as they are asked, pieces of answers go out in batches."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from companion._bodies import BadInputError, parse_object, question, user_id
from companion._chat import Chat, Piece
from companion._llm import BrokenOffError, RefusedError, UnavailableError
from companion._settings import Settings
from llmvitals import Vitals

__all__ = ["Sockets"]

log = logging.getLogger("companion")

_QUESTIONS_WAITING = 8
_TRY_AGAIN_LATER = 1013
_GOING_AWAY = 1001
_POLICY = 1008
_NOT_TAKEN = 1003


@dataclass(frozen=True, slots=True)
class _Outgoing:
    socket: WebSocket
    message: dict[str, Any]


@dataclass(slots=True)
class _Conversation:
    """One connection: the questions that wait, and whether one is being answered."""

    socket: WebSocket
    user: str
    waiting: asyncio.Queue[tuple[int, str]] = field(default_factory=lambda: asyncio.Queue(_QUESTIONS_WAITING))
    asked: int = 0
    busy: bool = False

    def take(self, text: str) -> bool:
        """Queue a question under the next number; False when too many wait already."""
        self.asked += 1
        try:
            self.waiting.put_nowait((self.asked, text))
        except asyncio.QueueFull:
            return False
        return True


class Sockets:
    """
    `/ws?user=…`. A frame out is {"messages": [...]}, each with the number of the question it belongs to.

    Pieces wait a moment for company; the end of an answer, or an error, sends what waits at once.
    """

    def __init__(self, settings: Settings, vitals: Vitals, chat: Chat) -> None:
        self._chat = chat
        self._idle_seconds = settings.websocket_idle_seconds
        self._pool = vitals.pool("websocket", max_size=settings.websocket_max)
        self._outbox = vitals.batcher("outbox", self._flush, max_items=10, max_wait_seconds=0.1)
        self._max = settings.websocket_max
        self._open = 0

    def route(self) -> WebSocketRoute:
        return WebSocketRoute("/ws", self._serve)

    async def close(self) -> None:
        await self._outbox.close()

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
                    await self._send(socket, conversation.asked, error)
        except KeyError:
            # Starlette expects text.
            await socket.close(_NOT_TAKEN, "text frames only")
        except WebSocketDisconnect:
            log.debug("websocket: %s left", user)
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering

    async def _answer_all(self, conversation: _Conversation) -> None:
        socket = conversation.socket
        while True:
            conversation.busy = False
            number, text = await conversation.waiting.get()
            conversation.busy = True
            try:
                asked = question(parse_object(text) | {"user": conversation.user})
                async with aclosing(self._chat.stream(asked)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Piece):
                            await self._send(socket, number, {"type": "delta", **asdict(piece)}, priority="normal")
                        else:
                            await self._send(socket, number, {"type": "done", **asdict(piece)})
            except (BadInputError, BrokenOffError, UnavailableError, RefusedError) as error:
                await self._send(socket, number, {"type": "error", "error": str(error)})
            except Exception:
                # The next question may fare better; without this, nobody would answer on this connection any more.
                log.exception("websocket: question %d could not be answered", number)
                await self._send(socket, number, {"type": "error", "error": "something went wrong here"})

    async def _send(self, socket: WebSocket, number: int, message: dict[str, Any], *, priority: str = "high") -> None:
        await self._outbox.put(_Outgoing(socket, {"question": number, **message}), priority=priority)

    async def _flush(self, batch: list[_Outgoing]) -> None:
        by_socket: dict[int, list[_Outgoing]] = {}
        for outgoing in batch:
            by_socket.setdefault(id(outgoing.socket), []).append(outgoing)
        # Side by side: one reader that is slow must not hold up the others for longer than itself.
        await asyncio.gather(*(self._send_frame(group) for group in by_socket.values()))

    async def _send_frame(self, group: list[_Outgoing]) -> None:
        socket = group[0].socket
        if socket.client_state is not WebSocketState.CONNECTED:
            return
        try:
            async with asyncio.timeout(5):
                await socket.send_text(json.dumps({"messages": [outgoing.message for outgoing in group]}))
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError) as error:
            # It left while we wrote; its reader notices and cleans up.
            log.debug("websocket: a frame of %d messages went nowhere: %s", len(group), error)
