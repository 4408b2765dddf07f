"""Requests that a WSGI application answers, by their route's template."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llmvitals._current import current
from llmvitals._vitals import Vitals
from llmvitals.integrations._asgi import Exchange

Environ = dict[str, Any]


class WSGIMiddleware:
    """Goes around a WSGI application of any framework; recorded to *vitals*, or to what `llmvitals.start` made last.

    *route* gives a request's template from its environment, once it is answered. By default it knows what Flask and
    Bottle leave there, and is empty otherwise: a raw path is never a label.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        vitals: Vitals | None = None,
        *,
        route: Callable[[Environ], str] | None = None,
    ) -> None:
        self.app = app
        self._vitals = vitals
        self._route = route or _route

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        vitals = self._vitals or current()
        if vitals is None:
            return self.app(environ, start_response)
        exchange = Exchange(vitals.recorder, environ.get("REQUEST_METHOD", ""), environ.get("wsgi.url_scheme", ""))

        def end(error: BaseException | None = None) -> None:
            if exchange.ended:
                return
            route = ""
            with vitals.recorder.guard("wsgi"):
                route = self._route(environ)
            exchange.end(route, error)

        def watched_start(status: str, *args: Any, **kwargs: Any) -> Any:
            with vitals.recorder.guard("wsgi"):
                exchange.status = int(status[:3])
            return start_response(status, *args, **kwargs)

        try:
            body = self.app(environ, watched_start)
        except BaseException as error:
            end(error)
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            # The server sends the file by itself only if it gets this very object.
            end()
            return body
        return _Body(body, end)


class _Body:
    """The answer's body, whose end is the request's."""

    def __init__(self, body: Iterable[bytes], end: Callable[..., None]) -> None:
        self._body = body
        self._parts = iter(body)
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise

    def __len__(self) -> int:
        # A server that sees one part can tell the length. TypeError, as of the body itself, when it has none.
        return len(self._body)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        # Else it would be asked for a length that a generator does not have.
        return True

    def close(self) -> None:
        """Called by the server, whatever has happened."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._end()


def _route(environ: Environ) -> str:
    flask = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    return flask or getattr(environ.get("bottle.route"), "rule", None) or ""
