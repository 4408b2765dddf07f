"""The families of what surrounds a call: tools, agents, workflows, cost; `llmvitals.catalogue` shows them with all."""

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

# --- What calls cost --------------------------------------------------------------------------------------------------

COST = Family(
    "llmvitals_cost_usd_total",
    "counter",
    "Cost of calls in US dollars by the application's own price table: input, output, cached input.",
    ("gen_ai_provider_name", "gen_ai_request_model", "kind"),
)
UNPRICED_CALLS = Family(
    "llmvitals_unpriced_calls_total",
    "counter",
    "Calls with token usage for which the price table has no price, so that the cost is too low by them.",
    ("gen_ai_provider_name", "gen_ai_request_model"),
)
BUDGET = Family(
    "llmvitals_cost_budget_usd",
    "gauge",
    "US dollars that the service may spend in a day and in a month of 30 days, by the application's own price table.",
    ("period",),
    across="max",
)
PRICES_UPDATED = Family(
    "llmvitals_price_table_timestamp_seconds",
    "gauge",
    "When the price table was last looked after, in unix seconds: the day that it tells, or its file's own time.",
    across="min",
)

# --- Tokens by what they were; off unless asked for -------------------------------------------------------------------

_BASE = (
    "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model", "server_address",
    "server_port",
)  # fmt: skip

INPUT_TOKENS = Family(
    "gen_ai_client_inference_usage_input_tokens_total", "counter", "Input tokens, cached ones included.", _BASE
)
OUTPUT_TOKENS = Family(
    "gen_ai_client_inference_usage_output_tokens_total", "counter", "Output tokens, reasoning included.", _BASE
)
CACHE_READ_INPUT_TOKENS = Family(
    "gen_ai_client_inference_usage_cache_read_input_tokens_total",
    "counter",
    "Input tokens that the provider took from its cache.",
    _BASE,
)
CACHE_WRITE_INPUT_TOKENS = Family(
    "gen_ai_client_inference_usage_cache_write_input_tokens_total",
    "counter",
    "Input tokens that the provider put into its cache.",
    _BASE,
)
REASONING_OUTPUT_TOKENS = Family(
    "gen_ai_client_inference_usage_reasoning_output_tokens_total",
    "counter",
    "Output tokens that the model spent on reasoning.",
    _BASE,
)

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
