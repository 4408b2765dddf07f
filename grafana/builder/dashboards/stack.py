"""Stack health: is what watches watched, does it keep up, and does it reach people?"""

from typing import Any

from grafana.builder.dashboards.machine import alerts_and_targets
from grafana.builder.dashboards.shared import annotations, service_variables, worst
from grafana.builder.dashboards.stack_viewer import dashboards_viewer
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import STACK_COLORS, color_by_name, dashed, value_map
from grafana.builder.panels import TABLE_HEIGHT, Column, Panel, Query, alerted, bargauge, stat, table, timeseries
from grafana.builder.pictures import state_timeline
from grafana.builder.promql import SERVICE, aggregate, increase, rate, ratio, select, total
from grafana.builder.thresholds import ANY_IS_BAD, NOTIFICATION_QUEUE, WATCHDOG_AGE

INSTANCE = ("job", "instance")
UP = value_map({0: ("down", "red"), 1: ("up", "green")})
WATCHDOG = "llmvitals_remediation_watchdog_last_seen_timestamp_seconds"
NOTIFIED = "alertmanager_notifications"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Targets and collectors", _targets()),
        Row(200, "Prometheus", _prometheus()),
        Row(300, "Rules", _rules()),
        Row(400, "Alertmanager", _alertmanager()),
        Row(500, "Dashboards", dashboards_viewer()),
        Row(800, "Alerts now, and what is scraped", alerts_and_targets()),
    ]
    return dashboard(
        "llmvitals-stack",
        "llmvitals / Stack health",
        "Is what watches watched, does it keep up, and does it reach people?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _failed_notifications() -> str:
    return total(increase(f"{NOTIFIED}_failed_total", SERVICE))


def _first_line() -> list[Panel]:
    down = f"count({select('up', SERVICE)} == 0) or vector(0)"
    failed = f"count({select('llmvitals_scrape_collector_success', SERVICE)} == 0) or vector(0)"
    group = select("prometheus_rule_group_last_duration_seconds", SERVICE)
    every = select("prometheus_rule_group_interval_seconds", SERVICE)
    slowest = ratio(group, every)
    return [
        stat(
            2,
            "Targets down",
            f"That do not answer their scrape. {alerted('TargetDown')}",
            Query(down),
            unit="none",
            limit=ANY_IS_BAD,
        ),
        stat(
            3,
            "Not measured",
            f"Collectors of the exporter that fail; their readings are missing. {alerted('ExporterCollectorFailing')}",
            Query(failed),
            unit="none",
            limit=ANY_IS_BAD,
        ),
        stat(
            4,
            "Series",
            f"That Prometheus holds in memory. {alerted('PrometheusSeriesGrowth')}",
            Query(total(select("prometheus_tsdb_head_series", SERVICE))),
            unit="short",
            no_value="Prometheus is not scraped",
        ),
        stat(
            5,
            "Samples",
            "Stored per second.",
            Query(total(rate("prometheus_tsdb_head_samples_appended_total", SERVICE))),
            unit="count:/s",
            no_value="Prometheus is not scraped",
        ),
        stat(
            6,
            "Slowest rules",
            f"Time of a group of rules as a share of its interval: at 100 % it is late. "
            f"{alerted('PrometheusRulesLate')}",
            Query(worst(slowest)),
            unit="percentunit",
            decimals=0,
            no_value="Prometheus is not scraped",
        ),
        stat(
            7,
            "Not delivered",
            f"Notifications to people that failed in the chosen range. {alerted('AlertmanagerNotificationsFailing')}",
            Query(_failed_notifications()),
            unit="none",
            decimals=0,
            sparkline=False,
            limit=ANY_IS_BAD,
            no_value="Alertmanager is not scraped",
        ),
        stat(
            8,
            "Watchdog",
            "How long ago the alert that always fires last came through Prometheus and Alertmanager.",
            Query(worst(f"time() - ({select(WATCHDOG)} > 0)")),
            unit="dthms",
            limit=WATCHDOG_AGE,
            no_value="Not seen yet",
        ),
        stat(
            9,
            "Faults",
            f"Inside our instrumentation and remediation, in the chosen range. "
            f"{alerted('InstrumentationErrors', 'RemediationErrors')}",
            Query(
                f"({total(increase('llmvitals_instrumentation_errors_total', SERVICE))} or vector(0))"
                f" + ({total(increase('llmvitals_remediation_handler_errors_total', SERVICE))} or vector(0))"
            ),
            unit="none",
            decimals=0,
            sparkline=False,
        ),
    ]


def _targets() -> list[Panel]:
    slowest = aggregate("max", select("llmvitals_scrape_collector_duration_seconds", SERVICE), "collector")
    collectors = aggregate("min", select("llmvitals_scrape_collector_success", SERVICE), "collector")
    return [
        state_timeline(
            101,
            "Targets over time",
            f"Whether each answered. {alerted('TargetDown', 'TargetAbsent')}",
            [Query(aggregate("min", select("up", SERVICE), *INSTANCE), "{{job}} {{instance}}")],
            mappings=UP,
        ),
        state_timeline(
            102,
            "Collectors of the exporter",
            f"Whether each gave all its readings. {alerted('ExporterCollectorFailing')}",
            [Query(collectors, "{{collector}}")],
            mappings=value_map({0: ("fails", "red"), 1: ("works", "green")}),
            no_value="No exporter is scraped",
        ),
        timeseries(
            103,
            "Duration of a scrape",
            "How long a target takes to answer; of each service, the slowest.",
            [Query(aggregate("max", select("scrape_duration_seconds", SERVICE), "job"), "{{job}}")],
            unit="s",
            legend_table=True,
            overrides=color_by_name(STACK_COLORS),
        ),
        timeseries(
            104,
            "Samples of a scrape",
            f"What makes Prometheus large; of each service, the largest. {alerted('PrometheusScrapeLimitHit')}",
            [Query(aggregate("max", select("scrape_samples_scraped", SERVICE), "job"), "{{job}}")],
            unit="short",
            legend_table=True,
            overrides=color_by_name(STACK_COLORS),
        ),
        bargauge(
            105,
            "Duration by collector",
            f"Seconds that each took last, the slowest eight. {alerted('ExporterCollectorSlow')}",
            Query(f"topk(8, {slowest})", "{{collector}}"),
            unit="s",
            height=TABLE_HEIGHT,
            high=None,
            decimals=None,
            no_value="No exporter is scraped",
        ),
    ]


def _prometheus() -> list[Panel]:
    return [
        timeseries(
            201,
            "Series in memory",
            f"What a label with too many values makes grow. {alerted('PrometheusSeriesGrowth')}",
            [Query(total(select("prometheus_tsdb_head_series", SERVICE), *INSTANCE), "{{instance}}")],
            unit="short",
            height=TABLE_HEIGHT,
            single=True,
            no_value="Prometheus is not scraped",
        ),
        timeseries(
            202,
            "New series by service",
            "Added with each scrape; a service that never stops adding has a label that never repeats.",
            [Query(total(select("scrape_series_added", SERVICE), "job"), "{{job}}")],
            unit="short",
            legend_table=True,
            overrides=color_by_name(STACK_COLORS),
        ),
        timeseries(
            203,
            "Storage",
            f"Bytes on disk; dashed is the most that is kept, where that is set. {alerted('PrometheusStorageFailing')}",
            [
                Query(total(select("prometheus_tsdb_storage_blocks_bytes", SERVICE), *INSTANCE), "{{instance}}"),
                Query(
                    f"{total(select('prometheus_tsdb_retention_limit_bytes', SERVICE), *INSTANCE)} > 0",
                    "limit {{instance}}",
                ),
            ],
            unit="bytes",
            height=TABLE_HEIGHT,
            single=True,
            overrides=[dashed("limit", "yellow")],
            no_value="Prometheus is not scraped",
        ),
        timeseries(
            204,
            "Samples that were not taken",
            f"Per second: scrapes over a limit, and samples twice or out of order. "
            f"{alerted('PrometheusScrapeLimitHit', 'PrometheusSamplesRejected')}",
            [
                Query(total(rate(f"prometheus_{name}_total", SERVICE)), text)
                for name, text in (
                    ("target_scrapes_exceeded_sample_limit", "over the limit"),
                    ("target_scrapes_sample_duplicate_timestamp", "twice"),
                    ("target_scrapes_sample_out_of_order", "out of order"),
                )
            ],
            unit="ops",
            soft_high=0.1,
            overrides=color_by_name({"over": "orange", "twice": "blue", "out of order": "purple"}),
            width=12,
            no_value="Prometheus is not scraped",
        ),
        table(
            205,
            "Versions",
            "Of every program that tells its own.",
            [
                Query(
                    " or ".join(
                        aggregate("count", select(name), "job", "version")
                        for name in (
                            "llmvitals_build_info",
                            "llmvitals_exporter_build_info",
                            "llmvitals_remediation_build_info",
                            "prometheus_build_info",
                            "alertmanager_build_info",
                            "llmvitals_viewer_build_info",
                        )
                    )
                )
            ],
            [
                Column("job", "Program"),
                Column("version", "Version"),
                Column("Value", "Instances", unit="none"),
            ],
            sort=("Program", False),
        ),
    ]


def _rules() -> list[Panel]:
    group = ("instance", "rule_group")
    took = select("prometheus_rule_group_last_duration_seconds", SERVICE)
    share = ratio(took, select("prometheus_rule_group_interval_seconds", SERVICE))
    # The label has the path of the file before the name.
    named = f'label_replace({share}, "group", "${{1}}", "rule_group", ".*;(.*)")'
    return [
        bargauge(
            301,
            "Time of a group of rules",
            f"As a share of its interval. {alerted('PrometheusRulesLate')}",
            Query(f"topk(8, {aggregate('max', named, 'group')})", "{{group}}"),
            unit="percentunit",
            decimals=1,
            no_value="Prometheus is not scraped",
        ),
        timeseries(
            302,
            "Rules that fail",
            f"Evaluations per second. {alerted('PrometheusRuleFailing')}",
            [
                Query(
                    f"{total(rate('prometheus_rule_evaluation_failures_total', SERVICE), *group)} > 0", "{{rule_group}}"
                )
            ],
            unit="ops",
            soft_high=0.1,
            no_value="No rule fails",
        ),
        timeseries(
            303,
            "Alerts by state",
            "Pending ones have not lasted long enough yet; the Watchdog is left out.",
            [Query(aggregate("count", select("ALERTS", 'severity!="none"'), "alertstate"), "{{alertstate}}")],
            unit="short",
            stepped=True,
            decimals=0,
            overrides=color_by_name({"firing": "red", "pending": "yellow"}),
            soft_high=1,
            no_value="Nothing fires",
        ),
    ]


def _notified(part: str) -> str:
    """By those ways alone that were used: Alertmanager counts all that there are."""
    name = f"{NOTIFIED}{part}"
    used = total(increase(name, SERVICE), "integration")
    return f"{total(rate(name, SERVICE), 'integration')} and on (integration) {used} > 0"


def _alertmanager() -> list[Panel]:
    queue = ratio(
        total(select("prometheus_notifications_queue_length", SERVICE), *INSTANCE),
        total(select("prometheus_notifications_queue_capacity", SERVICE), *INSTANCE),
    )
    return [
        timeseries(
            401,
            "Notifications to people",
            f"Per second, by the way they take. {alerted('AlertmanagerNotificationsFailing')}",
            [
                Query(_notified("_total"), "{{integration}}"),
                Query(_notified("_failed_total"), "failed {{integration}}"),
            ],
            unit="ops",
            soft_high=0.1,
            no_value="Nobody was told anything",
        ),
        timeseries(
            402,
            "From Prometheus to Alertmanager",
            "Alerts that wait, as a share of what the queue holds; the dashed line is the alert's.",
            [Query(queue, "{{instance}}")],
            unit="percentunit",
            limit=NOTIFICATION_QUEUE,
            soft_high=1,
            single=True,
            no_value="Prometheus is not scraped",
        ),
        timeseries(
            403,
            "Alerts and silences",
            "That Alertmanager knows of.",
            [
                Query(total(select("alertmanager_alerts", SERVICE), "state"), "{{state}} alerts"),
                Query(total(select("alertmanager_silences", SERVICE, 'state="active"')), "silences"),
            ],
            unit="short",
            decimals=0,
            stepped=True,
            soft_high=1,
            overrides=color_by_name(
                {"active": "blue", "suppressed": "super-light-blue", "unprocessed": "orange", "silences": "purple"}
            ),
            no_value="Alertmanager is not scraped",
        ),
    ]
