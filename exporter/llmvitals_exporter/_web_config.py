"""TLS, client certificates and passwords, from the file format of Prometheus' own exporters.

See https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What that format has and
Python's TLS cannot do (cipher suites' order, curves) is refused, not ignored.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmvitals_exporter._sources import read

_CLIENT_AUTH = ("NoClientCert", "RequestClientCert", "RequireAnyClientCert")
_CLIENT_AUTH_VERIFIED = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_VERSIONS = ("TLS12", "TLS13")
#: As exporter-toolkit's: only these, so that a typing error cannot look like protection.
_HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")


class WebConfigError(ValueError):
    """The file cannot be used.

    Args:
        problems: Each a sentence that says where.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The section ``tls_server_config``; paths are relative to the file."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a web configuration file asks for."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names and bcrypt hashes; empty lets everybody in."""


def load(path: Path) -> WebConfig:
    """Read *path*. Raises `WebConfigError` with everything that is wrong in it; no hash is ever repeated."""
    document = _document(path)
    mistakes: list[str] = []
    reader = _Reader(path.parent, mistakes)
    sections = reader.section(document, "", ("tls_server_config", "http_server_config", "basic_auth_users"))
    tls = reader.tls(sections.get("tls_server_config"))
    headers = reader.headers(sections.get("http_server_config"))
    users = reader.users(sections.get("basic_auth_users"))
    if mistakes:
        raise WebConfigError([f"{path}: {mistake}" for mistake in mistakes])
    return WebConfig(tls, headers, users)


def unreadable(web: WebConfig) -> Iterator[str]:
    """The files that *web* names and that cannot be read now, each in a sentence."""
    tls = web.tls
    for path in () if tls is None else (tls.cert_file, tls.key_file, tls.client_ca_file):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:
                yield f"{path}: cannot be read: {error.strerror}"


def _document(path: Path) -> Any:
    import yaml  # noqa: PLC0415 -- 15 ms that only a file need cost

    try:
        content = read(path)
    except ValueError as error:
        raise WebConfigError([f"{path}: {error}"]) from error
    try:
        return yaml.load(content, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # The text around the mistake may hold a hash.
        mark = getattr(error, "problem_mark", None)
        line = f" on line {mark.line + 1}" if mark else ""
        raise WebConfigError([f"{path}: is not YAML{line}"]) from None


class _Reader:
    """Reads the sections, and notes what is wrong with them."""

    def __init__(self, folder: Path, mistakes: list[str]) -> None:
        self._folder = folder
        self._mistakes = mistakes

    def section(self, value: Any, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._mistakes.append(f"{where or 'the file'} is not a mapping")
            return {}
        for key in value:
            if key not in known:
                self._mistakes.append(f"{where}{'.' if where else ''}{key!s:.60} is not supported")
        return {key: value[key] for key in known if key in value}

    def tls(self, value: Any) -> TlsConfig | None:
        where = "tls_server_config"
        known = (
            "cert_file",
            "key_file",
            "client_auth_type",
            "client_ca_file",
            "client_allowed_sans",
            "min_version",
            "max_version",
        )
        found = self.section(value, where, known)
        if not found:
            return None
        cert, key = self._path(found, "cert_file"), self._path(found, "key_file")
        authority = self._path(found, "client_ca_file", needed=False)
        auth: Any = found.get("client_auth_type") or "NoClientCert"
        names = self._texts(found.get("client_allowed_sans"), f"{where}.client_allowed_sans")
        least, most = found.get("min_version", "TLS12"), found.get("max_version", "TLS13")
        self._mistakes += [f"{where}.{mistake}" for mistake in _who_comes_in(auth, authority, names)]
        self._mistakes += [f"{where}.{mistake}" for mistake in _which_versions(least, most)]
        if cert is None or key is None:
            return None
        return TlsConfig(cert, key, authority, auth, names, least, most)

    def headers(self, value: Any) -> Mapping[str, str]:
        where = "http_server_config"
        found = self.section(value, where, ("headers", "http2"))
        # HTTP/2 is an offer that no client needs; we speak HTTP/1.1 either way.
        headers = self.section(found.get("headers"), f"{where}.headers", _HEADERS)
        return {name: text for name, text in headers.items() if self._is_text(text, f"{where}.headers.{name}")}

    def users(self, value: Any) -> Mapping[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not value:
            self._mistakes.append("basic_auth_users is not a mapping of names to bcrypt hashes")
            return {}
        for name, hashed in value.items():
            if not isinstance(name, str) or not name or ":" in name or not name.isprintable():
                self._mistakes.append(f"basic_auth_users has a name that cannot be one: {name!r:.60}")
            if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
                self._mistakes.append(
                    f"basic_auth_users.{name!s:.60} has no bcrypt hash; make one with htpasswd -nBC 10"
                )
        return dict(value)

    def _path(self, found: Mapping[str, Any], key: str, *, needed: bool = True) -> Path | None:
        text = found.get(key)
        if text is None or text == "":
            if needed:
                self._mistakes.append(f"tls_server_config.{key} is missing")
            return None
        if not self._is_text(text, f"tls_server_config.{key}"):
            return None
        return self._folder / str(text)

    def _texts(self, value: Any, where: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self._mistakes.append(f"{where} is not a list")
            return ()
        return tuple(text for text in value if self._is_text(text, where))

    def _is_text(self, value: Any, where: str) -> bool:
        good = isinstance(value, str) and bool(value) and value.isprintable() and value.isascii()
        if not good:
            self._mistakes.append(f"{where} is not a text of one line")
        return good


def _who_comes_in(auth: Any, authority: Path | None, names: tuple[str, ...]) -> Iterator[str]:
    if auth not in (*_CLIENT_AUTH, *_CLIENT_AUTH_VERIFIED):
        yield f"client_auth_type is none of {', '.join((*_CLIENT_AUTH, *_CLIENT_AUTH_VERIFIED))}"
    elif auth in ("RequestClientCert", "RequireAnyClientCert"):
        yield f"client_auth_type {auth} would trust any certificate; verify it"
    elif auth in _CLIENT_AUTH_VERIFIED and authority is None:
        # Without one, Python would trust every authority of the system.
        yield f"client_ca_file is needed by client_auth_type {auth}"
    elif auth == "NoClientCert" and (authority is not None or names):
        yield "client_auth_type is needed: without it no client's certificate is asked for"
    if names and auth == "VerifyClientCertIfGiven":
        yield "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert"


def _which_versions(least: Any, most: Any) -> Iterator[str]:
    for name, version in (("min_version", least), ("max_version", most)):
        if version not in _VERSIONS:
            yield f"{name} is none of {', '.join(_VERSIONS)}"
    if (least, most) == ("TLS13", "TLS12"):
        yield "min_version is above max_version"
