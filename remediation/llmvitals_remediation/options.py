"""The flags of `serve`, checked all together: whoever mends one mistake should not then learn of the next."""

import argparse
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from llmvitals_remediation.policy import PolicyError, load
from llmvitals_remediation.web.runbooks import Runbooks
from llmvitals_remediation.web.tokens import TokenError, TokenFile

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_LEVELS = ("debug", "info", "warning", "error")


class OptionsError(ValueError):
    """Flags that cannot be followed; the text has every mistake, one a line."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''}"
        super().__init__("\n".join([f"llmvitals-remediation serve: {count}", *(f"  {text}" for text in mistakes)]))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Options:
    host: str
    port: int
    database: Path
    policy: Path
    prometheus_url: str
    alertmanager_url: str
    ingest_token_file: Path
    admin_token_file: Path
    agent_token_file: Path
    supervisor_url: str | None
    runbooks: Path | None
    dashboards_url: str | None
    allowed_hosts: tuple[str, ...]
    log_level: str


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Everything is text here: `read_options` checks, so that it can tell all mistakes at once."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default="9466", help="port to listen on (default: %(default)s)")
    parser.add_argument("--database", metavar="FILE", help="SQLite file; made when it is not there")
    parser.add_argument("--policy", metavar="FILE", help="the policy, YAML; read again when it changes")
    parser.add_argument("--prometheus-url", metavar="URL", help="where verification asks")
    parser.add_argument("--alertmanager-url", metavar="URL", help="where firing alerts and silences are read")
    parser.add_argument("--ingest-token-file", metavar="FILE", help="tokens of Alertmanager, one a line")
    parser.add_argument("--admin-token-file", metavar="FILE", help="tokens of people and scripts, one a line")
    parser.add_argument("--agent-token-file", metavar="FILE", help="tokens of applications, one a line")
    parser.add_argument("--supervisor-url", metavar="URL", help="supervisor's socket, unix:///path/to/its.sock")
    parser.add_argument("--runbooks", metavar="FOLDER", help="runbooks to show, <AlertName>.md each; read at the start")
    parser.add_argument("--dashboards-url", metavar="URL", help="where a person's browser finds the dashboards")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which this service may be called, besides localhost and bare addresses; may be repeated",
    )
    parser.add_argument("--log-level", default="info", metavar="LEVEL", help=f"{', '.join(_LEVELS)} (default: info)")


def read_options(told: argparse.Namespace, unknown: Sequence[str]) -> Options:
    """The flags as `Options`; raises `OptionsError` with every mistake."""
    mistakes = [f"{text}: there is no such flag" for text in unknown if text.startswith("-")]
    mistakes += [f"{text!r}: what is this? serve takes flags only" for text in unknown if not text.startswith("-")]
    checks = _Checks(mistakes)
    options = Options(
        host=checks.address(told.host),
        port=checks.port(told.port),
        database=checks.database(told.database),
        policy=checks.policy(told.policy),
        prometheus_url=checks.url("--prometheus-url", told.prometheus_url),
        alertmanager_url=checks.url("--alertmanager-url", told.alertmanager_url),
        ingest_token_file=checks.token_file("--ingest-token-file", told.ingest_token_file),
        admin_token_file=checks.token_file("--admin-token-file", told.admin_token_file),
        agent_token_file=checks.token_file("--agent-token-file", told.agent_token_file),
        supervisor_url=checks.supervisor(told.supervisor_url),
        runbooks=checks.runbooks(told.runbooks),
        dashboards_url=checks.url("--dashboards-url", told.dashboards_url) if told.dashboards_url else None,
        allowed_hosts=checks.hosts(told.allowed_host),
        log_level=checks.level(told.log_level),
    )
    checks.audiences(options)
    if mistakes:
        raise OptionsError(mistakes)
    return options


class _Checks:
    """Each returns a value that can be used, or notes the mistake and returns a stand-in."""

    def __init__(self, mistakes: list[str]) -> None:
        self._mistakes = mistakes

    def address(self, text: str) -> str:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            self._mistakes.append(f"--host {text}: must be an IP address, such as 127.0.0.1")
        return text

    def port(self, text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65_535:
            return int(text)
        self._mistakes.append(f"--port {text}: must be a number from 1 to 65535")
        return 0

    def database(self, text: str | None) -> Path:
        path = self._needed("--database", text)
        if text and path.is_dir():
            self._mistakes.append(f"--database {text}: is a folder; name a file in it")
        return path

    def policy(self, text: str | None) -> Path:
        path = self._needed("--policy", text)
        if text:
            try:
                load(path)
            except PolicyError as error:
                self._mistakes += [f"--policy {line.strip()}" for line in str(error).splitlines()]
        return path

    def url(self, flag: str, text: str | None) -> str:
        if not text:
            self._mistakes.append(f"{flag}: is needed")
            return ""
        if (problem := _url_problem(text, ("http", "https"))) is not None:
            self._mistakes.append(f"{flag} {text}: {problem}, such as http://127.0.0.1:9090")
        return text.rstrip("/")

    def supervisor(self, text: str | None) -> str | None:
        if text is not None and re.fullmatch(r"unix:///[^?#]+", text) is None:
            self._mistakes.append(f"--supervisor-url {text}: must be unix:///path/to/supervisor.sock")
        return text

    def token_file(self, flag: str, text: str | None) -> Path:
        path = self._needed(flag, text)
        if text:
            try:
                TokenFile(path).tokens()
            except TokenError as error:
                self._mistakes.append(f"{flag}: {error}")
        return path

    def runbooks(self, text: str | None) -> Path | None:
        if text is None:
            return None
        try:
            Runbooks.read(Path(text))
        except (OSError, UnicodeDecodeError) as error:
            self._mistakes.append(f"--runbooks {text}: cannot be read: {error}")
        if not Path(text).is_dir():
            self._mistakes.append(f"--runbooks {text}: is no folder; name the one that holds <AlertName>.md")
        return Path(text)

    def hosts(self, names: Sequence[str]) -> tuple[str, ...]:
        for name in names:
            if _HOST.fullmatch(name) is None:
                self._mistakes.append(f"--allowed-host {name}: must be a host name without port, such as remediation")
        return tuple(names)

    def level(self, text: str) -> str:
        if text.lower() not in _LEVELS:
            self._mistakes.append(f"--log-level {text}: must be one of {', '.join(_LEVELS)}")
        return text.upper()

    def audiences(self, options: Options) -> None:
        """An application that holds the admin's token could approve its own actions."""
        files = (options.ingest_token_file, options.admin_token_file, options.agent_token_file)
        try:
            sets = [set(TokenFile(path).tokens()) for path in files]
        except TokenError:
            return  # Told already.
        if sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2]:
            self._mistakes.append(
                "two token files share a token: Alertmanager, people and applications need tokens of their own"
            )

    def _needed(self, flag: str, text: str | None) -> Path:
        if not text:
            self._mistakes.append(f"{flag}: is needed")
        return Path(text or ".")


def _url_problem(text: str, schemes: Sequence[str]) -> str | None:
    try:
        parts = urlsplit(text)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in schemes or not parts.hostname or not port_is_good:
        return f"must be {' or '.join(schemes)}://host:port"
    if parts.query or parts.fragment or parts.username or parts.password:
        return "must have no query, fragment or password in it"
    return None
