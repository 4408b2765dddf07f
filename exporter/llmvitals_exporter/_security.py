"""A web configuration at work: TLS whose certificates follow their files, and passwords."""

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmvitals.exposition import Page
from llmvitals_exporter._web_config import TlsConfig, WebConfigError

_log = logging.getLogger("llmvitals_exporter")

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class Tls:
    """The server's side of TLS. Its files are read anew when they change; a bad new one leaves the old one at work.

    Raises:
        WebConfigError: When the files cannot be used now, at the start.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._context = self._load()

    def wrap(self, client: socket.socket) -> ssl.SSLSocket:
        return self._current().wrap_socket(client, server_side=True, do_handshake_on_connect=False)

    def check(self, client: ssl.SSLSocket) -> None:
        allowed = self._config.client_allowed_sans
        if not allowed:
            return
        # Typeshed knows no more than that a certificate has texts, and tuples of them.
        certificate: Mapping[str, Any] = client.getpeercert() or {}
        names = {value for _, value in certificate.get("subjectAltName", ())}
        if names.isdisjoint(allowed):
            raise PermissionError("none of the client certificate's names is in client_allowed_sans")

    def _current(self) -> ssl.SSLContext:
        """The context of the files as they are now. Three looks at them cost 5 µs, a handshake a thousand."""
        stamps = self._stamps()
        with self._lock:
            if stamps != self._seen:
                self._seen = stamps
                try:
                    self._context = self._load()
                    _log.info("the TLS certificate was read anew")
                except WebConfigError as error:
                    _log.error("the changed TLS files cannot be used, the old ones stay in force: %s", error)
            return self._context

    def _stamps(self) -> tuple[object, ...]:
        config = self._config
        return tuple(_stamp(path) for path in (config.cert_file, config.key_file, config.client_ca_file) if path)

    def _load(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[config.min_version]
        context.maximum_version = _VERSIONS[config.max_version]
        context.verify_mode = _VERIFY[config.client_auth_type]
        try:
            # The empty password keeps OpenSSL from asking for one at the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password="")
        except (OSError, ValueError) as error:
            raise WebConfigError([f"{config.cert_file} and {config.key_file} are no usable pair: {error}"]) from error
        if config.client_ca_file is not None:
            try:
                context.load_verify_locations(config.client_ca_file)
            except (OSError, ValueError) as error:
                raise WebConfigError([f"{config.client_ca_file} has no usable certificate: {error}"]) from error
        return context


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Passwords:
    """Lets in who knows the password of one of *users*, given as bcrypt hashes.

    A comparison takes bcrypt its tenth of a second, one at a time, so what has been right once is remembered, as a
    keyed digest. An unknown name costs as much as a known one; who gives no name or password at all is not compared.
    """

    #: Of nobody's password: what unknown names are compared with.
    _NOBODY = "$2b$10$" + "." * 53
    _REMEMBERED = 64

    def __init__(self, users: Mapping[str, str]) -> None:
        import bcrypt  # noqa: PLC0415 -- only who has passwords needs it

        self._check = bcrypt.checkpw
        self._users = users
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._line = NewestFirst()

    def __call__(self, headers: Mapping[str, str]) -> Page | None:
        """The refusal, or None. Made for the server's guard."""
        given = _credentials(headers.get("authorization", ""))
        try:
            if given is not None and self._knows(*given):
                return None
        except TooManyError:
            return Page("Too many passwords are being compared; ask again.\n", status="503 Service Unavailable")
        asked = {"WWW-Authenticate": 'Basic realm="llmvitals-exporter", charset="UTF-8"'}
        return Page("Unauthorized\n", status="401 Unauthorized", headers=asked)

    def _knows(self, name: str, password: bytes) -> bool:
        hashed = self._users.get(name)
        digest = hmac.digest(self._key, name.encode() + b"\0" + password, hashlib.sha256)
        if digest in self._right:
            return True
        with self._line:
            # bcrypt takes 72 bytes and no NUL.
            matches = self._check(password[:72].replace(b"\0", b""), (hashed or self._NOBODY).encode())
        if hashed is None or not matches or b"\0" in password or len(password) > 72:
            return False
        if len(self._right) >= self._REMEMBERED:
            self._right.clear()
        self._right.add(digest)
        return True


class TooManyError(Exception):
    """Too many came after this one."""


class NewestFirst:
    """A lock that the newest of those who wait gets next; when many wait, the oldest of them is sent away.

    So whoever guesses passwords, many at once, holds up one who knows his for one comparison instead of for all of
    them, and takes few of the server's connections.
    """

    _WAITING = 8

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[object] = []
        self._held = False

    def __enter__(self) -> None:
        """Raises `TooManyError` for who was sent away."""
        me = object()
        with self._changed:
            self._waiting.append(me)
            if len(self._waiting) > self._WAITING:
                del self._waiting[0]
                self._changed.notify_all()
            self._changed.wait_for(lambda: me not in self._waiting or (not self._held and self._waiting[-1] is me))
            if me not in self._waiting:
                raise TooManyError
            self._waiting.remove(me)
            self._held = True

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()


def _credentials(header: str) -> tuple[str, bytes] | None:
    """Name and password, or None where the header has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, ValueError):
        return None
