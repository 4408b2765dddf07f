"""The page of metrics that faulty_llm has as a vLLM server."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families
from tests.servers import request


def page(faulty):
    return {
        (sample.name, sample.labels["model_name"]): sample.value
        for family in text_string_to_metric_families(request(f"{faulty.providers['primary']}/metrics").text)
        for sample in family.samples
        if not {"le", "finished_reason"} & sample.labels.keys()
    }


def ask(faulty, model="talker"):
    body = {"model": model, "messages": [{"role": "user", "content": "The same long question, asked twice over. " * 4}]}
    return request(f"{faulty.url()}/chat/completions", data=body)


def test_what_was_served_is_told(faulty):
    """Counters and durations are those of the requests that were served; a prompt that comes again is in the cache."""
    before = defaultdict(float, page(faulty))
    ask(faulty)
    told = ask(faulty).json()["usage"]
    after = page(faulty)
    grown = {name: value - before[name, model] for (name, model), value in after.items() if model == "talker"}

    assert 2 * told["prompt_tokens"] == grown["vllm:prompt_tokens_total"] == grown["vllm:prefix_cache_queries_total"]
    assert 2 * told["completion_tokens"] == grown["vllm:generation_tokens_total"]
    assert 2 == grown["vllm:e2e_request_latency_seconds_count"] == grown["vllm:time_to_first_token_seconds_count"]
    assert 2 * told["completion_tokens"] - 2 == grown["vllm:inter_token_latency_seconds_count"]
    assert told["prompt_tokens"] // 16 * 16 <= grown["vllm:prefix_cache_hits_total"] < 2 * told["prompt_tokens"]
    assert 0 == after["vllm:num_requests_running", "talker"] == after["vllm:num_requests_waiting", "thinker"]


def test_the_dials_are_told(faulty):
    """A queue and a full cache, which puts requests back, are told as the dials say."""
    faulty.turn(requests_waiting=7, kv_cache_usage=0.97)
    first = page(faulty)

    assert (7, 0.97) == (first["vllm:num_requests_waiting", "talker"], first["vllm:kv_cache_usage_perc", "talker"])
    assert first["vllm:num_preemptions_total", "talker"] < page(faulty)["vllm:num_preemptions_total", "talker"]


def test_a_model_that_is_gone(faulty):
    """It has no series, is not listed, and is refused as one that does not exist; the other is served on."""
    faulty.turn(models={"thinker": {"loaded": 0}})

    assert {"talker"} == {model for _, model in page(faulty)}
    assert ["talker"] == [model["id"] for model in request(f"{faulty.url()}/models").json()["data"]]
    assert (404, 200) == (ask(faulty, "thinker").status, ask(faulty).status)
