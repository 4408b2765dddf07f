"""The recording layer: one vocabulary, `llm:*`, from what everybody tells in his own."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus.builder import sources
from prometheus.builder.promql import either, quantile, rate, renamed, selector, total, unless_told_by
from prometheus.builder.rulefile import Group, RuleFile, record
from prometheus.builder.sources import CALL, CALLS, CLIENT_LABELS, OF_CLIENTS, OF_GATEWAYS, TELLER, Engine

Rule = dict[str, Any]

TARGET = ("job", "instance")
VOCABULARY = ("provider", "model", "operation")
# Of what is younger than the legacy label.
PRESENT_LABELS = {old: new for old, new in CLIENT_LABELS.items() if old != "gen_ai_system"}
MEASURED = ("duration", "ttft", "tpot")

VOCABULARY_HEADER = """
Per instance, by job, instance, provider, model, operation and src:
  llm:requests:rate1m               calls that ended, per second
  llm:errors:rate1m                 those that failed; 0 where none has yet
  llm:errors_by_type:rate1m         the same by error_type, where the source tells it
  llm:error_ratio:1m                errors of the requests; absent without traffic
  llm:duration_seconds_bucket:rate1m, llm:ttft_seconds_bucket:rate1m, llm:tpot_seconds_bucket:rate1m
                                    (le) duration, time to the first chunk or token, time per further chunk or token
  llm:tokens:rate1m                 (direction: input, output)
  llm:token_details:rate1m          (kind: cache_read, cache_write, reasoning) parts of the tokens: add no two
  llm:cost_usd:rate1m               (kind, where the source tells it) US dollars per second
Per job, for long ranges and many instances; the same labels without instance:
  llm:job_requests:rate1m, llm:job_errors:rate1m, llm:job_errors_by_type:rate1m, llm:job_tokens:rate1m,
  llm:job_token_details:rate1m, llm:job_cost_usd:rate1m,
  llm:job_duration_seconds_bucket:rate1m, llm:job_ttft_seconds_bucket:rate1m, llm:job_tpot_seconds_bucket:rate1m
  llm:duration_seconds:p50, :p95, :p99; llm:ttft_seconds:…; llm:tpot_seconds:…     by job and src alone

src: client (who calls), gateway (LiteLLM's proxy), engine (who answers; provider is then its kind). The same request is
seen by each of them: never sum over src.
"""


def files() -> list[RuleFile]:
    return [_client(), _gateway(), _engines(), _jobs()]


# --- The client's view ------------------------------------------------------------------------------------------------


def _client() -> RuleFile:
    calls = f"{OF_CLIENTS}, {CALLS}"
    rules = [
        record("llm:requests:rate1m", _genai(rate(f"{CALL}_count", calls)), src="client"),
        _errors_or_zero(_genai(rate(f"{CALL}_count", f'error_type!="", {calls}')), "client"),
        record(
            "llm:errors_by_type:rate1m",
            _genai(rate(f"{CALL}_count", f'error_type!="", {calls}'), "error_type"),
            src="client",
        ),
        record("llm:tokens:rate1m", _client_tokens(OF_CLIENTS), src="client"),
        *(
            record("llm:token_details:rate1m", _genai(rate(name), labels=PRESENT_LABELS), src="client", kind=kind)
            for kind, name in sources.USAGE_DETAILS.items()
        ),
        record("llm:cost_usd:rate1m", _client_cost(OF_CLIENTS), src="client"),
    ]
    voice = [
        record("llm:voice_turns:rate1m", total(rate("llmvitals_voice_turns_total"), [*TARGET, "voice"]), src="client"),
        record(
            "llm:voice_failures:rate1m",
            total(rate("llmvitals_voice_turns_total", 'outcome="failure"'), [*TARGET, "voice"])
            + '\nor 0 * sum without (src) (llm:voice_turns:rate1m{src="client"})',
            src="client",
        ),
    ]
    header = f"""
What applications say about their calls. Sources: llmvitals and OpenTelemetry's GenAI conventions (present and legacy
names), OpenLLMetry, OpenLIT, LiteLLM's OpenTelemetry side. A source counts each request once, whatever it says twice.
An app that names no request model is known by its response model.
{VOCABULARY_HEADER}"""
    # Of a thousand instances, these are nine tenths of the work: groups of their own are evaluated side by side.
    measured = [
        Group(
            f"llm-client-{what}",
            [
                record(
                    f"llm:{what}_seconds_bucket:rate1m", _genai(_client_buckets(what, OF_CLIENTS), "le"), src="client"
                )
            ],
        )
        for what in MEASURED
    ]
    groups = [Group("llm-client", rules), *measured, Group("llm-voice", voice)]
    return RuleFile("recording/llm-client.yml", header, groups)


def _genai(expression: str, *further: str, labels: Mapping[str, str] = CLIENT_LABELS) -> str:
    """OpenTelemetry's labels in our words. Summed before they are renamed, too: renaming is what costs."""
    before = total(expression, [*TARGET, *labels, *further])
    return total(renamed(before, labels), [*TARGET, *VOCABULARY, *further])


def _client_buckets(what: str, matchers: str) -> str:
    preferred, *others = sources.CLIENT_HISTOGRAMS[what]
    calls = f"{matchers}, {CALLS}"
    told = [rate(f"{preferred}_bucket", calls)]
    witnesses = [f"{preferred}_count"]
    for name in others:
        mine = unless_told_by(rate(f"{name}_bucket", calls), witnesses, TELLER)
        if name.startswith("gen_ai_server_"):
            mine += f"\nand on (job, instance) {CALL}_count"
        told.append(mine)
        witnesses.append(f"{name}_count")
    return either(*told)


def _client_tokens(whose: str) -> str:
    matchers = f"{whose}, {CALLS}"
    usage = sources.USAGE
    both = either(
        *(
            unless_told_by(
                f'label_replace({rate(name, matchers)}, "gen_ai_token_type", "{direction}", "", "")',
                [f"{sources.TOKENS}_sum"],
                TELLER,
            )
            for direction, name in usage.items()
        )
    )
    words = unless_told_by(
        rate(f"{sources.TOKENS_OF_OPENLLMETRY}_sum", matchers), [f"{sources.TOKENS}_sum", usage["input"]], TELLER
    )
    before = total(
        either(rate(f"{sources.TOKENS}_sum", matchers), both, words), [*TARGET, *CLIENT_LABELS, "gen_ai_token_type"]
    )
    names = {**CLIENT_LABELS, "gen_ai_token_type": "direction"}
    return total(renamed(before, names), [*TARGET, *VOCABULARY, "direction"])


def _client_cost(matchers: str) -> str:
    """The application's own price table comes first: it is the one that somebody looks after."""
    first, second = (f"{name}_sum" for name in sources.COST_HISTOGRAMS)
    own = [sources.COST] if matchers == OF_CLIENTS else []
    told = [
        *(rate(name) for name in own),
        unless_told_by(rate(first, matchers), own, TARGET),
        unless_told_by(rate(second, matchers), [*own, first], TARGET),
    ]
    return _genai(either(*told), "kind") if own else _genai(either(*told))


# --- Gateways ---------------------------------------------------------------------------------------------------------


def _gateway() -> RuleFile:
    calls = f"{OF_GATEWAYS}, {CALLS}"
    requests, errors = sources.LITELLM_REQUESTS, sources.LITELLM_ERRORS
    labels = ("api_provider", "requested_model")
    rules = [
        record(
            "llm:requests:rate1m",
            either(_litellm(rate(requests), labels), _unless_litellm(_genai(rate(f"{CALL}_count", calls)))),
            src="gateway",
        ),
        _errors_or_zero(
            either(
                _litellm(rate(errors), labels),
                _unless_litellm(_genai(rate(f"{CALL}_count", f'error_type!="", {calls}'))),
            ),
            "gateway",
        ),
        record(
            "llm:errors_by_type:rate1m",
            _litellm(rate(errors), (*labels, "exception_class"), "error_type"),
            src="gateway",
        ),
        *(
            record(
                f"llm:{what}_seconds_bucket:rate1m",
                either(
                    _litellm(rate(f"{name}_bucket"), labels_of, "le"),
                    _unless_litellm(_genai(_client_buckets(what, OF_GATEWAYS), "le")),
                ),
                src="gateway",
            )
            for what, (name, labels_of) in sources.LITELLM_HISTOGRAMS.items()
        ),
        *(
            record(
                "llm:tokens:rate1m", _litellm(rate(name), ("api_provider", "model")), src="gateway", direction=direction
            )
            for direction, name in sources.LITELLM_TOKENS.items()
        ),
        record(
            "llm:token_details:rate1m",
            _litellm(rate(sources.LITELLM_CACHED), ("api_provider", "model")),
            src="gateway",
            kind="cache_read",
        ),
        record(
            "llm:cost_usd:rate1m",
            either(
                _litellm(rate(sources.LITELLM_COST), ("api_provider", "model")),
                _unless_litellm(_client_cost(OF_GATEWAYS)),
            ),
            src="gateway",
        ),
    ]
    told_by_otel = record("llm:tokens:rate1m", _unless_litellm(_client_tokens(OF_GATEWAYS)), src="gateway")
    header = """
What LiteLLM's proxy says about the requests that pass through it; src="gateway". Its callers are the clients.
From its /metrics; from its OpenTelemetry side where that is all there is. Scrape one of the two: when they come from
different targets, nothing tells that they are one proxy.
The bounds of its durations (1.0, 2.0, 5.0) are no SLO's: see llm-client.yml for the vocabulary.
"""
    return RuleFile("recording/llm-gateway.yml", header, [Group("llm-gateway", [*rules, told_by_otel])])


def _litellm(expression: str, labels: Iterable[str], *further: str) -> str:
    names: Mapping[str, str] = {**sources.LITELLM_LABELS, "exception_class": "error_type"}
    labels = tuple(labels)
    kept = [label for label in further if label not in names.values()]
    before = total(expression, [*TARGET, *labels, *kept])
    return total(renamed(before, {label: names[label] for label in labels}), [*TARGET, "provider", "model", *further])


def _unless_litellm(expression: str) -> str:
    return unless_told_by(expression, [sources.LITELLM_REQUESTS], TARGET)


# --- Engines ----------------------------------------------------------------------------------------------------------


def _engines() -> RuleFile:
    header = """
What LLM servers say about themselves, in the vocabulary of llm-client.yml; src="engine", provider is the server's kind.
"""
    groups = [Group(f"llm-{engine.name}", _engine(engine), comment=engine.comment) for engine in sources.ENGINES]
    return RuleFile("recording/llm-engines.yml", header, [*groups, _genai_engines()])


def _engine(engine: Engine) -> list[Rule]:
    labels = {"src": "engine", "provider": engine.name}
    who = [*TARGET, "model"] if engine.model_label else list(TARGET)

    def ours(expression: str, *further: str) -> str:
        if engine.model_label is None:
            return total(expression, [*who, *further])
        before = total(expression, [*TARGET, engine.model_label, *further])
        return total(renamed(before, {engine.model_label: "model"}), [*who, *further])

    rules = []
    if engine.requests:
        rules.append(record("llm:requests:rate1m", ours(rate(engine.requests)), **labels))
    if engine.errors:
        zero = f'\nor 0 * sum without (src, provider) (llm:requests:rate1m{{src="engine", provider="{engine.name}"}})'
        rules.append(record("llm:errors:rate1m", ours(rate(engine.errors, engine.error_matchers)) + zero, **labels))
    for what, name in engine.histograms.items():
        rules.append(record(f"llm:{what}_seconds_bucket:rate1m", ours(rate(f"{name}_bucket"), "le"), **labels))
    for direction, name in engine.tokens.items():
        rules.append(record("llm:tokens:rate1m", ours(rate(name)), **labels, direction=direction))
    if engine.cached:
        rules.append(record("llm:token_details:rate1m", ours(rate(engine.cached)), **labels, kind="cache_read"))
    return rules


def _genai_engines() -> Group:
    """Whoever follows OpenTelemetry's conventions for servers."""
    here = (f"{CALL}_count",)
    request = sources.ENGINE_HISTOGRAMS["duration"]
    rules = [
        record("llm:requests:rate1m", _genai(unless_told_by(rate(f"{request}_count"), here, TARGET)), src="engine"),
        record(
            "llm:errors:rate1m",
            _genai(unless_told_by(rate(f"{request}_count", 'error_type!=""'), here, TARGET))
            + f"\nor 0 * {_genai(unless_told_by(rate(f'{request}_count'), here, TARGET))}",
            src="engine",
        ),
        *(
            record(
                f"llm:{what}_seconds_bucket:rate1m",
                _genai(unless_told_by(rate(f"{name}_bucket"), here, TARGET), "le"),
                src="engine",
            )
            for what, name in sources.ENGINE_HISTOGRAMS.items()
        ),
    ]
    return Group("llm-genai-servers", rules, comment="OpenTelemetry's conventions for servers, of who is no client.")


# --- Jobs -------------------------------------------------------------------------------------------------------------


def _jobs() -> RuleFile:
    per_job = ["job", *VOCABULARY, "src"]
    rules = [
        # Where rules are late, the two may be of two evaluations: some errors would seem to be more than all calls.
        record("llm:error_ratio:1m", "clamp_max(llm:errors:rate1m / (llm:requests:rate1m > 0), 1)"),
        record("llm:job_requests:rate1m", total("llm:requests:rate1m", per_job)),
        record("llm:job_errors:rate1m", total("llm:errors:rate1m", per_job)),
        record("llm:job_errors_by_type:rate1m", total("llm:errors_by_type:rate1m", [*per_job, "error_type"])),
        record("llm:job_tokens:rate1m", total("llm:tokens:rate1m", [*per_job, "direction"])),
        record("llm:job_token_details:rate1m", total("llm:token_details:rate1m", [*per_job, "kind"])),
        record("llm:job_cost_usd:rate1m", total("llm:cost_usd:rate1m", per_job)),
    ]
    for what in MEASURED:
        buckets = f"llm:job_{what}_seconds_bucket:rate1m"
        rules.append(record(buckets, total(selector(f"llm:{what}_seconds_bucket:rate1m"), [*per_job, "le"])))
        rules += [
            record(f"llm:{what}_seconds:p{percent}", quantile(percent / 100, buckets, ["job", "src"]))
            for percent in (50, 95, 99)
        ]
    header = """
All instances of a job together: what panels over a day, and over a thousand instances, can afford to read.
Quantiles are of a job and never of several: bounds differ from source to source.
"""
    return RuleFile("recording/llm-jobs.yml", header, [Group("llm-jobs", rules)])


def _errors_or_zero(errors: str, src: str) -> Rule:
    """No failed call yet is zero, not "no data"."""
    zero = f'\nor 0 * sum without (src) (llm:requests:rate1m{{src="{src}"}})'
    return record("llm:errors:rate1m", errors + zero, src=src)
