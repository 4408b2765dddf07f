"""The little of HTTP/1.1 that a scrape needs: one request's head."""

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
    query: str
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
    path, _, query = target.partition("?")
    return Request(method, path, query, keep_alive, headers)
