"""Asking Prometheus constant questions. Nothing is ever filled into a query: results are picked over in Python."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import requests

from llmvitals_remediation.errors import SourceError, UnreachableError

AGENTS = "llmvitals_agent_info"
UP = "up"
# When each target that is up was last scraped: an instant query's own time says nothing about a sample's age.
FRESH = "timestamp(up == 1)"
FIRING = 'ALERTS{alertstate="firing"}'

_CONNECT_SECONDS = 1.0
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query's result; the value may be NaN."""

    labels: Mapping[str, str]
    value: float

    def of(self, job: str, instance: str) -> bool:
        """Whether it belongs to that target."""
        return self.labels.get("job") == job and self.labels.get("instance") == instance


class Prometheus(Protocol):
    def query(self, promql: str) -> list[Sample]:
        """The result of an instant query now; raises `SourceError`."""


class PrometheusClient:
    """Prometheus over HTTP: no redirects, no proxies from the environment, no waiting beyond *timeout* seconds."""

    def __init__(self, url: str, *, timeout: float = 3.0) -> None:
        self._http = HttpSource(url, "Prometheus", timeout)
        self._timeout = timeout

    def query(self, promql: str) -> list[Sample]:
        told = self._http.json("POST", "/api/v1/query", {"query": promql, "timeout": f"{self._timeout:g}s"})
        try:
            if told["status"] != "success" or told["data"]["resultType"] != "vector":
                raise SourceError(f"Prometheus answered {told['status']}: {str(told.get('error'))[:200]}")
            return [Sample(_texts(row["metric"]), float(row["value"][1])) for row in told["data"]["result"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise SourceError(f"Prometheus answered in a shape that is not an instant vector: {error!r}") from error

    def amiss(self) -> str | None:
        """None when it answers, else why not."""
        return self._http.amiss("/-/ready")

    def close(self) -> None:
        self._http.close()


class HttpSource:
    """A session of one thread at a time; its errors say which server, and are all `SourceError`."""

    def __init__(self, url: str, name: str, timeout: float) -> None:
        self._url = url.rstrip("/")
        self._name = name
        self._timeout = timeout
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False

    def json(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Any:
        try:
            with (
                self._lock,
                self._session.request(
                    method,
                    self._url + path,
                    data=form,
                    timeout=(_CONNECT_SECONDS, self._timeout),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                body = response.raw.read(_MAX_BYTES + 1, decode_content=True)
                status = response.status_code
                if len(body) > _MAX_BYTES:
                    raise SourceError(f"{self._name} at {self._url} answered over {_MAX_BYTES} bytes")
                told = json.loads(body)
        except (requests.RequestException, OSError, ValueError) as error:
            raise UnreachableError(f"{self._name} at {self._url} gave no answer: {_short(error)}") from error
        if status not in (200, 400, 422):
            raise SourceError(f"{self._name} at {self._url} answered HTTP {status}")
        return told

    def amiss(self, path: str) -> str | None:
        try:
            with self._lock:
                response = self._session.get(
                    self._url + path, timeout=(_CONNECT_SECONDS, self._timeout), allow_redirects=False
                )
        except (requests.RequestException, OSError) as error:
            return f"{self._name} at {self._url} gave no answer: {_short(error)}"
        return None if response.ok else f"{self._name} at {self._url} answered HTTP {response.status_code}"

    def close(self) -> None:
        self._session.close()


def _short(error: Exception) -> str:
    text = str(error)
    for known in ("Connection refused", "timed out", "Name or service not known", "Connection reset"):
        if known in text:
            return known.lower()
    return text[:200]


def _texts(labels: object) -> dict[str, str]:
    if not isinstance(labels, dict):
        raise TypeError("labels")
    return {str(name): str(value) for name, value in labels.items()}
