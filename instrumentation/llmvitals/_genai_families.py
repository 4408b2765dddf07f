"""The families of what surrounds a call: tools, agents, workflows; `llmvitals.catalogue` shows them with all others."""

from llmvitals._family import OTEL_DURATION_BUCKETS, Family

# OTel's bounds for agents are other than those for calls, and as with calls an agent may take longer than the last.
_AGENT_BUCKETS = tuple(round(0.1 * 2**n, 1) for n in range(16))
_WORKFLOW_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)

TOOL_DURATION = Family(
    "gen_ai_execute_tool_duration_seconds",
    "histogram",
    "Duration of one execution of a tool.",
    ("gen_ai_tool_name", "error_type"),
    (*OTEL_DURATION_BUCKETS, 163.84, 327.68, 655.36),
)
AGENT_DURATION = Family(
    "gen_ai_invoke_agent_duration_seconds",
    "histogram",
    "Duration of one invocation of an agent, to the end of its answer.",
    ("gen_ai_agent_name", "error_type"),
    _AGENT_BUCKETS,
)
WORKFLOW_DURATION = Family(
    "gen_ai_workflow_duration_seconds",
    "histogram",
    "Duration of one run of a workflow, all its agents, tools and calls included.",
    ("gen_ai_workflow_name", "error_type"),
    _WORKFLOW_BUCKETS,
)

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
