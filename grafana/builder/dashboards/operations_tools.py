"""The row of Operations and voice about what agents do: tools, agents and workflows."""

from grafana.builder.layout import Row
from grafana.builder.panels import Panel, Query, timeseries
from grafana.builder.promql import SERVICE, quantile, rate, total


def tools_row() -> Row:
    title = "Tools, agents, workflows (vitals.tool)"
    return Row(700, title, _tools(), folded=True)


def _tools() -> list[Panel]:
    return [
        timeseries(
            108,
            "Tools, agents and workflows",
            "Run per second.",
            [
                Query(
                    total(rate("gen_ai_execute_tool_duration_seconds_count", SERVICE), "gen_ai_tool_name"),
                    "tool {{gen_ai_tool_name}}",
                ),
                Query(
                    total(rate("gen_ai_invoke_agent_duration_seconds_count", SERVICE), "gen_ai_agent_name"),
                    "agent {{gen_ai_agent_name}}",
                ),
                Query(
                    total(rate("gen_ai_workflow_duration_seconds_count", SERVICE), "gen_ai_workflow_name"),
                    "workflow {{gen_ai_workflow_name}}",
                ),
            ],
            width=12,
            legend_table=True,
            unit="ops",
            no_value="No tools, agents or workflows",
        ),
        timeseries(
            109,
            "Tools, agents and workflows p95",
            "95 of 100 runs are shorter.",
            [
                Query(
                    quantile(0.95, "gen_ai_execute_tool_duration_seconds", SERVICE, by=("job", "gen_ai_tool_name")),
                    "tool {{gen_ai_tool_name}}",
                ),
                Query(
                    quantile(0.95, "gen_ai_invoke_agent_duration_seconds", SERVICE, by=("job", "gen_ai_agent_name")),
                    "agent {{gen_ai_agent_name}}",
                ),
                Query(
                    quantile(0.95, "gen_ai_workflow_duration_seconds", SERVICE, by=("job", "gen_ai_workflow_name")),
                    "workflow {{gen_ai_workflow_name}}",
                ),
            ],
            width=12,
            legend_table=True,
            unit="s",
            no_value="No tools, agents or workflows",
        ),
    ]
