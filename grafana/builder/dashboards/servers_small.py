"""The rows of Local LLM servers about those that have no metrics of their own, and that the exporter asks."""

from grafana.builder.layout import Row
from grafana.builder.overrides import color_by_name, value_map
from grafana.builder.panels import Panel, Query, alerted, timeseries
from grafana.builder.pictures import state_timeline
from grafana.builder.promql import SERVICE, rate, select

KOBOLD = "llmvitals_koboldcpp_"
OLLAMA = "llmvitals_ollama_"
LMSTUDIO = "llmvitals_lmstudio_"
NO_OLLAMA = "No Ollama is asked"
NO_KOBOLD = "No KoboldCpp is asked"


def small_rows() -> list[Row]:
    return [Row(400, "Ollama, LM Studio, KoboldCpp (see .env)", _small())]


def _small() -> list[Panel]:
    return [
        state_timeline(
            401,
            "Whether they answer",
            f"When the exporter asks. {alerted('InferenceServerDown')}",
            [
                Query(select(f"{prefix}up", SERVICE), f"{name} {{{{server}}}}")
                for name, prefix in (("Ollama", OLLAMA), ("LM Studio", LMSTUDIO), ("KoboldCpp", KOBOLD))
            ],
            mappings=value_map({0: ("silent", "red"), 1: ("answers", "green")}),
            width=12,
            no_value="None is asked",
        ),
        timeseries(
            402,
            "Memory of loaded models",
            f"Of Ollama's, that of the GPU included. {alerted('InferenceModelMissing')}",
            [
                Query(select(f"{OLLAMA}model_memory_bytes", SERVICE), "{{model}}"),
                Query(select(f"{OLLAMA}model_gpu_memory_bytes", SERVICE), "on the GPU {{model}}"),
            ],
            unit="bytes",
            width=6,
            no_value=NO_OLLAMA,
        ),
        timeseries(
            403,
            "Context of loaded models",
            "Tokens that it holds.",
            [
                Query(select(f"{OLLAMA}model_context_tokens", SERVICE), "Ollama {{model}}"),
                Query(select(f"{LMSTUDIO}model_context_tokens", SERVICE), "LM Studio {{model}}"),
            ],
            unit="short",
            width=6,
            no_value="No Ollama and no LM Studio is asked",
        ),
        timeseries(
            404,
            "KoboldCpp: queue",
            f"Requests that wait or run. {alerted('InferenceQueueGrowing')}",
            [Query(select(f"{KOBOLD}queue_length", SERVICE), "{{server}}")],
            unit="short",
            soft_high=1,
            single=True,
            no_value=NO_KOBOLD,
        ),
        timeseries(
            405,
            "KoboldCpp: generations",
            "Of text, per second.",
            [Query(rate(f"{KOBOLD}generations_total", SERVICE), "{{server}}")],
            unit="ops",
            soft_high=0.1,
            single=True,
            no_value=NO_KOBOLD,
        ),
        timeseries(
            406,
            "KoboldCpp: speed of the last request",
            "Tokens per second, of reading the prompt and of writing.",
            [
                Query(select(f"{KOBOLD}last_process_tokens_per_second", SERVICE), "reading {{server}}"),
                Query(select(f"{KOBOLD}last_generation_tokens_per_second", SERVICE), "writing {{server}}"),
            ],
            unit="count:tok/s",
            overrides=color_by_name({"reading": "blue", "writing": "purple"}),
            no_value=NO_KOBOLD,
        ),
    ]
