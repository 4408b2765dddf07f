"""What is answered to a request, whoever serves it: our own server, an ASGI host or a WSGI host."""

import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client.registry import Collector

from llmvitals.exposition._encode import OnError, encode, encode_openmetrics
from llmvitals.exposition._negotiation import prefers_gzip, prefers_openmetrics

log = logging.getLogger("llmvitals")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"

# Measured by bench/exposition.py: levels 2 and 3 send a little less and cost as much or more, from 4 on the time
# doubles. In one packet's worth of bytes there is nothing to save.
GZIP_LEVEL = 1
GZIP_FROM_BYTES = 1400
GZIP_FORMAT = 31  # zlib's way to say: a gzip header, and the largest window.


@dataclass(frozen=True, slots=True)
class Page:
    """What a page answers that is made for each request."""

    body: str

    kind: str = PLAIN
    """Its media type."""

    status: str = "200 OK"

    headers: Mapping[str, str] = field(default_factory=dict)


Pages = Mapping[str, str | Callable[[Mapping[str, str]], Page]]
"""By path: a fixed plain text, or what makes a `Page` of a request's headers (by lower-case name)."""

Select = Callable[[str, Mapping[str, str]], Collector | Page]
"""Makes of a request's query (what follows the ``?``) and its headers what is collected for it, or a refusal."""

Guard = Callable[[Mapping[str, str]], Page | None]
"""Says of a request's headers with which page it is refused; None lets it in."""


@dataclass(frozen=True, slots=True)
class Response:
    status: str
    """Such as ``200 OK``."""

    headers: dict[str, str]
    """All but ``Connection``."""

    body: bytes
    """Empty where the method is HEAD; the header of its length is the one that GET has."""


def plain(status: str, why: str) -> Response:
    """Say *why* there is nothing else to be had."""
    body = f"{why}\n".encode()
    return Response(status, {"Content-Type": PLAIN, "Content-Length": str(len(body))}, body)


@dataclass(frozen=True, slots=True)
class Site:
    """What there is to be asked for: ``/metrics`` of a registry, and some pages."""

    registry: Collector
    """Anything with a ``collect()``; what is exactly a CollectorRegistry is read faster than by that."""

    pages: Pages = field(default_factory=dict)

    on_error: OnError | None = None
    """Told of what could not be encoded."""

    select: Select | None = None
    """What of the registry a request gets; without it every request gets all."""

    guard: Guard | None = None
    """Who is answered; without it everybody is."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to every answer."""

    def respond(self, method: str, path: str, headers: Mapping[str, str], query: str = "") -> Response:
        """Answer a request with these *headers* (by lower-case name). Never raises."""
        try:
            status, body, answered = self._answer(method, path, headers, query)
            if len(body) >= GZIP_FROM_BYTES and prefers_gzip(headers.get("accept-encoding", "")):
                body = zlib.compress(body, GZIP_LEVEL, GZIP_FORMAT)
                answered["Content-Encoding"] = "gzip"
        except Exception as error:
            # Nothing of a scrape may reach the application: not its threading.excepthook, not its web framework.
            log.exception("llmvitals: a scrape failed")
            status, answered = "500 Internal Server Error", {"Content-Type": PLAIN}
            body = f"{type(error).__name__}; the log says more.\n".encode()
        answered |= {"Content-Length": str(len(body)), **self.headers}
        return Response(status, answered, b"" if method == "HEAD" else body)

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], query: str
    ) -> tuple[str, bytes, dict[str, str]]:
        refusal = self.guard(headers) if self.guard is not None else None
        if refusal is not None:
            return refusal.status, refusal.body.encode(), {"Content-Type": refusal.kind, **refusal.headers}
        page = self.pages.get(path)
        if page is None and path != "/metrics":
            return "404 Not Found", b"Metrics are at /metrics.\n", {"Content-Type": PLAIN}
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", b"Use GET.\n", {"Content-Type": PLAIN, "Allow": "GET, HEAD"}
        vary = {"Vary": "Accept, Accept-Encoding"}
        made: Collector | Page
        if page is not None:
            made = Page(page) if isinstance(page, str) else page(headers)
        else:
            made = self.registry if self.select is None else self.select(query, headers)
        if isinstance(made, Page):
            return (
                made.status,
                made.body.encode("utf-8", "replace"),
                {"Content-Type": made.kind, **vary, **made.headers},
            )
        if prefers_openmetrics(headers.get("accept", "")):
            kind, body = OPENMETRICS, encode_openmetrics(made, on_error=self.on_error)
        else:
            kind, body = TEXT, encode(made, on_error=self.on_error)
        return "200 OK", body, {"Content-Type": kind, **vary}
