"""Waiting until everything is healthy: each program answers, and Prometheus sees every target up."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import requests

_POLL_SECONDS = 0.25


class UnhealthyError(RuntimeError):
    """Something is not healthy in time, or has ended; the text says what, and where to look."""


@dataclass(frozen=True, slots=True)
class Check:
    """A name, and a question that is answered with None when it is well, or with the reason why not."""

    name: str
    ask: Callable[[], str | None]


def answers(url: str) -> Callable[[], str | None]:
    """Ask whether a URL answers 200."""

    def ask() -> str | None:
        try:
            answer = _get(url)
        except requests.RequestException as error:
            return f"{url} does not answer ({type(error).__name__})"
        return None if answer.status_code == 200 else f"{url} answers {answer.status_code}: {answer.text[:200].strip()}"

    return ask


_OTHERS = frozenset({"llm-servers"})
"""Scrape jobs for what we do not start."""


def targets_up(prometheus_url: str, *, ours: bool = False) -> Callable[[], str | None]:
    """Ask whether Prometheus has targets, and all of them are up.

    Args:
        ours: Ask of what the stack starts only, not of LLM servers that `.env` names.
    """

    def ask() -> str | None:
        try:
            active = _get(f"{prometheus_url}/api/v1/targets?state=active").json()["data"]["activeTargets"]
        except (requests.RequestException, ValueError, KeyError) as error:
            return f"Prometheus does not say which targets it has ({type(error).__name__})"
        if ours:
            active = [target for target in active if target["scrapePool"] not in _OTHERS]
        down = [f"{target['scrapePool']} {target['scrapeUrl']}" for target in active if target["health"] != "up"]
        if down:
            return f"not scraped yet: {', '.join(down)}"
        return None if active else "Prometheus has no targets yet"

    return ask


def wait(
    checks: Sequence[Check],
    *,
    timeout: float,
    on_healthy: Callable[[str, float], None],
    states: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Wait until every check is well, telling each as it becomes so, with the seconds since the start.

    Args:
        states: The supervisor's view; a program that it has given up on ends the wait at once.

    Raises:
        UnhealthyError: In time, with the reasons of all that are not.
    """
    started = time.monotonic()
    waiting = {check.name: check for check in checks}
    while waiting:
        reasons = {name: check.ask() for name, check in waiting.items()}
        for name, reason in reasons.items():
            if reason is None:
                del waiting[name]
                on_healthy(name, time.monotonic() - started)
        if not waiting:
            return
        current = states()
        ended = [name for name in waiting if current.get(name) in ("FATAL", "EXITED", "STOPPED")]
        if ended:
            raise UnhealthyError(f"{', '.join(ended)} ended instead of serving")
        if time.monotonic() - started > timeout:
            told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
            raise UnhealthyError(f"Not healthy after {timeout:.0f} s. {told}")
        time.sleep(_POLL_SECONDS)


def reload(url: str) -> str | None:
    """Make a server read its configuration again; None, or why it refused."""
    try:
        answer = _session_request("POST", url)
    except requests.RequestException as error:
        return f"{url} does not answer ({type(error).__name__})"
    return None if answer.status_code == 200 else f"{url} refused: {answer.text[:500].strip()}"


def _get(url: str) -> requests.Response:
    return _session_request("GET", url)


def _session_request(method: str, url: str) -> requests.Response:
    with requests.Session() as session:
        # A proxy of the environment has no business on loopback.
        session.trust_env = False
        return session.request(method, url, timeout=3, allow_redirects=False)
