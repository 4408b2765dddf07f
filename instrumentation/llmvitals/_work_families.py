"""The families of an application's own work and upkeep; `llmvitals.catalogue` shows them with all others."""

from llmvitals._family import OPERATION_BUCKETS, Family

# --- Background modules -----------------------------------------------------------------------------------------------

MODULE_DURATION = Family(
    "llmvitals_module_duration_seconds",
    "histogram",
    "Duration of a run of a background module, to its end, its error or its time-out.",
    ("module", "outcome"),
    OPERATION_BUCKETS,
)
MODULE_ERRORS = Family(
    "llmvitals_module_errors_total",
    "counter",
    "Runs of a background module that failed, time-outs included, by their error.",
    ("module", "error_type"),
)
MODULE_IN_FLIGHT = Family(
    "llmvitals_module_in_flight", "gauge", "Runs of a background module that have started and not ended.", ("module",)
)
MODULE_OVERDUE = Family(
    "llmvitals_module_overdue",
    "gauge",
    "Runs of a background module that still go on although their time is over.",
    ("module",),
)
MODULE_TIMEOUT = Family(
    "llmvitals_module_timeout_seconds", "gauge", "The time that a background module is given.", ("module",)
)
MODULE_LAST_SUCCESS = Family(
    "llmvitals_module_last_success_timestamp_seconds",
    "gauge",
    "When a background module last ended well, in unix seconds; absent before.",
    ("module",),
)

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
