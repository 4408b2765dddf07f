"""Asking Alertmanager what fires now, for us, and what people have silenced."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llmvitals_remediation.clock import parse_iso
from llmvitals_remediation.errors import SourceError
from llmvitals_remediation.inbox import OddAlertError, fingerprint, read_labels
from llmvitals_remediation.promql import HttpSource


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert that Alertmanager has now. `muted` says by what: a silence's or an inhibiting alert's id."""

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    receivers: tuple[str, ...]
    muted: str | None


class Alertmanager(Protocol):
    def alerts(self) -> list[ActiveAlert]:
        """Everything that is active, muted or not; raises `SourceError`."""


class AlertmanagerClient:
    """Alertmanager's API v2 over HTTP."""

    def __init__(self, url: str, *, timeout: float = 3.0) -> None:
        self._http = HttpSource(url, "Alertmanager", timeout)

    def alerts(self) -> list[ActiveAlert]:
        told = self._http.json("GET", "/api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true")
        if not isinstance(told, list):
            raise SourceError("Alertmanager answered in a shape that is not a list of alerts")
        return [alert for alert in map(_read, told) if alert is not None]

    def amiss(self) -> str | None:
        """None when it answers, else why not."""
        return self._http.amiss("/-/ready")

    def close(self) -> None:
        self._http.close()


def _read(told: Any) -> ActiveAlert | None:
    """None for an alert that the inbox would set aside as well."""
    try:
        labels = read_labels(told["labels"])
        status = told["status"]
        annotations = told.get("annotations") or {}
        return ActiveAlert(
            fingerprint=fingerprint(labels),
            labels=labels,
            annotations={str(name): str(value) for name, value in annotations.items()},
            starts_at=parse_iso(told["startsAt"]),
            receivers=tuple(str(receiver["name"]) for receiver in told.get("receivers") or ()),
            muted=_muted(status),
        )
    except OddAlertError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"Alertmanager answered an alert in a shape that is not known: {error!r}") from error


def _muted(status: Mapping[str, Any]) -> str | None:
    for by, what in (("silencedBy", "silence"), ("inhibitedBy", "inhibited by"), ("mutedBy", "muted by")):
        if status.get(by):
            return f"{what} {status[by][0]}"
    return None if status.get("state") != "suppressed" else "suppressed"
