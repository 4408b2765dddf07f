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
    "llmvitals_module_timeout_seconds",
    "gauge",
    "The time that a background module is given.",
    ("module",),
    across="max",
)
MODULE_LAST_SUCCESS = Family(
    "llmvitals_module_last_success_timestamp_seconds",
    "gauge",
    "When a background module last ended well, in unix seconds; absent before.",
    ("module",),
    across="max",
)

# --- The start --------------------------------------------------------------------------------------------------------

STARTUP_PHASE_DURATION = Family(
    "llmvitals_startup_phase_duration_seconds", "gauge", "Duration of a phase of the start.", ("phase",), across="max"
)
STARTUP_FAILURES = Family(
    "llmvitals_startup_phase_failures_total", "counter", "Phases of the start that failed.", ("phase", "error_type")
)
STARTUP_PROGRESS = Family(
    "llmvitals_startup_progress_ratio",
    "gauge",
    "Share of the start's phases that are done; 1 when it is ready.",
    across="min",
)
STARTUP_COMPLETE = Family(
    "llmvitals_startup_complete", "gauge", "1 once the application has said that it is ready.", across="min"
)
STARTUP_DURATION = Family(
    "llmvitals_startup_duration_seconds",
    "gauge",
    "Duration of the whole start; absent until it is ready.",
    across="max",
)
LAZY_LOAD_DURATION = Family(
    "llmvitals_lazy_load_duration_seconds",
    "histogram",
    "Duration of a load that was put off until it was needed.",
    ("load", "error_type"),
    OPERATION_BUCKETS,
)

# --- Voice ------------------------------------------------------------------------------------------------------------

VOICE_TURNS = Family(
    "llmvitals_voice_turns_total", "counter", "Turns of a voice by outcome: success, failure.", ("voice", "outcome")
)
VOICE_FAILURES = Family(
    "llmvitals_voice_failures_total", "counter", "Turns of a voice that failed, by what went wrong.", ("voice", "cause")
)
VOICE_QUALITY = Family(
    "llmvitals_voice_quality_ratio",
    "histogram",
    "Quality of a voice's turns as the application judges it, from 0 to 1.",
    ("voice",),
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
VOICE_DURATION = Family(
    "llmvitals_voice_turn_duration_seconds", "histogram", "Duration of a voice's turn.", ("voice",), OPERATION_BUCKETS
)
VOICE_TARGET = Family(
    "llmvitals_voice_target_ratio", "gauge", "The share of turns that should succeed.", ("voice",), across="max"
)

# --- Limits -----------------------------------------------------------------------------------------------------------

_LIMIT = ("limiter", "resource")

LIMIT_REMAINING = Family(
    "llmvitals_limit_remaining",
    "gauge",
    "What is left of a limit (requests, tokens, ...), as last told; all of it, once its reset has passed.",
    _LIMIT,
    across="min",
)
LIMIT_MAXIMUM = Family(
    "llmvitals_limit_maximum", "gauge", "What a limit grants between two resets.", _LIMIT, across="max"
)
LIMIT_HEADROOM = Family(
    "llmvitals_limit_headroom_ratio", "gauge", "The share of a limit that is left.", _LIMIT, across="min"
)
LIMIT_RESET = Family(
    "llmvitals_limit_reset_timestamp_seconds",
    "gauge",
    "When all of a limit is there again, in unix seconds.",
    _LIMIT,
    across="max",
)
LIMIT_REJECTED = Family("llmvitals_limit_rejected_total", "counter", "What was turned away because of a limit.", _LIMIT)
LIMIT_QUEUED = Family("llmvitals_limit_queued", "gauge", "What waits for its turn because of a limit.", ("limiter",))
LIMIT_WAIT = Family(
    "llmvitals_limit_wait_seconds",
    "histogram",
    "Time waited for a turn because of a limit.",
    ("limiter",),
    OPERATION_BUCKETS,
)

# --- Semantic memory --------------------------------------------------------------------------------------------------

_MEMORY = ("memory",)

MEMORY_OPERATION_DURATION = Family(
    "llmvitals_semantic_memory_operation_duration_seconds",
    "histogram",
    "Duration of what is done with a semantic memory: store, search, context, optimise.",
    ("memory", "operation", "error_type"),
    OPERATION_BUCKETS,
)
MEMORY_SEARCH_TARGET = Family(
    "llmvitals_semantic_memory_search_target_seconds",
    "gauge",
    "The duration that a search should stay within.",
    _MEMORY,
    across="max",
)
MEMORY_RESULTS = Family(
    "llmvitals_semantic_memory_results",
    "histogram",
    "Results of a search.",
    _MEMORY,
    (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)
MEMORY_SIMILARITY = Family(
    "llmvitals_semantic_memory_similarity_ratio",
    "histogram",
    "Similarity of each result to what was searched for, from 0 to 1.",
    _MEMORY,
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
MEMORY_WEAK_SEARCHES = Family(
    "llmvitals_semantic_memory_weak_searches_total",
    "counter",
    "Searches that found nothing as similar as the application wants it.",
    _MEMORY,
)
MEMORY_BATCH_SIZE = Family(
    "llmvitals_semantic_memory_batch_size",
    "histogram",
    "Documents that were stored together.",
    _MEMORY,
    tuple(float(2**n) for n in range(11)),
)
MEMORY_DOCUMENTS = Family(
    "llmvitals_semantic_memory_documents", "gauge", "Documents in a semantic memory.", _MEMORY, across="max"
)
MEMORY_MAX_DOCUMENTS = Family(
    "llmvitals_semantic_memory_max_documents",
    "gauge",
    "Documents that a semantic memory may hold.",
    _MEMORY,
    across="max",
)

# --- Caches, pools, batches: more than `catalogue` has ----------------------------------------------------------------

CACHE_BYTES = Family(
    "llmvitals_cache_bytes",
    "gauge",
    "Size of a cache's keys and values, with what they directly refer to, estimated from 20 of them.",
    ("cache",),
)
CACHE_TIER_REQUESTS = Family(
    "llmvitals_cache_tier_requests_total",
    "counter",
    "Look-ups in one tier (local, redis) of a cache that has several: hit, miss or error.",
    ("cache", "tier", "result"),
)
CACHE_TIER_UP = Family(
    "llmvitals_cache_tier_up",
    "gauge",
    "1 while a tier of a cache answers, 0 while it is done without.",
    ("cache", "tier"),
    across="min",
)
CACHE_FALLBACKS = Family(
    "llmvitals_cache_fallbacks_total",
    "counter",
    "Times a cache did without Redis: error, timeout, away (not asked), busy (too many ask already).",
    ("cache", "reason"),
)
POOL_CREATED = Family("llmvitals_pool_created_total", "counter", "Objects that a pool has made.", ("pool",))
POOL_CLOSED = Family(
    "llmvitals_pool_closed_total",
    "counter",
    "Objects that a pool has done away with: idle for too long, broken, or closed with the pool.",
    ("pool", "reason"),
)
BATCH_MAX_ITEMS = Family("llmvitals_batch_max_items", "gauge", "Items that make a batch now.", ("queue",), across="max")

# --- Databases --------------------------------------------------------------------------------------------------------

DB_QUEUE_WAIT = Family(
    "llmvitals_db_queue_wait_seconds",
    "histogram",
    "Time from handing something to a database connection's thread to its turn there.",
    ("db_system_name",),
    (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0),
)
SQLITE_BYTES = Family(
    "llmvitals_sqlite_bytes",
    "gauge",
    "Size of a SQLite database's files: the database, and its wal, which should be small after each checkpoint.",
    ("database", "file"),
    across="max",
)

# --- Clean-ups --------------------------------------------------------------------------------------------------------

CLEANUP_DURATION = Family(
    "llmvitals_cleanup_duration_seconds",
    "histogram",
    "Duration of a run of a clean-up.",
    ("cleanup", "error_type"),
    OPERATION_BUCKETS,
)
CLEANUP_REMOVED = Family("llmvitals_cleanup_removed_total", "counter", "Things that a clean-up removed.", ("cleanup",))
CLEANUP_LAST_RUN = Family(
    "llmvitals_cleanup_last_run_timestamp_seconds",
    "gauge",
    "When a clean-up last ended, well or not, in unix seconds; absent before.",
    ("cleanup",),
    across="max",
)
CLEANUP_INTERVAL = Family(
    "llmvitals_cleanup_interval_seconds", "gauge", "Time between two runs of a clean-up.", ("cleanup",), across="max"
)

# --- The end ----------------------------------------------------------------------------------------------------------

SHUTDOWN_IN_PROGRESS = Family(
    "llmvitals_shutdown_in_progress", "gauge", "1 while the application shuts down.", across="max"
)
SHUTDOWN_RESOURCES = Family(
    "llmvitals_shutdown_resources",
    "gauge",
    "Resources registered to be closed at the end, and those that were then closed or failed to.",
    ("state",),
)
SHUTDOWN_TASKS = Family(
    "llmvitals_shutdown_tasks",
    "gauge",
    "Background tasks: pending now, and at the end finished, cancelled, or left because they heeded nothing.",
    ("state",),
)
SHUTDOWN_CLOSE_DURATION = Family(
    "llmvitals_shutdown_close_duration_seconds",
    "histogram",
    "Time to close a resource: success, error, timeout.",
    ("resource", "outcome"),
    OPERATION_BUCKETS,
)
SHUTDOWN_DURATION = Family(
    "llmvitals_shutdown_duration_seconds", "gauge", "Duration of the whole shutdown; absent before it.", across="max"
)

# --- History ----------------------------------------------------------------------------------------------------------

HISTORY_EVENTS = Family(
    "llmvitals_history_events_total",
    "counter",
    "Events worth remembering, by kind and by level: info, warning, critical, emergency.",
    ("event", "level"),
)

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
