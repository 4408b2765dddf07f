"""The HTTP APIs that a chaos run drives and watches."""

from datetime import datetime
from typing import Any

import requests

from llmvitals_stack.settings import Settings

JOB = "companion"


class ApiError(RuntimeError):
    """An API of the running stack did not answer as it must; the text says which."""


class Apis:
    """The running stack, as seen from outside."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = requests.Session()
        self._http.trust_env = False

    # --- Turning faults on -------------------------------------------------------------------------------------------

    def dial(self, provider: str, dials: dict[str, Any]) -> None:
        self._send("PUT", f"{self._settings.url('FAULTY_LLM_CONTROL')}/dials/{provider}", dials)

    def reset_dials(self, provider: str) -> None:
        self._send("POST", f"{self._settings.url('FAULTY_LLM_CONTROL')}/dials/{provider}/reset", {})

    def companion(self, path: str, body: dict[str, Any], *, answered: bool = True) -> None:
        """POST to the companion; `answered=False` for what ends it before it can answer."""
        url = f"{self._settings.url('COMPANION')}{path}"
        if answered:
            self._send("POST", url, body)
            return
        try:
            self._http.post(url, json=body, timeout=5)
        except requests.ConnectionError:
            return

    # --- Watching ----------------------------------------------------------------------------------------------------

    def alert(self, name: str) -> tuple[str, float] | None:
        """The state (pending, firing) of the companion's alert and since when it is active; None if there is none."""
        found = [
            alert
            for alert in self._get(f"{self._settings.url('PROMETHEUS')}/api/v1/alerts")["data"]["alerts"]
            if alert["labels"].get("alertname") == name and alert["labels"].get("job") == JOB
        ]
        if not found:
            return None
        first = min(found, key=lambda alert: (alert["state"] != "firing", alert["activeAt"]))
        return first["state"], seconds(first["activeAt"])

    def values(self, query: str) -> list[float]:
        """The values of an instant query."""
        url = f"{self._settings.url('PROMETHEUS')}/api/v1/query"
        return [float(sample["value"][1]) for sample in self._get(url, query=query)["data"]["result"]]

    def incidents(self, handler: str) -> list[dict[str, Any]]:
        """A handler's newest incidents, newest first."""
        url = f"{self._settings.url('REMEDIATION')}/api/v1/incidents"
        found: list[dict[str, Any]] = self._get(url, handler=handler, limit="5")["incidents"]
        return found

    def incident(self, incident_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"{self._settings.url('REMEDIATION')}/api/v1/incidents/{incident_id}")
        return found

    def _get(self, url: str, **parameters: str) -> Any:
        token = self._settings["LLMVITALS_ADMIN_TOKEN"]
        headers = {"Authorization": f"Bearer {token}"} if url.startswith(self._settings.url("REMEDIATION")) else {}
        try:
            answer = self._http.get(url, params=parameters, headers=headers, timeout=5)
            answer.raise_for_status()
            return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise ApiError(f"{url}: {error}") from error

    def _send(self, method: str, url: str, body: dict[str, Any]) -> None:
        try:
            answer = self._http.request(method, url, json=body, timeout=60)
        except requests.RequestException as error:
            raise ApiError(f"{url}: {error}") from error
        if not answer.ok:
            raise ApiError(f"{method} {url} answers {answer.status_code}: {answer.text[:300]}")


def seconds(iso_time: str) -> float:
    """An ISO 8601 time as Unix seconds."""
    return datetime.fromisoformat(iso_time).timestamp()
