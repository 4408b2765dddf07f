"""Bearer tokens from files: compared in constant time, read again when the file changes."""

import hmac
import threading
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

MIN_TOKEN_LENGTH = 16


class TokenError(ValueError):
    """A token file that cannot be used; the text names the file and what to do, never the token."""


class TokenFile:
    """The valid tokens of one audience: each non-empty line is one.

    Two lines are two valid tokens, so a rotation loses no delivery: add the new one, change the senders, drop the old.
    A file that is missing or empty at this moment admits nobody, and says so with `TokenError`: that is a state to
    wait through (503), not a wrong token (401, which Alertmanager would not try again).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: tuple[bytes, ...] = ()

    def admits(self, token: str) -> bool:
        """Whether *token* is one of the file's, in a time that does not depend on how much of it is right."""
        given = token.encode()
        # Every candidate is compared: which one matched, and how many there are, stays unknown.
        return any([hmac.compare_digest(given, known) for known in self.tokens()])  # noqa: C419 -- no short circuit

    def tokens(self) -> tuple[bytes, ...]:
        """The tokens valid now; raises `TokenError` when there is none."""
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            with self._lock:
                if stamp != self._stamp:
                    self._tokens = _parse(self.path.read_text(encoding="utf-8"))
                    self._stamp = stamp
                tokens = self._tokens
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"cannot read the token file {self.path}: {error}") from error
        if not tokens:
            raise TokenError(
                f"the token file {self.path} holds no token of at least {MIN_TOKEN_LENGTH} characters; "
                f"write one on a line of its own"
            )
        return tokens


def require(headers: Headers, tokens: TokenFile) -> None:
    """Let the request pass, or raise 401 (no or wrong token) or 503 (the token file is unusable at this moment)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    try:
        admitted = scheme.lower() == "bearer" and tokens.admits(token.strip())
    except TokenError as error:
        raise HTTPException(503, str(error)) from error
    if not admitted:
        raise HTTPException(
            401, "a valid token is needed: Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"}
        )


def _parse(text: str) -> tuple[bytes, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line.encode() for line in lines if len(line) >= MIN_TOKEN_LENGTH)
