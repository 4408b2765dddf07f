"""Every metric family that an instrumented application may show: name, type, labels, buckets, help, since.

Documentation, dashboards, rules and tests are checked against this list, so a family that is not here does not exist.
Where OpenTelemetry's semantic conventions have a metric, the name is its exact Prometheus translation.
"""

from llmvitals import _genai_families, _python_families, _work_families
from llmvitals._family import OPERATION_BUCKETS, OTEL_DURATION_BUCKETS
from llmvitals._family import Family as Family  # noqa: PLC0414 -- part of this module's face

# --- Buckets ----------------------------------------------------------------------------------------------------------

# OTel stops at 81.92 s; a local model that thinks does not.
DURATION_BUCKETS = (*OTEL_DURATION_BUCKETS, 163.84, 327.68, 655.36)

# Local models reach 3 ms a chunk, below OTel's first bound.
CHUNK_BUCKETS = (0.001, 0.0025, 0.005, *OTEL_DURATION_BUCKETS)

TOKEN_BUCKETS = tuple(float(4**n) for n in range(14))

_RETRY_WAIT_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_POOL_WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_BATCH_SIZE_BUCKETS = tuple(float(2**n) for n in range(11))
_HEALTH_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DB_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
# OTel's bounds, and beyond them what a model that thinks may take.
_HTTP_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# --- Calls ------------------------------------------------------------------------------------------------------------

_CALL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_BASE = (*_CALL, "gen_ai_response_model", "server_address", "server_port")

CALL_DURATION = Family(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "Duration of a GenAI operation as the client saw it, to the end of its stream.",
    (*_BASE, "error_type"),
    DURATION_BUCKETS,
)
TOKEN_USAGE = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of an operation as the provider reported them; nothing is recorded when it reported none.",
    (*_BASE, "gen_ai_token_type"),
    TOKEN_BUCKETS,
)
TIME_TO_FIRST_CHUNK = Family(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "Time from the start of a streamed operation to its first chunk.",
    _BASE,
    DURATION_BUCKETS,
)
TIME_PER_OUTPUT_CHUNK = Family(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "histogram",
    "Time from one chunk of a stream to the next.",
    _BASE,
    CHUNK_BUCKETS,
)
TIME_TO_FIRST_OUTPUT = Family(
    "llmvitals_time_to_first_output_seconds",
    "histogram",
    "Time from the start of a streamed operation to its first output that is not the model's reasoning.",
    _BASE,
    DURATION_BUCKETS,
)
CALLS_IN_FLIGHT = Family("llmvitals_calls_in_flight", "gauge", "Calls that have started and not ended.", _CALL)
STREAM_ENDS = Family(
    "llmvitals_stream_ends_total",
    "counter",
    "Streams by how they ended: completed, cancelled by their consumer, error, timeout, or abandoned unclosed.",
    (*_CALL, "reason"),
)
STREAM_ODD_CHUNKS = Family(
    "llmvitals_stream_odd_chunks_total",
    "counter",
    "Chunks passed on as they were although they were none, bytes, empty or of another kind than the rest.",
    (*_CALL, "kind"),
)
USAGE_MISSING = Family(
    "llmvitals_usage_missing_total",
    "counter",
    "Calls that ended well and came without token usage, so that token counts are too low by them.",
    ("gen_ai_provider_name", "gen_ai_request_model", "stream"),
)
CUT_ANSWERS = Family(
    "llmvitals_cut_answers_total",
    "counter",
    "Calls whose answer ended before the model was done: at its length, or at a content filter.",
    ("gen_ai_provider_name", "gen_ai_request_model", "reason"),
)

# --- Retries and breakers ---------------------------------------------------------------------------------------------

ATTEMPTS = Family(
    "llmvitals_attempts_total", "counter", "Attempts of retried work, by how each one ended.", ("name", "outcome")
)
RETRIES = Family(
    "llmvitals_retries_total",
    "counter",
    "Retries that were scheduled, by the error that caused them and by their number (1, 2, 3+).",
    ("name", "error_type", "attempt"),
)
RETRIES_EXHAUSTED = Family(
    "llmvitals_retries_exhausted_total",
    "counter",
    "Times retrying was given up although the last error was retryable.",
    ("name", "error_type"),
)
RETRY_WAIT = Family(
    "llmvitals_retry_wait_seconds", "histogram", "Time waited before a retry.", ("name",), _RETRY_WAIT_BUCKETS
)
BREAKER_STATE = Family(
    "llmvitals_circuit_breaker_state",
    "gauge",
    "1 for the state that the breaker is in (closed, open, half_open), 0 for the others.",
    ("name", "state"),
    across="max",
)
BREAKER_TRANSITIONS = Family(
    "llmvitals_circuit_breaker_transitions_total", "counter", "Changes of a breaker's state.", ("name", "to_state")
)
BREAKER_CALLS = Family(
    "llmvitals_circuit_breaker_calls_total",
    "counter",
    "Calls through a breaker: success, failure, rejected without being tried, or ignored.",
    ("name", "outcome"),
)
BREAKER_FALLBACKS = Family(
    "llmvitals_circuit_breaker_fallbacks_total",
    "counter",
    "Times the application answered from a fallback instead.",
    ("name",),
)

# --- Caches, users, operations ----------------------------------------------------------------------------------------

CACHE_REQUESTS = Family(
    "llmvitals_cache_requests_total", "counter", "Look-ups in a cache: hit, miss or error.", ("cache", "result")
)
CACHE_EVICTIONS = Family(
    "llmvitals_cache_evictions_total",
    "counter",
    "Entries that left a cache for want of room (size), of age (ttl), or on demand (cleared).",
    ("cache", "reason"),
)
CACHE_ENTRIES = Family("llmvitals_cache_entries", "gauge", "Entries in a cache.", ("cache",))
CACHE_MAX_ENTRIES = Family("llmvitals_cache_max_entries", "gauge", "Entries that a cache may hold.", ("cache",))

USER_PROFILES_ACTIVE = Family("llmvitals_user_profiles_active", "gauge", "User profiles held in memory.")
USER_PROFILES_LIMIT = Family("llmvitals_user_profiles_limit", "gauge", "User profiles that the application wants.")
USER_PROFILES_CREATED = Family("llmvitals_user_profiles_created_total", "counter", "User profiles created.")
USER_PROFILES_EVICTED = Family(
    "llmvitals_user_profiles_evicted_total",
    "counter",
    "User profiles evicted: idle for too long, the oldest over the limit, or explicit.",
    ("reason",),
)

OPERATION_DURATION = Family(
    "llmvitals_operation_duration_seconds",
    "histogram",
    "Duration of one of the application's own operations (talker, rag_search, ...).",
    ("operation", "error_type"),
    OPERATION_BUCKETS,
)
OPERATIONS = Family(
    "llmvitals_operations_total",
    "counter",
    "Operations by level against their target: excellent, good, acceptable, slow, critical.",
    ("operation", "level"),
)
OPERATIONS_IN_FLIGHT = Family(
    "llmvitals_operations_in_flight", "gauge", "Operations that have started and not ended.", ("operation",)
)
OPERATION_TARGET = Family(
    "llmvitals_operation_target_seconds",
    "gauge",
    "The duration that an operation should stay within.",
    ("operation",),
    across="max",
)

# --- Pools, batches, health, database ---------------------------------------------------------------------------------

POOL_CONNECTIONS = Family(
    "llmvitals_pool_connections", "gauge", "Resources in a pool, idle and used.", ("pool", "state")
)
POOL_MAX_CONNECTIONS = Family("llmvitals_pool_max_connections", "gauge", "Resources that a pool may hold.", ("pool",))
POOL_PENDING_REQUESTS = Family("llmvitals_pool_pending_requests", "gauge", "Requests waiting for a pool.", ("pool",))
POOL_WAIT = Family(
    "llmvitals_pool_wait_seconds", "histogram", "Time waited for a resource of a pool.", ("pool",), _POOL_WAIT_BUCKETS
)
POOL_ACQUIRED = Family(
    "llmvitals_pool_acquired_total", "counter", "Connections taken from a pool, new and reused.", ("pool", "connection")
)
POOL_TIMEOUTS = Family(
    "llmvitals_pool_timeouts_total",
    "counter",
    "Requests that ran out of time, by what they waited for: pool, connect, write, read.",
    ("pool", "phase"),
)

BATCH_SIZE = Family("llmvitals_batch_size", "histogram", "Items in a flushed batch.", ("queue",), _BATCH_SIZE_BUCKETS)
BATCH_WAIT = Family(
    "llmvitals_batch_wait_seconds", "histogram", "Time an item waited for its flush.", ("queue",), CHUNK_BUCKETS
)
BATCH_QUEUE_DEPTH = Family("llmvitals_batch_queue_depth", "gauge", "Items waiting for a flush.", ("queue",))
BATCH_FLUSHES = Family(
    "llmvitals_batch_flushes_total",
    "counter",
    "Flushes by what caused them: size, time, priority, shutdown.",
    ("queue", "trigger"),
)
BATCH_ITEMS = Family("llmvitals_batch_items_total", "counter", "Items put in a batch queue.", ("queue", "priority"))

HEALTH_STATUS = Family(
    "llmvitals_health_check_status",
    "gauge",
    "1 when the last run of a health check passed, else 0.",
    ("check",),
    across="min",
)
HEALTH_DURATION = Family(
    "llmvitals_health_check_duration_seconds", "histogram", "Duration of a health check.", ("check",), _HEALTH_BUCKETS
)
DB_OPERATION_DURATION = Family(
    "db_client_operation_duration_seconds",
    "histogram",
    "Duration of a database operation as the client saw it.",
    ("db_system_name", "db_operation_name", "error_type"),
    _DB_BUCKETS,
)
DB_CONNECTION_USE = Family(
    "db_client_connection_use_time_seconds",
    "histogram",
    "Time from taking a connection out of a database pool to giving it back.",
    ("db_client_connection_pool_name",),
    _DB_BUCKETS,
)

# --- HTTP -------------------------------------------------------------------------------------------------------------

HTTP_CLIENT_DURATION = Family(
    "http_client_request_duration_seconds",
    "histogram",
    "Time from sending an HTTP request to its answer's headers; each redirect and each retry is a request.",
    ("http_request_method", "server_address", "server_port", "http_response_status_code", "error_type"),
    _HTTP_BUCKETS,
)
HTTP_CLIENT_OPEN = Family(
    "http_client_open_connections",
    "gauge",
    "Open connections of the HTTP clients' pools, active and idle.",
    ("http_connection_state", "server_address", "server_port"),
)
HTTP_CLIENT_ACTIVE = Family(
    "http_client_active_requests",
    "gauge",
    "HTTP requests of clients that wait for their answer's headers.",
    ("http_request_method", "server_address", "server_port"),
)
HTTP_SERVER_DURATION = Family(
    "http_server_request_duration_seconds",
    "histogram",
    "Time from an HTTP request's arrival to the end of its answer, by the route's template.",
    ("http_request_method", "url_scheme", "http_route", "http_response_status_code", "error_type"),
    _HTTP_BUCKETS,
)
HTTP_SERVER_ACTIVE = Family(
    "http_server_active_requests",
    "gauge",
    "HTTP requests that are being answered.",
    ("http_request_method", "url_scheme"),
)

# --- The process ------------------------------------------------------------------------------------------------------

MEMORY_BASELINE = Family(
    "llmvitals_memory_baseline_bytes", "gauge", "Resident memory when the application had settled; absent before."
)
MEMORY_PEAK = Family("llmvitals_memory_peak_bytes", "gauge", "Highest resident memory seen.")
MEMORY_RATIO = Family(
    "llmvitals_memory_baseline_ratio",
    "gauge",
    "Resident memory over the baseline; absent until there is one.",
    across="max",
)
MEMORY_GROWTH = Family(
    "llmvitals_memory_growth_bytes_per_second", "gauge", "Growth of resident memory over the last window."
)
PYTHON_ALLOCATED_BLOCKS = Family(
    "llmvitals_python_allocated_blocks", "gauge", "Memory blocks held by Python's allocator: the quietest leak signal."
)

LOOP_LAG = Family(
    "llmvitals_asyncio_loop_lag_seconds", "histogram", "Delay of an event loop's timers.", ("loop",), _LAG_BUCKETS
)
LOOP_BLOCKED = Family("llmvitals_asyncio_loop_blocked_total", "counter", "Times an event loop was blocked.", ("loop",))
LOOP_BLOCKED_SECONDS = Family(
    "llmvitals_asyncio_loop_blocked_seconds_total", "counter", "Time an event loop was blocked.", ("loop",)
)
LOOP_TASKS = Family("llmvitals_asyncio_tasks", "gauge", "Tasks of an event loop that are not done.", ("loop",))

# --- llmvitals itself -------------------------------------------------------------------------------------------------

BUILD_INFO = Family("llmvitals_build_info", "gauge", "1, with the version of llmvitals.", ("version",), across="max")
INSTRUMENTATION_ERRORS = Family(
    "llmvitals_instrumentation_errors_total",
    "counter",
    "Faults of the instrumentation itself; the application did not notice, some numbers are too low.",
    ("component",),
)
LABEL_VALUES_DROPPED = Family(
    "llmvitals_label_values_dropped_total",
    "counter",
    "Recordings counted under 'other' because the family was at its cap of label sets.",
    ("metric",),
)
AGENT_INFO = Family(
    "llmvitals_agent_info",
    "gauge",
    "1, with the identity of this process's agent.",
    ("agent_id", "boot_id", "service"),
    across="max",
)
AGENT_CONNECTED = Family(
    "llmvitals_agent_connected", "gauge", "1 while the agent reaches the remediation service.", across="max"
)
AGENT_COMMANDS = Family(
    "llmvitals_agent_commands_total",
    "counter",
    "Commands that reached the agent: done, failed, refused, or repeated and answered from memory.",
    ("verb", "outcome"),
)
TUNABLE_VALUE = Family("llmvitals_tunable_value", "gauge", "Value of a numeric tunable.", ("tunable",), across="max")
TUNABLE_LEASES = Family(
    "llmvitals_tunable_leases", "gauge", "Changes of tunables that will be put back unless confirmed."
)
PROFILE_ACTIVE = Family("llmvitals_profile_active", "gauge", "1 for the profile in force.", ("profile",), across="max")
WORKERS = Family("llmvitals_workers", "gauge", "Living workers of the service; absent where it has one process.")
WORKER_RESIDENT_MEMORY = Family(
    "llmvitals_worker_resident_memory_bytes",
    "gauge",
    "Resident memory of each worker of the service, by its place; a new worker takes a free one.",
    ("worker",),
)

_OURS = tuple(value for value in list(globals().values()) if isinstance(value, Family))

# Emitted by prometheus_client's own process, garbage collection and platform collectors.
_RUNTIME = (
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Family(
        "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", across="min"
    ),
    Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    Family("process_max_fds", "gauge", "Maximum number of open file descriptors.", across="max"),
    Family("process_open_fds", "gauge", "Number of open file descriptors."),
    Family("python_gc_objects_collected_total", "counter", "Objects collected during gc", ("generation",)),
    Family(
        "python_gc_objects_uncollectable_total", "counter", "Uncollectable objects found during GC", ("generation",)
    ),
    Family("python_gc_collections_total", "counter", "Number of times this generation was collected", ("generation",)),
    Family(
        "python_info",
        "gauge",
        "Python platform information",
        ("version", "implementation", "major", "minor", "patchlevel"),
        across="max",
    ),
)

FAMILIES: tuple[Family, ...] = (
    *_OURS,
    *_genai_families.FAMILIES,
    *_work_families.FAMILIES,
    *_python_families.FAMILIES,
    *_RUNTIME,
)

CLOSED_LABELS = frozenset(
    {
        "attempt", "gen_ai_token_type", "http_connection_state", "http_request_method", "kind", "level", "outcome",
        "reason", "result", "state", "stream", "to_state", "trigger", "url_scheme",
    }
)  # fmt: skip
"""Labels whose values are a small set written in this package; they survive when a label set folds into ``other``."""
