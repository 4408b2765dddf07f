"""The little of HTTP/1.1 that a scrape needs: one request's head, and which text format it asks for."""

from dataclasses import dataclass


class BadRequestError(ValueError):
    """The head cannot be understood; answer *status* and hang up."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    keep_alive: bool
    headers: dict[str, str]
    """By lower-case name; of a repeated header the values are joined by commas."""


def parse(head: bytes) -> Request:
    """Read a request's head, up to and without its empty line."""
    first, *rest = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
    except ValueError:
        raise BadRequestError("400 Bad Request", "the first line is not 'METHOD target HTTP/1.x'") from None
    if not version.startswith("HTTP/1."):
        raise BadRequestError("505 HTTP Version Not Supported", f"{version[:20]!r} is not HTTP/1.0 or HTTP/1.1")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise BadRequestError("400 Bad Request", "a header line is not 'Name: value'")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    connection = headers.get("connection", "").lower()
    # A body is never read, so what follows it could not be told from the next request.
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    keep_alive = not has_body and (connection == "keep-alive" if version == "HTTP/1.0" else connection != "close")
    return Request(method, target.partition("?")[0], keep_alive, headers)


def prefers_openmetrics(accept: str) -> bool:
    """Say whether an ``Accept`` header wants OpenMetrics 1.0 more than plain text."""
    openmetrics = plain = 0.0
    for media_range in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        settings = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        quality = _quality(settings.get("q", "1"))
        if kind == "application/openmetrics-text" and settings.get("version", "1.0.0").startswith("1."):
            openmetrics = max(openmetrics, quality)
        elif kind in ("text/plain", "text/*", "*/*"):
            plain = max(plain, quality)
    return openmetrics > 0 and openmetrics >= plain


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
