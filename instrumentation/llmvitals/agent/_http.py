import ipaddress
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from llmvitals.agent._failures import ControllerError, NeverError, RefusedError, UnauthorizedError
from llmvitals.agent._protocol import MAX_BODY_BYTES, Result, cut

log = logging.getLogger("llmvitals")

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
# They speak of the body, which will be the same the next time. A 404 speaks of what is there, and that may change.
_NEVER = frozenset({400, 410, 413, 415, 422})


class Controller:
    """The remediation service, as one thread of the agent talks to it. Not thread-safe but for `interrupt`.

    *token_file* is read for each request: a rotated token is taken up by itself. Raises ValueError for a URL that is
    not plain http or https.
    """

    def __init__(self, url: str, token_file: Path | str) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError(f"remediation URL {url!r} must be http://host:port or https://host:port, and nothing more")
        self.loopback = _is_loopback(parts.hostname)
        if parts.scheme == "http" and not self.loopback:
            log.warning("llmvitals: the agent's token travels unencrypted to %s; use https", parts.hostname)
        self._url = url.rstrip("/")
        self._token_file = Path(token_file)
        self._adapter = _InterruptibleAdapter()
        self._session = requests.Session()
        # A proxy of the environment must not see the token of a service on this machine.
        self._session.trust_env = not self.loopback
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)

    def poll(self, hello: Mapping[str, Any], *, wait_seconds: float) -> bytes:
        """The answer's body, unread. Raises `ControllerError`."""
        return self._post("/api/v1/agent/poll", hello, expected=200, answer_seconds=wait_seconds + ANSWER_SECONDS)

    def send(self, result: Result, *, agent_id: str, boot_id: str) -> None:
        """Returns when the service has acknowledged the result; raises `ControllerError` otherwise."""
        body = result.as_json(agent_id=agent_id, boot_id=boot_id)
        self._post("/api/v1/agent/results", body, expected=204, answer_seconds=ANSWER_SECONDS)

    def interrupt(self) -> None:
        """Let a request that waits in another thread fail now."""
        self._adapter.interrupt()

    def close(self) -> None:
        self._session.close()

    def _post(self, path: str, body: Mapping[str, Any], *, expected: int, answer_seconds: float) -> bytes:
        deadline = time.monotonic() + CONNECT_SECONDS + answer_seconds
        try:
            with self._session.post(
                self._url + path,
                data=json.dumps(body, allow_nan=False).encode(),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
                auth=_Bearer(self._token()),
                timeout=(CONNECT_SECONDS, answer_seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response, deadline)
        except requests.exceptions.ConnectionError as error:
            cause = _cause(error)
            kind = RefusedError if isinstance(cause, ConnectionRefusedError) else ControllerError
            raise kind(f"{self._url}{path}: {_told(cause)}") from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise ControllerError(f"{self._url}{path}: {_told(_cause(error))}") from error
        if response.status_code in (401, 403):
            raise UnauthorizedError(
                f"{self._url}{path} answered {response.status_code}: see the token in {self._token_file}"
            )
        if response.status_code != expected:
            kind = NeverError if response.status_code in _NEVER else ControllerError
            reason = f": {cut(content.decode(errors='replace'), 200)!r}" if content else ""
            raise kind(f"{self._url}{path} answered {response.status_code}, not {expected}{reason}")
        return content

    def _token(self) -> str:
        try:
            token = self._token_file.read_bytes().decode("ascii").strip()
        except (OSError, ValueError) as error:
            raise ControllerError(f"the agent's token cannot be read: {error}") from error
        if not token or not token.isprintable() or " " in token:
            raise ControllerError(f"{self._token_file} must hold the token and nothing else")
        return token


class _Bearer(AuthBase):
    """An auth of our own, because with none `requests` would take one from ~/.netrc and drop our header for it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _read(response: requests.Response, deadline: float) -> bytes:
    """The whole body, bounded in size and, against a peer that drips, in time."""
    content = bytearray()
    for chunk in response.iter_content(65_536):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise ControllerError(f"{response.url} answered more than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise ControllerError(f"{response.url} did not finish its answer in time")
    return bytes(content)


def _cause(error: BaseException) -> BaseException:
    """The innermost reason: `requests` wraps it in three layers of repr."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# --- a request that another thread can end ----------------------------------------------------------------------------


class _InterruptibleAdapter(HTTPAdapter):
    """Knows its open connections, so that closing the agent need not wait for the end of a long poll."""

    def __init__(self) -> None:
        self._open: WeakSet[HTTPConnection] = WeakSet()
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        opened = self._open

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                opened.add(self)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                opened.add(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def interrupt(self) -> None:
        for connection in list(self._open):
            socket = connection.sock
            if socket is None:
                continue
            try:
                socket.shutdown(2)
            except OSError:  # It ended by itself meanwhile.
                continue
