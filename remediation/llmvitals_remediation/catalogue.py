"""Every metric family of the remediation service, as data: docs, dashboards, rules and tests are checked against it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family under its full exposed name."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    since: str = "0.1.0"


_P = "llmvitals_remediation_"
SECONDS = (0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

DELIVERIES = Family(
    f"{_P}deliveries_total", "counter", "Webhook deliveries by what became of them.", labels=("result",)
)
INBOX_DEPTH = Family(f"{_P}inbox_depth", "gauge", "Stored alert events that no incident manager has looked at yet.")
INBOX_OLDEST = Family(f"{_P}inbox_oldest_seconds", "gauge", "Age of the oldest such event; 0 when there is none.")
INCIDENTS = Family(f"{_P}incidents", "gauge", "Incidents that are not closed, by state.", labels=("state",))
INCIDENTS_CLOSED = Family(
    f"{_P}incidents_closed_total", "counter", "Closed incidents by outcome.", labels=("handler", "outcome")
)
GATE_REFUSALS = Family(
    f"{_P}gate_refusals_total",
    "counter",
    "Times an incident began to be held back by a gate.",
    labels=("handler", "gate"),
)
ATTEMPTS = Family(f"{_P}attempts_total", "counter", "Attempts by verdict.", labels=("handler", "verdict"))
BREAKER_OPEN = Family(
    f"{_P}breaker_open",
    "gauge",
    "1 while the handler's breaker for the service is open.",
    labels=("handler", "service"),
)
SLOTS_IN_USE = Family(f"{_P}slots_in_use", "gauge", "Actions that are being carried out now.")
TIME_TO_ACTION = Family(
    f"{_P}time_to_action_seconds",
    "histogram",
    "From the alert's start to the first act of its incident.",
    labels=("handler",),
    buckets=SECONDS,
)
TIME_TO_PROOF = Family(
    f"{_P}time_to_proof_seconds",
    "histogram",
    "From the act to the proof that it helped.",
    labels=("handler",),
    buckets=SECONDS,
)
RELAPSES = Family(
    f"{_P}relapses_total",
    "counter",
    "Incidents handed to people because they came back too often.",
    labels=("handler",),
)
RECONCILED = Family(
    f"{_P}reconcile_last_success_timestamp_seconds",
    "gauge",
    "When Alertmanager and Prometheus were last read and compared with what is stored.",
)
RECONCILE_FOUND = Family(
    f"{_P}reconcile_found_total", "counter", "Firing alerts that no webhook had brought. 0 in normal life."
)
KILL_SWITCH = Family(f"{_P}kill_switch", "gauge", "1 while the kill switch is engaged: nothing acts.")
WATCHDOG = Family(
    f"{_P}watchdog_last_seen_timestamp_seconds",
    "gauge",
    "When the always-firing alert last came through Prometheus and Alertmanager; 0 before the first time.",
)
HANDLER_MODE = Family(
    f"{_P}handler_mode", "gauge", "1 for the mode that holds for the handler now.", labels=("handler", "mode")
)
HANDLER_ERRORS = Family(
    f"{_P}handler_errors_total", "counter", "Faults inside this service, by part.", labels=("component",)
)
AGENTS_CONNECTED = Family(f"{_P}agents_connected", "gauge", "Applications whose agent asks for commands.")
BUILD_INFO = Family(f"{_P}build_info", "gauge", "1, with the version.", labels=("version",))

FAMILIES = (
    DELIVERIES,
    INBOX_DEPTH,
    INBOX_OLDEST,
    INCIDENTS,
    INCIDENTS_CLOSED,
    GATE_REFUSALS,
    ATTEMPTS,
    BREAKER_OPEN,
    SLOTS_IN_USE,
    TIME_TO_ACTION,
    TIME_TO_PROOF,
    RELAPSES,
    RECONCILED,
    RECONCILE_FOUND,
    KILL_SWITCH,
    WATCHDOG,
    HANDLER_MODE,
    HANDLER_ERRORS,
    AGENTS_CONNECTED,
    BUILD_INFO,
)
