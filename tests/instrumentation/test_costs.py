import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

import llmvitals
from llmvitals.exposition import encode

COST = "llmvitals_cost_usd_total"
PRICES = [
    {"provider": "local", "model": "talker*", "input": 1, "output": 4, "cached_input": 0.1, "reasoning": 8},
    {"provider": "local", "model": "embedder", "input": 0.5, "output": 0},
    {"provider": "local", "model": "later", "input": 2, "output": 2, "since": "2030-01-01"},
]
USAGE = "gen_ai_client_inference_usage_"


@pytest.fixture(name="priced")
def _priced(vitals, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"prices": PRICES}))
    vitals.prices(path)
    return vitals


def ask(vitals, model="talker", answered="", **usage):
    with vitals.call(provider="local", model=model) as call:
        call.response_model(answered)
        call.usage(**usage)


def cost(vitals, **labels):
    value = vitals.value(COST, **labels)
    return None if value is None else round(value * 1e6, 6)


def test_a_call_costs_its_tokens(priced):
    """By provider, model and kind, in dollars."""
    for _ in range(3):
        ask(priced, input_tokens=1000, output_tokens=100)

    labels = {"gen_ai_provider_name": "local", "gen_ai_request_model": "talker"}
    assert 3000 == cost(priced, **labels, kind="input")
    assert 1200 == cost(priced, **labels, kind="output")
    assert priced.value("llmvitals_unpriced_calls_total") is None


def test_cached_and_reasoning_tokens_have_their_price(priced):
    """They are part of input and output, and counted once."""
    ask(
        priced,
        input_tokens=1000,
        cached_input_tokens=600,
        cache_write_input_tokens=100,
        output_tokens=100,
        reasoning_tokens=40,
    )

    assert 60 == cost(priced, kind="cached")
    assert 400 == cost(priced, kind="input")
    assert 60 * 4 + 40 * 8 == cost(priced, kind="output")


def test_the_model_that_answered_says_the_price(priced):
    """Under the name that was asked for; and where the table does not know it, that name says the price."""
    ask(priced, model="auto", answered="talker-2026", input_tokens=10)
    ask(priced, model="talker", answered="4f2a", input_tokens=10)

    assert 10 == cost(priced, gen_ai_request_model="auto")
    assert 10 == cost(priced, gen_ai_request_model="talker")


def test_a_call_without_a_price_is_counted_and_never_guessed(priced):
    """One without usage is not among them: that is told by another family."""
    ask(priced, model="unheard-of", input_tokens=10, output_tokens=1)
    ask(priced, model="unheard-of")

    assert {(("gen_ai_provider_name", "local"), ("gen_ai_request_model", "unheard-of")): 1.0} == priced.samples(
        "llmvitals_unpriced_calls_total"
    )
    assert cost(priced) is None


def test_a_call_that_failed_costs_what_it_used(priced):
    """Providers bill a stream that broke off."""
    call = priced.call(provider="local", model="talker").start()
    call.usage(input_tokens=10)
    call.finish(ConnectionError())

    assert 10 == cost(priced, kind="input")


def test_a_price_comes_into_force_while_the_application_runs(priced, monkeypatch):
    """From the first scrape of its day."""
    ask(priced, model="later", input_tokens=10)
    monkeypatch.setattr("llmvitals._costs._today", lambda: date(2030, 1, 1))
    encode(priced.registry)
    ask(priced, model="later", input_tokens=10)

    assert 20 == cost(priced)
    assert 1 == priced.value("llmvitals_unpriced_calls_total")


def test_a_reply_in_openais_shape_tells_the_details(priced):
    """Of its chat API and of its responses API."""
    chat = SimpleNamespace(
        prompt_tokens=100,
        completion_tokens=10,
        prompt_tokens_details=SimpleNamespace(cached_tokens=60),
        completion_tokens_details=SimpleNamespace(reasoning_tokens=5),
    )
    responses = {
        "input_tokens": 100,
        "output_tokens": 10,
        "input_tokens_details": {"cached_tokens": 60},
        "output_tokens_details": {"reasoning_tokens": 5},
    }
    for usage in (chat, responses):
        with priced.call(provider="local", model="talker") as call:
            call.read({"usage": usage})

    assert 12 == cost(priced, kind="cached")
    assert 80 == cost(priced, kind="input")
    assert 2 * (20 + 40) == cost(priced, kind="output")


def test_objects_of_one_type_may_tell_their_tokens_by_other_names(priced):
    """What is known of a type is only tried first; and one with no details costs as one that has zeros."""
    names = (("prompt", "completion"), ("input", "output"))
    for given, taken in names * 2:
        usage = SimpleNamespace(**{f"{given}_tokens": 100, f"{taken}_tokens": 10})
        with priced.call(provider="local", model="talker") as call:
            call.read(SimpleNamespace(model="talker", usage=usage))
        usage = SimpleNamespace(
            **vars(usage), **{f"{given}_tokens_details": {"cached_tokens": 0}, f"{taken}_tokens_details": None}
        )
        with priced.call(provider="local", model="talker") as call:
            call.read(SimpleNamespace(model="talker", usage=usage))

    assert 800 == cost(priced, kind="input")
    assert 320 == cost(priced, kind="output")
    assert cost(priced, kind="cached") is None


def test_many_models_stay_bounded(priced, monkeypatch):
    """A model's name may be anybody's text: what is remembered of them is bounded, and sums stay exact."""
    monkeypatch.setattr("llmvitals._costs._KNOWN", 10)
    reader = priced.recorder.usage_readers["cost"]
    for number in range(1000):
        ask(priced, model=f"talker-{number}", input_tokens=1)

    assert 1000 == cost(priced, kind="input")
    assert len(reader.__self__._known) <= 10
    assert len(priced.samples(COST)) <= 2 * 500 + 2


def test_the_last_table_counts(priced, tmp_path):
    """A second one takes the first one's place, and nothing is counted twice."""
    path = tmp_path / "dearer.json"
    path.write_text(json.dumps({"prices": [{"model": "*", "input": 5, "output": 5}]}))
    ask(priced, input_tokens=10, output_tokens=0)

    priced.prices(path)
    ask(priced, input_tokens=10, output_tokens=0)

    assert 10 + 50 == cost(priced, kind="input")


def test_a_table_shows_its_budget_and_its_day(vitals, tmp_path):
    """And the next one takes back what it does not tell."""
    path = tmp_path / "prices.json"
    budget = "llmvitals_cost_budget_usd"
    path.write_text(json.dumps({"updated": "1970-01-02", "budget": {"daily_usd": 20, "monthly_usd": 9}, "prices": []}))
    vitals.prices(path)

    assert 86_400 == vitals.value("llmvitals_price_table_timestamp_seconds")
    assert {(("period", "day"),): 20.0, (("period", "month"),): 9.0} == vitals.samples(budget)

    path.write_text(json.dumps({"budget": {"monthly_usd": 30}, "prices": []}))
    vitals.prices(path)

    assert path.stat().st_mtime == vitals.value("llmvitals_price_table_timestamp_seconds")
    assert {(("period", "month"),): 30.0} == vitals.samples(budget)


def test_what_was_not_told_shows_no_zero(priced):
    """Neither of cost nor of tokens."""
    priced.inference_usage()
    for _ in range(2):
        ask(priced, input_tokens=10)

    assert 20 == cost(priced, kind="input")
    assert cost(priced, kind="output") is None
    assert cost(priced, kind="cached") is None
    assert priced.value(f"{USAGE}output_tokens_total") is None


def test_without_a_table_nothing_is_counted(vitals):
    """Neither cost nor what lacks a price."""
    ask(vitals, input_tokens=10, cached_input_tokens=5)

    assert cost(vitals) is None
    assert vitals.value("llmvitals_unpriced_calls_total") is None
    assert vitals.value(f"{USAGE}input_tokens_total") is None


def test_a_hostile_label_spoils_neither_cost_nor_call(priced):
    """It is made text, as in every family."""

    class Hostile(str):
        __slots__ = ()

        def __hash__(self):
            raise RuntimeError("unhashable")

    priced.inference_usage()

    ask(priced, model=Hostile("talker-x"), input_tokens=10)

    assert 1 == priced.value("gen_ai_client_operation_duration_seconds_count")
    assert 10 == cost(priced, kind="input")
    assert 10 == priced.value(f"{USAGE}input_tokens_total")


def test_tokens_are_counted_by_what_they_were(vitals):
    """Where it is asked for; what was not told has no counter."""
    vitals.inference_usage()
    ask(vitals, answered="talker-2026", input_tokens=10, output_tokens=5)
    ask(vitals, answered="talker-2026", input_tokens=10, cached_input_tokens=4, reasoning_tokens=0)

    labels = {"gen_ai_operation_name": "chat", "gen_ai_response_model": "talker-2026", "server_address": ""}
    assert 20 == vitals.value(f"{USAGE}input_tokens_total", **labels)
    assert 5 == vitals.value(f"{USAGE}output_tokens_total", **labels)
    assert 4 == vitals.value(f"{USAGE}cache_read_input_tokens_total", **labels)
    assert 0 == vitals.value(f"{USAGE}reasoning_output_tokens_total", **labels)
    assert vitals.value(f"{USAGE}cache_write_input_tokens_total") is None


def test_calls_known_in_full_and_in_part_add_up(priced):
    """However much is told of a call, the counters of cost and of tokens are the same ones."""
    priced.inference_usage()
    for _ in range(3):
        ask(priced, input_tokens=1000, output_tokens=100)
        ask(priced, input_tokens=1000, output_tokens=100, cached_input_tokens=0, reasoning_tokens=0)
        ask(priced, input_tokens=1000, output_tokens=100, cached_input_tokens=500, reasoning_tokens=50)
        ask(priced, input_tokens=1000)

    assert 3 * (3 * 1000 + 500) == cost(priced, kind="input")
    assert 3 * 50 == cost(priced, kind="cached")
    assert 3 * (2 * 400 + 200 + 400) == cost(priced, kind="output")
    assert 12_000 == priced.value(f"{USAGE}input_tokens_total")
    assert 900 == priced.value(f"{USAGE}output_tokens_total")
    assert 1500 == priced.value(f"{USAGE}cache_read_input_tokens_total")
    assert 150 == priced.value(f"{USAGE}reasoning_output_tokens_total")


@pytest.mark.parametrize("details", [{}, {"cached_input_tokens": 2}], ids=["plain", "detailed"])
def test_tokens_below_nothing_are_a_fault_and_the_call_is_counted(vitals, details):
    """A counter only goes up; what a server reports in error takes neither the call nor the rest along."""
    vitals.inference_usage()
    for tokens in (10, -10):
        ask(vitals, input_tokens=tokens, output_tokens=5, **details)

    assert 2 == vitals.value("gen_ai_client_operation_duration_seconds_count")
    assert 0 == vitals.value("llmvitals_calls_in_flight")
    assert 10 == vitals.value(f"{USAGE}input_tokens_total")
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="calls")


def test_start_takes_both_from_the_environment(monkeypatch, caplog):
    """The table of the demo is one that can be read; what is no switch is said, and off."""
    monkeypatch.setenv("LLMVITALS_PRICES", str(Path(__file__).parents[2] / "examples" / "prices.json"))
    readers = []
    for text in ("1", "maybe"):
        monkeypatch.setenv("LLMVITALS_INFERENCE_USAGE", text)
        with llmvitals.start(port=0, registry=CollectorRegistry()) as vitals:
            readers.append(len(vitals.recorder.usage_readers))
            ask(vitals, model="thinker", input_tokens=1_000_000, output_tokens=1_000_000)
            shown = {
                sample.value for family in vitals.registry.collect() for sample in family.samples if sample.name == COST
            }
            assert {1.0, 4.0} == shown

    assert [2, 1] == readers
    assert ["llmvitals: LLMVITALS_INFERENCE_USAGE='maybe' is neither 1 nor 0; taken as 0"] == caplog.messages
