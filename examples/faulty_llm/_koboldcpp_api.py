"""The KoboldCpp side: generate, plain and streamed, and the endpoints that tell of the server."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from faulty_llm._http import BadRequestError, EventStream, event, read_object, unless_gone
from faulty_llm._provider import Broken, Generation, Provider

__all__ = ["routes"]

MAX_BODY_BYTES = 8 * 1024 * 1024


def routes(provider: Provider) -> list[Route]:
    # A KoboldCpp server has one model loaded: ours is the provider's first.
    model = provider.models[0]

    async def generate(request: Request) -> Response:
        prompt, max_length = await _read(request)
        with provider.serving(model, prompt, max_tokens=max_length, stream=False) as generation:
            await unless_gone(request, provider.admit(model))
            return await unless_gone(request, _whole(generation))

    async def stream(request: Request) -> Response:
        prompt, max_length = await _read(request)
        with ExitStack() as held:
            generation = held.enter_context(provider.serving(model, prompt, max_tokens=max_length, stream=True))
            await unless_gone(request, provider.admit(model))
            return EventStream(_events(generation), held.pop_all())

    async def perf(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse(_perf(provider))

    async def loaded(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse({"result": f"koboldcpp/{model}"})

    async def version(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse({"result": "KoboldCpp", "version": "1.96"})

    return [
        Route("/api/v1/generate", generate, methods=["POST"]),
        Route("/api/extra/generate/stream", stream, methods=["POST"]),
        Route("/api/extra/perf", perf, methods=["GET"]),
        Route("/api/v1/model", loaded, methods=["GET"]),
        Route("/api/extra/version", version, methods=["GET"]),
    ]


async def _read(request: Request) -> tuple[str, int]:
    body = await read_object(request, limit=MAX_BODY_BYTES)
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise BadRequestError("'prompt' must be a text", param="prompt")
    length = body.get("max_length", 100)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise BadRequestError("'max_length' must be a whole number of at least 1", param="max_length")
    return prompt, length


async def _whole(generation: Generation) -> Response:
    text: list[str] = []
    broken = False
    async for token in generation.tokens():
        if isinstance(token, Broken):
            broken = True
        else:
            text.append(token)
    if broken:
        return Response('{"results": [{"text": "', media_type="application/json")
    result = {
        "text": "".join(text),
        "finish_reason": generation.finish_reason,
        "prompt_tokens": generation.input_tokens,
        "completion_tokens": generation.sent,
    }
    return JSONResponse({"results": [result]})


async def _events(generation: Generation) -> AsyncGenerator[str, None]:
    async for token in generation.tokens():
        if isinstance(token, Broken):
            yield event('{"token": "', name="message")
        else:
            yield event({"token": token, "finish_reason": None}, name="message")
    yield event({"token": "", "finish_reason": generation.finish_reason}, name="message")


def _perf(provider: Provider) -> dict[str, Any]:
    """Figures of the last generation, and of the server since its start, under KoboldCpp's names."""
    ledger = provider.ledger
    now = time.monotonic()

    def speed(tokens: int, seconds: float) -> float:
        return round(tokens / seconds, 2) if seconds > 0 else 0.0

    return {
        "last_process": round(ledger.last_process_seconds / max(1, ledger.last_input_tokens), 6),
        "last_eval": round(ledger.last_generation_seconds / max(1, ledger.last_output_tokens), 6),
        "last_token_count": ledger.last_output_tokens,
        "last_input_count": ledger.last_input_tokens,
        "last_process_time": round(ledger.last_process_seconds, 6),
        "last_eval_time": round(ledger.last_generation_seconds, 6),
        "last_process_speed": speed(ledger.last_input_tokens, ledger.last_process_seconds),
        "last_eval_speed": speed(ledger.last_output_tokens, ledger.last_generation_seconds),
        "last_draft_success": 0,
        "last_draft_failed": 0,
        "last_seed": provider.seed,
        "total_gens": ledger.generations,
        "total_img_gens": 0,
        "total_tts_gens": 0,
        "total_transcribe_gens": 0,
        "stop_reason": 0 if ledger.generations else -1,
        # One generation runs, the others wait: KoboldCpp's queue counts both.
        "queue": ledger.in_flight,
        "idle": int(ledger.in_flight == 0),
        "hordeexitcounter": -1,
        "uptime": round(now - ledger.started, 3),
        "idletime": round(now - ledger.last_served, 3) if ledger.in_flight == 0 else 0.0,
        "quiet": True,
    }
