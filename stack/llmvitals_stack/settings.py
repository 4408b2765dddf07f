"""`.env`: made from `.env.example`, checked whole, never printed."""

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmvitals_stack import llm_servers

PORTS: Mapping[str, str] = {
    "LLMVITALS_GRAFANA_PORT": "dashboards",
    "LLMVITALS_PROMETHEUS_PORT": "prometheus",
    "LLMVITALS_ALERTMANAGER_PORT": "alertmanager",
    "LLMVITALS_EXPORTER_PORT": "exporter",
    "LLMVITALS_REMEDIATION_PORT": "remediation",
    "LLMVITALS_COMPANION_PORT": "companion",
    "LLMVITALS_COMPANION_METRICS_PORT": "companion",
    "LLMVITALS_FAULTY_LLM_PORT": "faulty_llm",
    "LLMVITALS_FAULTY_LLM_CONTROL_PORT": "faulty_llm",
    "LLMVITALS_FAULTY_LLM_BACKUP_PORT": "faulty_llm",
    "LLMVITALS_REDIS_PORT": "redis",
}
"""Each port's setting, and the program that listens there."""

SECRETS = (
    "LLMVITALS_ADMIN_TOKEN",
    "LLMVITALS_INGEST_TOKEN",
    "LLMVITALS_AGENT_TOKEN",
    "LLMVITALS_GRAFANA_ADMIN_PASSWORD",
)
MODES = ("auto", "compose", "native")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "LLMVITALS_MODE": MODES,
    "LLMVITALS_EXPORTER_NVIDIA": ("auto", "on", "off", "demo"),
    "LLMVITALS_EXPORTER_AMD": ("auto", "on", "off"),
}
"""Settings that are one of a few words."""

EXPORTER = ("LLMVITALS_EXPORTER_NVIDIA", "LLMVITALS_EXPORTER_AMD", *llm_servers.ASKED)
"""What the exporter reads from its environment itself."""

_SHORTEST_SECRET = 16


class SettingsError(ValueError):
    """`.env` cannot be used as it is.

    Attributes:
        mistakes: One sentence per mistake, each with its line and what to do.
    """

    def __init__(self, path: Path, mistakes: list[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join([f"{path} has {len(mistakes)} mistake(s):", *(f"  - {m}" for m in mistakes)]))


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings. Secrets stay out of its repr."""

    root: Path
    values: Mapping[str, str] = field(repr=False)

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    def port(self, name: str) -> int:
        """The port of a setting, named without prefix and suffix: `port("PROMETHEUS")`."""
        return int(self.values[f"LLMVITALS_{name}_PORT"])

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    @property
    def run(self) -> Path:
        """Where all state lives."""
        return self.root / ".run"

    @property
    def policy(self) -> Path:
        return (self.root / self.values["LLMVITALS_POLICY"]).resolve()

    def secret_file(self, name: str) -> Path:
        """The file of a token, by its short name: admin, ingest, agent."""
        return self.run / "secrets" / f"{name}_token"


def load(root: Path) -> Settings:
    """Read `.env` over the defaults of `.env.example`.

    Raises:
        SettingsError: With every mistake of the file, not only the first.
    """
    path = root / ".env"
    mistakes: list[str] = []
    values, _ = _parse(root / ".env.example", mistakes)
    own, lines = _parse(path, mistakes)
    unknown = sorted(own.keys() - values.keys(), key=lambda key: lines[key])
    mistakes += [f"line {lines[key]}: {key} is not a setting; .env.example lists them all" for key in unknown]
    values |= own
    mistakes += _check(values, lines, root)
    if mistakes:
        raise SettingsError(path, mistakes)
    return Settings(root, values)


def ensure(root: Path) -> bool:
    """Make `.env` if it is not there, and every secret that is empty; mode 0600. True if an admin token was made."""
    path = root / ".env"
    text = (path if path.exists() else root / ".env.example").read_text(encoding="utf-8")
    made = False
    lines = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() in SECRETS and not value.strip():
            made = made or key.strip() == "LLMVITALS_ADMIN_TOKEN"
            line = f"{key.strip()}={secrets.token_urlsafe(32)}"  # noqa: PLW2901 -- the line as it will be written
        lines.append(line)
    present = {line.partition("=")[0].strip() for line in lines}
    for key in SECRETS:
        if key not in present:
            made = made or key == "LLMVITALS_ADMIN_TOKEN"
            lines.append(f"{key}={secrets.token_urlsafe(32)}")
    write_private(path, "\n".join(lines) + "\n")
    return made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _parse(path: Path, mistakes: list[str]) -> tuple[dict[str, str], dict[str, int]]:
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    if not path.exists():
        return values, lines
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            # Not quoted in the message: it may be half of a secret.
            mistakes.append(f"line {number}: no '=' in it; a line is KEY=value, or begins with #")
            continue
        if key in lines:
            mistakes.append(f"line {number}: {key} is set before, on line {lines[key]}; keep one")
        values[key] = _unquote(value.strip())
        lines[key] = number
    return values, lines


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _check(values: Mapping[str, str], lines: Mapping[str, int], root: Path) -> Iterator[str]:
    def at(key: str) -> str:
        return f"line {lines[key]}: {key}" if key in lines else key

    taken: dict[int, str] = {}
    for key in PORTS:
        text = values.get(key, "")
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
            yield f"{at(key)} is {text!r}; a port is a whole number from 1 to 65535"
        elif (other := taken.setdefault(int(text), key)) != key:
            yield f"{at(key)} is {text}, and so is {other}; each needs its own port"
    for key, words in CHOICES.items():
        if values.get(key) not in words:
            yield f"{at(key)} is {values.get(key)!r}; one of {', '.join(words)}"
    yield from llm_servers.mistakes(values, at)
    if not (root / values.get("LLMVITALS_POLICY", "")).is_file():
        yield f"{at('LLMVITALS_POLICY')} names {values.get('LLMVITALS_POLICY')!r}, and there is no such file"
    for key in SECRETS:
        value = values.get(key, "")
        if len(value) < _SHORTEST_SECRET or not value.isascii() or any(c.isspace() for c in value):
            yield (
                f"{at(key)} must be at least {_SHORTEST_SECRET} ASCII characters without spaces;"
                " leave it empty, and `make up` makes one"
            )
