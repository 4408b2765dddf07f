"""The companion by voice: hears a question, answers it as the talker, and speaks the answer."""

from __future__ import annotations

import asyncio
import base64

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from companion import _speech
from companion._bodies import BadInputError, user_id
from companion._chat import Chat, Question
from companion._dials import Dials
from llmvitals import Vitals

__all__ = ["VoiceChat"]

_MOST_SOUND_BYTES = 256 * 1024


class VoiceChat:
    """
    `POST /v1/voice?user=…` with samples of 16 bits as the body: what was heard, the reply, and its sound.

    Hearing and speaking are two voices, each with its own reliability: where the model fails, neither is to blame.
    """

    def __init__(self, vitals: Vitals, dials: Dials, chat: Chat) -> None:
        self._dials = dials
        self._chat = chat
        self._recognition = vitals.voice("recognition", target=0.99)
        self._synthesis = vitals.voice("synthesis", target=0.99)

    def route(self) -> Route:
        return Route("/v1/voice", self._answer, methods=["POST"])

    async def _answer(self, request: Request) -> Response:
        user = user_id(request.query_params.get("user"))
        sound = bytearray()
        async for piece in request.stream():
            sound += piece
            if len(sound) > _MOST_SOUND_BYTES:
                raise BadInputError(413, f"the sound is larger than {_MOST_SOUND_BYTES} bytes")
        try:
            heard, clear = await self._hear(bytes(sound))
        except (_speech.SilenceError, _speech.NotUnderstoodError) as error:
            return JSONResponse({"error": str(error)}, 422)
        if not heard.strip():
            return JSONResponse({"error": "no words were said"}, 422)
        reply = await self._chat.reply(Question(user, heard, "talker"))
        spoken = await self._speak(reply.reply)
        return JSONResponse(
            {
                "heard": heard,
                "quality": round(clear, 4),
                "reply": reply.reply,
                "cached": reply.cached,
                "sound": base64.b64encode(spoken).decode(),
            }
        )

    async def _hear(self, sound: bytes) -> tuple[str, float]:
        with self._recognition.turn() as turn:
            try:
                heard, clear = await asyncio.to_thread(_speech.hear, sound, noise=self._dials.voice_noise)
            except _speech.SilenceError:
                turn.fail("no_audio")
                raise
            except _speech.NotUnderstoodError:
                turn.fail("not_understood")
                raise
            turn.quality(clear)
        return heard, clear

    async def _speak(self, text: str) -> bytes:
        with self._synthesis.turn() as turn:
            sound = await asyncio.to_thread(_speech.speak, text)
            # A companion listens to itself, to know whether others could understand it.
            said, clear = await asyncio.to_thread(_speech.hear, sound)
            if not text.startswith(said.rstrip("\N{REPLACEMENT CHARACTER}")):
                turn.fail("garbled")
            turn.quality(clear)
        return sound
