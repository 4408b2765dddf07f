"""Reading Alertmanager's webhook, version 4.

Tolerant where it may be (unknown fields, reordered alerts) and strict where it must be: labels are untrusted text that
is only ever stored, shown and looked up. What is JSON but not a version-4 payload is set aside, never refused:
Alertmanager would send a refused body again at every group interval, for ever.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from llmvitals_remediation.clock import parse_iso
from llmvitals_remediation.errors import NotJSONError

MAX_ALERTS = 20_000
MAX_LABELS = 64
MAX_NAME = 256
MAX_VALUE = 4096
MAX_ANNOTATION = 16_384

Status = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as told. Times are unix seconds in milliseconds' steps; `ends_at` is 0 while it fires."""

    fingerprint: str
    status: Status
    starts_at: float
    ends_at: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A parsed body: the good alerts, and why the odd ones (or the whole body) were set aside."""

    alerts: tuple[Alert, ...]
    odd: tuple[str, ...]
    truncated: int = 0


def fingerprint(labels: Mapping[str, str]) -> str:
    """Our own name for a label set; what the payload claims is not taken on trust."""
    told = json.dumps(sorted(labels.items()), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def alertmanagers_fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's name for a label set, which its messages link by (FNV-1a): too easily forged to rely on."""
    told = b"".join(part.encode() + b"\xff" for label in sorted(labels.items()) for part in label)
    found = 0xCBF29CE484222325
    for byte in told:
        found = ((found ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{found:016x}"


def parse(body: bytes) -> Delivery:
    """Read a webhook's body.

    Raises:
        NotJSONError: not UTF-8, or not JSON (`NaN` is not JSON either).
    """
    try:
        told = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except OddAlertError as error:
        return Delivery((), (str(error),))
    except RecursionError:
        return Delivery((), ("the body is nested too deeply",))
    except UnicodeDecodeError as error:
        raise NotJSONError(f"not UTF-8, {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotJSONError(str(error)) from None
    except ValueError as error:  # an integer of thousands of digits
        return Delivery((), (f"a number is out of bounds: {error}",))
    try:
        return _delivery(told)
    except OddAlertError as error:
        return Delivery((), (str(error),))
    except RecursionError:
        return Delivery((), ("the body is nested too deeply",))


def _delivery(told: object) -> Delivery:
    if not isinstance(told, dict):
        raise OddAlertError(f"the body is a JSON {_kind(told)}, not an object")
    if (version := told.get("version")) != "4":
        raise OddAlertError(f'the version of the payload is {json.dumps(version)[:40]}, not the text "4"')
    alerts = told.get("alerts")
    if not isinstance(alerts, list) or not alerts:
        raise OddAlertError("'alerts' is not a list with entries")
    if len(alerts) > MAX_ALERTS:
        raise OddAlertError(f"'alerts' has {len(alerts)} entries; at most {MAX_ALERTS} are read")
    good: list[Alert] = []
    odd: list[str] = []
    for index, alert in enumerate(alerts):
        try:
            good.append(read_alert(alert))
        except OddAlertError as error:
            odd.append(f"alerts[{index}]: {error}")
    truncated = told.get("truncatedAlerts")
    return Delivery(tuple(good), tuple(odd), truncated if type(truncated) is int and truncated > 0 else 0)


def read_alert(told: object) -> Alert:
    """One entry of `alerts`; raises an error with the reason when it is not one."""
    if not isinstance(told, dict):
        raise OddAlertError(f"is a {_kind(told)}, not an object")
    status = told.get("status")
    if status not in ("firing", "resolved"):
        raise OddAlertError("'status' is neither 'firing' nor 'resolved'")
    labels = read_labels(told.get("labels"))
    starts_at = _time(told.get("startsAt"), "startsAt")
    ends_at = _time(told.get("endsAt"), "endsAt") if status == "resolved" else 0.0
    annotations = _texts(told.get("annotations") or {}, "annotations", MAX_ANNOTATION)
    return Alert(fingerprint(labels), status, starts_at, ends_at, labels, annotations)


def read_labels(told: object) -> dict[str, str]:
    """A label set with a name in it; raises an error with the reason when it is not one."""
    labels = _texts(told, "labels", MAX_VALUE)
    if not labels.get("alertname"):
        raise OddAlertError("there is no 'alertname' label")
    return labels


def _texts(told: object, what: str, longest: int) -> dict[str, str]:
    if not isinstance(told, dict):
        raise OddAlertError(f"'{what}' is not an object")
    if len(told) > MAX_LABELS:
        raise OddAlertError(f"'{what}' has {len(told)} entries; at most {MAX_LABELS} are read")
    for name, value in told.items():
        if not isinstance(value, str):
            raise OddAlertError(f"'{what}' has a value that is not text")
        if len(name) > MAX_NAME or len(value) > longest:
            raise OddAlertError(f"'{what}' has a name over {MAX_NAME} or a value over {longest} characters")
        if not _encodable(name) or not _encodable(value):
            raise OddAlertError(f"'{what}' has half of a surrogate pair in it")
    return told


def _time(told: object, what: str) -> float:
    if not isinstance(told, str) or len(told) > 64:
        raise OddAlertError(f"'{what}' is not a time")
    try:
        at = parse_iso(told)
    except (ValueError, OverflowError):
        raise OddAlertError(f"'{what}' is not a time") from None
    if not 0 <= at < 1e11:
        raise OddAlertError(f"'{what}' is out of bounds")
    return at


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(told: object) -> str:
    return {list: "list", str: "text", bool: "boolean", type(None): "null"}.get(type(told), "number")


class OddAlertError(Exception):
    """JSON, but not what an alert looks like."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise OddAlertError("an object has a key twice")
    return told


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)
