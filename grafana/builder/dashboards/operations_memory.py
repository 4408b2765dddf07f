"""The rows of Operations and voice about what an application stores: semantic memories, databases, their upkeep."""

from grafana.builder.layout import Row
from grafana.builder.overrides import QUANTILE_COLORS, color_by_name, dashed
from grafana.builder.panels import Column, Panel, Query, alerted, bargauge, table, timeseries
from grafana.builder.promql import SERVICE, aggregate, quantile, rate, ratio, select, share_or_zero, total
from grafana.builder.thresholds import MEMORY_FILL, WAL_BYTES

MEMORY = "llmvitals_semantic_memory_"
STATEMENT = "db_client_operation_duration_seconds"
CLEANUP = "llmvitals_cleanup_"
STATEMENT_COLORS = {
    ".* SELECT": "blue",
    ".* INSERT": "light-blue",
    ".* UPDATE": "purple",
    ".* DELETE": "dark-purple",
    ".* COMMIT": "text",
}
FILE_COLORS = {".* database": "blue", ".* wal": "purple", ".* shm": "light-blue"}
LEVEL_COLORS = {"info": "blue", "warning": "yellow", "critical": "red", "emergency": "dark-red"}
NO_MEMORY = "No semantic memory"
NO_DATABASE = "No instrumented database"
NO_CLEANUP = "No clean-ups"


def memory_rows() -> list[Row]:
    return [
        Row(500, "Semantic memory", _memory()),
        Row(600, "Store and upkeep", _store()),
        Row(650, "Database pools (with SQLAlchemy)", _pools(), folded=True),
    ]


def _memory() -> list[Panel]:
    by = ("job", "memory")
    searches = total(rate(f"{MEMORY}operation_duration_seconds_count", SERVICE, 'operation="search"'), *by)
    weak = total(rate(f"{MEMORY}weak_searches_total", SERVICE), *by)
    fill = ratio(select(f"{MEMORY}documents", SERVICE), select(f"{MEMORY}max_documents", SERVICE))
    similar = [
        Query(quantile(q, f"{MEMORY}similarity_ratio", SERVICE), f"p{q * 100:g} {{{{job}}}}") for q in (0.5, 0.95, 0.99)
    ]
    results = ratio(
        total(rate(f"{MEMORY}results_sum", SERVICE), *by), total(rate(f"{MEMORY}results_count", SERVICE), *by)
    )
    batch = ratio(
        total(rate(f"{MEMORY}batch_size_sum", SERVICE), *by), total(rate(f"{MEMORY}batch_size_count", SERVICE), *by)
    )
    return [
        timeseries(
            501,
            "Duration p95 by what is done",
            f"Dashed is the target of a search. {alerted('LLMSemanticSearchSlow')}",
            [
                Query(
                    quantile(0.95, f"{MEMORY}operation_duration_seconds", SERVICE, by=("job", "memory", "operation")),
                    "{{memory}} {{operation}}",
                ),
                Query(aggregate("max", select(f"{MEMORY}search_target_seconds", SERVICE), *by), "target {{memory}}"),
            ],
            unit="s",
            overrides=[dashed("target", "yellow")],
            legend_table=True,
            no_value=NO_MEMORY,
        ),
        timeseries(
            502,
            "Similarity of results",
            "How near the results are to what was searched for, from 0 to 1.",
            similar,
            unit="percentunit",
            legend_table=True,
            high=1,
            overrides=color_by_name(QUANTILE_COLORS),
            no_value="No results",
        ),
        timeseries(
            503,
            "Weak searches",
            f"Share of the searches that found nothing near enough. {alerted('LLMSemanticSearchWeak')}",
            [Query(share_or_zero(weak, searches), "{{memory}}")],
            unit="percentunit",
            single=True,
            legend_table=True,
            high=1,
            no_value="No searches",
        ),
        bargauge(
            504,
            "Fill of the memory",
            "Documents against the most that it may hold.",
            Query(aggregate("max", fill, "memory"), "{{memory}}"),
            unit="percentunit",
            decimals=1,
            limit=MEMORY_FILL,
            no_value=NO_MEMORY,
        ),
        timeseries(
            505,
            "Results of a search, documents of a batch",
            "On average.",
            [Query(results, "results {{memory}}"), Query(batch, "batch {{memory}}")],
            unit="short",
            overrides=color_by_name({"results": "blue", "batch": "purple"}),
            no_value=NO_MEMORY,
        ),
        timeseries(
            506,
            "Documents",
            "Held by each memory.",
            [Query(total(select(f"{MEMORY}documents", SERVICE), *by), "{{job}} {{memory}}")],
            unit="short",
            single=True,
            no_value=NO_MEMORY,
        ),
    ]


def _store() -> list[Panel]:
    by = ("job", "cleanup")
    last = aggregate("max", f"time() - {select(f'{CLEANUP}last_run_timestamp_seconds', SERVICE)}", *by)
    every = aggregate("max", select(f"{CLEANUP}interval_seconds", SERVICE), *by)
    removed = total(f"increase({select(f'{CLEANUP}removed_total', SERVICE)}[$__range])", *by)
    took = ratio(
        total(rate(f"{CLEANUP}duration_seconds_sum", SERVICE, window="30m"), *by),
        total(rate(f"{CLEANUP}duration_seconds_count", SERVICE, window="30m"), *by),
    )
    return [
        timeseries(
            601,
            "Statements",
            "Per second, by their kind.",
            [
                Query(
                    total(rate(f"{STATEMENT}_count", SERVICE), "db_system_name", "db_operation_name"),
                    "{{db_system_name}} {{db_operation_name}}",
                )
            ],
            unit="ops",
            stacked=True,
            overrides=color_by_name(STATEMENT_COLORS),
            legend_table=True,
            no_value=NO_DATABASE,
        ),
        timeseries(
            602,
            "Statement p95",
            "95 of 100 are quicker.",
            [
                Query(
                    quantile(0.95, STATEMENT, SERVICE, by=("job", "db_system_name", "db_operation_name")),
                    "{{db_system_name}} {{db_operation_name}}",
                )
            ],
            unit="s",
            overrides=color_by_name(STATEMENT_COLORS),
            legend_table=True,
            no_value=NO_DATABASE,
        ),
        timeseries(
            603,
            "Wait for the database's thread",
            f"From handing a statement over to its turn. {alerted('LLMDatabaseQueueSlow')}",
            [
                Query(quantile(q, "llmvitals_db_queue_wait_seconds", SERVICE), f"p{q * 100:g} {{{{job}}}}")
                for q in (0.5, 0.95, 0.99)
            ],
            unit="s",
            overrides=color_by_name(QUANTILE_COLORS),
            legend_table=True,
            no_value=NO_DATABASE,
        ),
        timeseries(
            604,
            "SQLite files",
            "The write-ahead log should be small after each checkpoint; the dashed line is its alert's.",
            [
                Query(
                    aggregate("max", select("llmvitals_sqlite_bytes", SERVICE), "database", "file"),
                    "{{database}} {{file}}",
                )
            ],
            unit="bytes",
            limit=WAL_BYTES,
            overrides=color_by_name(FILE_COLORS),
            legend_table=True,
            no_value="No SQLite",
        ),
        timeseries(
            607,
            "Events worth remembering",
            "What the application noted in its history, per second.",
            [Query(total(rate("llmvitals_history_events_total", SERVICE), "event", "level"), "{{level}} {{event}}")],
            unit="ops",
            soft_high=0.1,
            width=16,
            overrides=color_by_name(LEVEL_COLORS),
            legend_table=True,
            no_value="Nothing noted",
        ),
        table(
            605,
            "Clean-ups",
            f"When each ran last, how often it should, what it took and removed. "
            f"{alerted('LLMCleanupLate', 'LLMCleanupFailing')}",
            [Query(last), Query(every), Query(took), Query(removed)],
            [
                Column("cleanup", "Clean-up", width=170),
                Column("Value #A", "Ran before", unit="s", decimals=0),
                Column("Value #B", "Every", unit="s", decimals=0),
                Column("Value #C", "Takes", unit="s"),
                Column("Value #D", "Removed", unit="short", decimals=0),
            ],
            width=24,
            no_value=NO_CLEANUP,
            sort=("Clean-up", False),
            hide=("job",),
        ),
    ]


def _pools() -> list[Panel]:
    return [
        timeseries(
            606,
            "Connections in use",
            "How long connections are out of a database pool, p95.",
            [
                Query(
                    quantile(
                        0.95,
                        "db_client_connection_use_time_seconds",
                        SERVICE,
                        by=("job", "db_client_connection_pool_name"),
                    ),
                    "{{db_client_connection_pool_name}}",
                )
            ],
            unit="s",
            width=24,
            no_value="No database pool",
        ),
    ]
