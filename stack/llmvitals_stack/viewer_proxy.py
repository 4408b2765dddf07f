"""
The viewer's read-only way to Prometheus.

It is narrow: the query endpoints by name, a bound on what is sent and on what comes back, and a time limit. Who leaves
takes the question along: the connection to Prometheus is closed, and Prometheus stops working on it.
"""

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmvitals_stack.viewer_metrics import Metrics

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_FORM = "application/x-www-form-urlencoded"
# What a proxy says to a log when the client left; nobody reads the answer.
_LEFT = 499


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one question to Prometheus, and of all at one time."""

    request_bytes: int = 64 * 1024
    response_bytes: int = 32 * 1024 * 1024
    seconds: float = 30.0
    # Together with the bytes of an answer: how much memory the answers may take.
    at_once: int = 8


class _RefusedError(RuntimeError):
    """A question that Prometheus is not asked; the text is for the person at the page."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class _FailedError(RuntimeError):
    """Prometheus gave no answer that can be passed on; the text is for the person at the page."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result


class Proxy:
    """The way from the page to Prometheus."""

    def __init__(self, url: str, limits: Limits, metrics: Metrics) -> None:
        self._url = url.rstrip("/")
        self._limits = limits
        self._metrics = metrics
        self._turns = asyncio.Semaphore(limits.at_once)
        self._client = httpx2.AsyncClient(
            # A proxy of the environment is for other hosts.
            trust_env=False,
            follow_redirects=False,
            # The whole question has a limit of its own.
            timeout=httpx2.Timeout(None, connect=min(5.0, limits.seconds)),
            # A connection for each question: to close it is how Prometheus is told that nobody waits.
            limits=httpx2.Limits(max_keepalive_connections=0),
            # Uncompressed, what is read is what is counted: a few bytes cannot become gigabytes.
            headers={"Accept-Encoding": "identity"},
        )

    def routes(self) -> list[Route]:
        asked = ["GET", "POST"]
        return [
            *(
                Route(f"/api/v1/{path}", self.answer, methods=asked)
                for path in ("query", "query_range", "series", "labels")
            ),
            Route("/api/v1/label/{label}/values", self.answer, methods=["GET"]),
            Route("/api/v1/{path:path}", self.no_such_path, methods=asked),
        ]

    async def no_such_path(self, _: Request) -> Response:
        self._metrics.refused.labels("path").inc()
        return error(404, "Prometheus is not asked for that from here.")

    async def answer(self, request: Request) -> Response:
        try:
            form = await self._question(request)
        except _RefusedError as e:
            self._metrics.refused.labels(e.reason).inc()
            return error(e.status, str(e))
        with self._metrics.duration.time(), self._metrics.asking.track_inprogress():
            try:
                answer = await _unless_left(request, self._ask(request, form))
            except _FailedError as e:
                self._metrics.queries.labels(e.result).inc()
                return error(502, str(e))
        if answer is None:
            self._metrics.queries.labels("aborted").inc()
            return Response(status_code=_LEFT)
        self._metrics.queries.labels("answered" if answer.status_code < 300 else "error").inc()
        return answer

    async def _question(self, request: Request) -> bytes:
        """The body of a question that may be asked."""
        # Browsers say whose page it is that asks; a tool says nothing.
        if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
            raise _RefusedError(403, "site", "Only the viewer's own page may ask.")
        label = request.path_params.get("label")
        if label is not None and not _LABEL.fullmatch(label):
            raise _RefusedError(400, "path", f"{label!r} is no name of a label.")
        most = self._limits.request_bytes
        too_large = _RefusedError(413, "size", f"The question is larger than {most} bytes.")
        if len(request.url.query) > most:
            raise too_large
        body = b""
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            text = f"The question took longer than {self._limits.seconds:g} s."
            raise _RefusedError(408, "time", text) from None
        return body

    async def _ask(self, request: Request, form: bytes) -> Response:
        seconds = self._limits.seconds
        try:
            async with self._turns, asyncio.timeout(seconds):
                return await self._passed_on(request, form)
        except TimeoutError:
            raise _FailedError("timeout", f"Prometheus took longer than {seconds:g} s.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            text = f"Prometheus at {self._url} does not answer. Is it running?"
            raise _FailedError("unreachable", text) from e

    async def _passed_on(self, request: Request, form: bytes) -> Response:
        query = request.url.query
        url = f"{self._url}{request.url.path}" + (f"?{query}" if query else "")
        posted = request.method == "POST"
        parts: list[bytes] = []
        size, most = 0, self._limits.response_bytes
        async with self._client.stream(
            request.method,
            url,
            content=form if posted else None,
            headers={"Content-Type": _FORM} if posted else None,
        ) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise _FailedError("error", "The answer is compressed, which was not asked for.")
            async for part in response.aiter_raw():
                size += len(part)
                if size > most:
                    text = f"The answer is over {most} bytes: choose a shorter time or fewer series."
                    raise _FailedError("too_large", text)
                parts.append(part)
            return Response(b"".join(parts), response.status_code, media_type="application/json")


async def _unless_left(request: Request, asking: Coroutine[None, None, Response]) -> Response | None:
    """What *asking* gives; None when the browser hung up first, and then nothing is asked any more."""
    answer = asyncio.ensure_future(asking)
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        for task in (answer, left):
            task.cancel()
        await asyncio.gather(answer, left, return_exceptions=True)


async def _left(request: Request) -> None:
    """Return when the client is gone. The body was read before, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def error(status: int, text: str) -> Response:
    """An error in the shape of Prometheus' own, so that the page has one way to read it."""
    return JSONResponse({"status": "error", "errorType": "viewer", "error": text}, status)
