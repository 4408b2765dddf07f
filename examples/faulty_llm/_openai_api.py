"""The OpenAI side: chat completions, plain and streamed, the models, and thin embeddings."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from faulty_llm._http import BadRequestError, EventStream, event, read_object, unless_gone
from faulty_llm._provider import Broken, Fault, Generation, Provider
from faulty_llm._text import count_tokens, vector

__all__ = ["failure", "fault", "routes"]

MAX_BODY_BYTES = 8 * 1024 * 1024
_ids = itertools.count(1)


def routes(provider: Provider) -> list[Route]:
    async def chat(request: Request) -> Response:
        return await _chat(provider, request)

    async def models(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        data = [{"id": model, "object": "model", "created": 0, "owned_by": provider.name} for model in provider.loaded]
        return JSONResponse({"object": "list", "data": data})

    async def embeddings(request: Request) -> Response:
        return await _embeddings(provider, request)

    return [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
    ]


def failure(status: int, message: str, *, param: str | None = None, retry_after: float | None = None) -> Response:
    """An error as OpenAI words it."""
    kind = {429: "rate_limit_error"}.get(status, "invalid_request_error" if status < 500 else "server_error")
    headers = None if retry_after is None else {"retry-after": f"{retry_after:g}"}
    error = {"message": message, "type": kind, "param": param, "code": None}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def fault(asked: Fault) -> Response:
    retry_after = asked.retry_after_seconds if asked.status in {429, 503} else None
    return failure(asked.status, f"The dials of faulty_llm ask for status {asked.status}.", retry_after=retry_after)


async def _chat(provider: Provider, request: Request) -> Response:
    body = await read_object(request, limit=MAX_BODY_BYTES)
    model = _model(provider, body)
    prompt = _prompt(body)
    _fitting(provider, model, prompt)
    max_tokens = _max_tokens(body)
    stream = _flag(body, "stream")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise BadRequestError("'stream_options' must be an object", param="stream_options")
    with ExitStack() as held:
        attempt = _attempt(request)
        generation = held.enter_context(
            provider.serving(model, prompt, max_tokens=max_tokens, stream=stream, attempt=attempt)
        )
        await unless_gone(request, provider.admit(model))
        limits = provider.quota_headers(model)
        if stream:
            chunks = _chunks(generation, usage=_flag(options, "include_usage"))
            response: Response = EventStream(chunks, held.pop_all())
        else:
            response = await unless_gone(request, _whole(generation))
        response.headers.update(limits)
        return response


async def _whole(generation: Generation) -> Response:
    content: list[str] = []
    broken = None
    async for token in generation.tokens():
        if isinstance(token, Broken):
            broken = token
        else:
            content.append(token)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(content)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": generation.finish_reason}
    answer = {**_envelope(generation, "chat.completion"), "choices": [choice], "usage": _usage(generation)}
    if generation.hides_usage():
        del answer["usage"]
    elif broken is not Broken.CUT:
        generation.served.told(generation.input_tokens, generation.sent)
    if broken is Broken.CUT:
        return Response(json.dumps(answer)[:-20], media_type="application/json")
    if broken is Broken.NO_CHOICES:
        answer["choices"] = []
    if broken is Broken.NULL_CONTENT:
        message["content"] = None
    return JSONResponse(answer)


async def _chunks(generation: Generation, *, usage: bool) -> AsyncGenerator[str, None]:
    envelope = _envelope(generation, "chat.completion.chunk")
    if usage:
        envelope["usage"] = None

    def sent(data: object) -> str:
        generation.served.chunks += 1
        return event(data)

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sent({**envelope, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    async for token in generation.tokens():
        if token is Broken.CUT:
            yield sent('{"id":"chatcmpl-cut","object":"chat.completion.chunk","choi')
        elif token is Broken.NO_CHOICES:
            yield sent({**envelope, "choices": []})
        elif token is Broken.NULL_CONTENT:
            yield chunk({"content": None})
        else:
            yield chunk({"content": token})
    yield chunk({}, generation.finish_reason)
    if usage and not generation.hides_usage():
        generation.served.told(generation.input_tokens, generation.sent)
        yield sent({**envelope, "choices": [], "usage": _usage(generation)})
    yield event("[DONE]")


async def _embeddings(provider: Provider, request: Request) -> Response:
    body = await read_object(request, limit=MAX_BODY_BYTES)
    model = _model(provider, body)
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequestError("'input' must be a text or a non-empty list of texts", param="input")
    with provider.serving(model, "\n".join(texts), max_tokens=0, stream=False, attempt=_attempt(request)) as generation:
        await unless_gone(request, provider.admit(model))
        generation.outcome = "completed"
        data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]
        tokens = sum(count_tokens(text) for text in texts)
        generation.served.told(tokens, 0)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": model, "usage": usage})


def _attempt(request: Request) -> str:
    """Which retry this is, as OpenAI's SDK says."""
    return request.headers.get("x-stainless-retry-count", "0")[:3]


def _envelope(generation: Generation, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{next(_ids)}",
        "object": kind,
        "created": int(time.time()),
        "model": generation.model,
    }


def _usage(generation: Generation) -> dict[str, int]:
    return {
        "prompt_tokens": generation.input_tokens,
        "completion_tokens": generation.sent,
        "total_tokens": generation.input_tokens + generation.sent,
    }


def _model(provider: Provider, body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str):
        raise BadRequestError("'model' must be a text", param="model")
    if model not in provider.loaded:
        known = ", ".join(provider.loaded)
        raise BadRequestError(f"The model {model[:80]!r} does not exist, there are {known}.", status=404, param="model")
    return model


def _fitting(provider: Provider, model: str, prompt: str) -> None:
    """Raises BadRequestError for a prompt that is longer than the model's context."""
    most, told = provider.dials.for_model(model).context_tokens, count_tokens(prompt)
    if told > most:
        message = f"This model's maximum context length is {most} tokens, and the messages have {told}."
        raise BadRequestError(message, param="messages")


def _prompt(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("'messages' must be a non-empty list", param="messages")
    texts: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequestError(f"'{where}' must be an object with a role", param=where)
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts.extend(str(part.get("text", "")) for part in content if isinstance(part, dict))
        elif content is not None:
            raise BadRequestError(f"'{where}.content' must be a text, a list of parts or null", param=where)
    return "\n".join(texts)


def _max_tokens(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadRequestError(f"'{name}' must be a whole number of at least 1", param=name)
        return value
    return None


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequestError(f"'{name}' must be true or false", param=name)
    return bool(value)
