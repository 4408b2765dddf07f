"""Who tells what under which name: the sources of the recorded series.

Read from each one's code or documentation; what others emit is pinned in prometheus/third-party.yml as well, and
tests/prometheus/pages holds pages of theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# --- Clients: OpenTelemetry's GenAI conventions, ours included --------------------------------------------------------

# In the order in which they count: the present name of a label over its legacy one, the model asked for over the one
# that answered.
CLIENT_LABELS = {
    "gen_ai_system": "provider",
    "gen_ai_provider_name": "provider",
    "gen_ai_response_model": "model",
    "gen_ai_request_model": "model",
    "gen_ai_operation_name": "operation",
}
# An agent's or a tool's run is no call, and the calls inside of it are counted already.
CALLS = 'gen_ai_operation_name!~"invoke_agent|invoke_workflow|create_agent|execute_tool|plan"'
# LiteLLM's proxy names the key of its caller: it is a gateway, and its callers are the clients.
OF_CLIENTS = 'metadata_user_api_key_hash=""'
OF_GATEWAYS = 'metadata_user_api_key_hash!=""'
# What one source tells is told by no other of the same process and of the same instrumentation.
TELLER = ("job", "instance", "otel_scope_name")

CALL = "gen_ai_client_operation_duration_seconds"

# Histograms of the client's view, the first being preferred. OpenLIT tells the first two; OpenLLMetry and LiteLLM 1.106
# know only gen_ai_server_*, and measure it in the client. Then come LiteLLM's older spelling, and Grafana's agento11y.
CLIENT_HISTOGRAMS: Mapping[str, Sequence[str]] = {
    "duration": (CALL,),
    "ttft": (
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_client_response_time_to_first_token_seconds",
        "gen_ai_client_time_to_first_token_seconds",
    ),
    "tpot": (
        "gen_ai_client_operation_time_per_output_chunk_seconds",
        "gen_ai_server_time_per_output_token_seconds",
        "gen_ai_client_response_time_per_output_token_seconds",
    ),
}
# gen_ai_server_* of a process that makes no calls is an engine's own.
ENGINE_HISTOGRAMS: Mapping[str, str] = {
    "duration": "gen_ai_server_request_duration_seconds",
    "ttft": "gen_ai_server_time_to_first_token_seconds",
    "tpot": "gen_ai_server_time_per_output_token_seconds",
}

TOKENS = "gen_ai_client_token_usage"
# OpenLLMetry gives the unit as a word, which ends up in the name.
TOKENS_OF_OPENLLMETRY = "gen_ai_client_token_usage_token"
USAGE = {direction: f"gen_ai_client_inference_usage_{direction}_tokens_total" for direction in ("input", "output")}
# Parts of the above: never add them to it.
USAGE_DETAILS = {
    "cache_read": "gen_ai_client_inference_usage_cache_read_input_tokens_total",
    "cache_write": "gen_ai_client_inference_usage_cache_write_input_tokens_total",
    "reasoning": "gen_ai_client_inference_usage_reasoning_output_tokens_total",
}
COST = "llmvitals_cost_usd_total"
# OpenLIT and LiteLLM; LiteLLM's older spelling.
COST_HISTOGRAMS = ("gen_ai_usage_cost_USD", "gen_ai_client_token_cost_USD")

# --- Gateways ---------------------------------------------------------------------------------------------------------

LITELLM_LABELS = {
    "api_provider": "provider",
    "requested_model": "model",
    "litellm_model_name": "model",
    "model": "model",
}
LITELLM_REQUESTS = "litellm_proxy_total_requests_metric_total"
LITELLM_ERRORS = "litellm_proxy_failed_requests_metric_total"
LITELLM_HISTOGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "duration": ("litellm_llm_api_latency_metric", ("api_provider", "model")),
    "ttft": ("litellm_llm_api_time_to_first_token_metric", ("api_provider", "model")),
    "tpot": ("litellm_deployment_latency_per_output_token", ("api_provider", "litellm_model_name")),
}
LITELLM_TOKENS = {direction: f"litellm_{direction}_tokens_metric_total" for direction in ("input", "output")}
LITELLM_CACHED = "litellm_input_cached_tokens_metric_total"
LITELLM_COST = "litellm_spend_metric_total"

# --- Engines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Engine:
    """An LLM server that tells of itself; what it does not tell is None or empty."""

    name: str
    requests: str | None = None
    errors: str | None = None
    error_matchers: str = ""
    histograms: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    cached: str | None = None
    model_label: str | None = "model_name"
    comment: str = ""


ENGINES = (
    Engine(
        "vllm",
        requests="vllm:request_success_total",
        errors="vllm:request_success_total",
        error_matchers='finished_reason="error"',
        histograms={
            "duration": "vllm:e2e_request_latency_seconds",
            "ttft": "vllm:time_to_first_token_seconds",
            "tpot": "vllm:inter_token_latency_seconds",
        },
        tokens={"input": "vllm:prompt_tokens_total", "output": "vllm:generation_tokens_total"},
        cached="vllm:prefix_cache_hits_total",
        comment="The counter's name says success, its label finished_reason says otherwise.",
    ),
    Engine(
        "sglang",
        requests="sglang:num_requests_total",
        errors="sglang:num_aborted_requests_total",
        histograms={
            "duration": "sglang:e2e_request_latency_seconds",
            "ttft": "sglang:time_to_first_token_seconds",
            "tpot": "sglang:inter_token_latency_seconds",
        },
        tokens={"input": "sglang:prompt_tokens_total", "output": "sglang:generation_tokens_total"},
        cached="sglang:cached_tokens_total",
    ),
    Engine(
        "llamacpp",
        tokens={"input": "llamacpp:prompt_tokens_total", "output": "llamacpp:tokens_predicted_total"},
        model_label=None,
        comment="llama.cpp counts tokens and nothing that requests or a latency could be read from; it names no model.",
    ),
    Engine(
        "tgi",
        requests="tgi_request_count",
        errors="tgi_request_failure",
        histograms={"duration": "tgi_request_duration", "tpot": "tgi_request_mean_time_per_token_duration"},
        tokens={"input": "tgi_request_input_length_sum", "output": "tgi_request_generated_tokens_sum"},
        model_label=None,
        comment="TGI names no model and no time to the first token; its counters have no _total.",
    ),
)
