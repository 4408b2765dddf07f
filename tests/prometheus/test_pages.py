"""Pages of others' instrumentations and engines, in a real Prometheus, become the vocabulary: exact numbers.

pages/ holds what was recorded by pages/record.py (a page's first line says from which version), or written from
documentation, as engines/ is. Each is replayed as counters that grow by the page's own numbers every ten seconds.
"""

import contextlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests import servers

from llmvitals import testing
from llmvitals.exposition import encode

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "prometheus" / "rules" / "recording"
STEP_SECONDS = 10
# From as long ago as a rule looks back, to further than the test will take.
STEPS = range(-9, 30)
SAMPLE = re.compile(r"([\w:]+)(\{.*\})? (\S+)$")

pytestmark = pytest.mark.stack


def history(page):
    """The page at many moments, counters and histograms grown by the page's numbers from one to the next."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    now = time.time()
    lines = []
    for step in STEPS:
        at = int(1000 * (now + step * STEP_SECONDS))
        for line in page.splitlines():
            if line.startswith("#") or not line:
                continue
            name, labels, value = SAMPLE.match(line).groups()
            kind = (
                kinds.get(name) or kinds.get(re.sub(r"_(bucket|sum|count|total)$", "", name)) or kinds[f"{name}_total"]
            )
            grown = float(value) * (100 + step) if kind in {"counter", "histogram"} else float(value)
            lines.append(f"{name}{labels or ''} {grown!r} {at}")
    return "\n".join([*lines, ""]).encode()


@contextlib.contextmanager
def replayed(page):
    """A target that tells all of it at its first scrape, and then nothing more."""
    told = [history(page)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = told.pop() if told else b""
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Not on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def our_page():
    """The library's own: the calls of the recorded pages, with its counters of tokens beside its histogram."""
    with testing.fresh() as vitals:
        vitals.inference_usage()
        for _ in range(12):
            with vitals.call(provider="openai", model="talker") as call:
                call.usage(input_tokens=2, output_tokens=34)
        for _ in range(2):
            with contextlib.suppress(OSError), vitals.call(provider="openai", model="thinker"):
                raise OSError
        return encode(vitals.registry).decode()


@pytest.fixture(scope="module", name="pages")
def _pages():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*/*.prom"))}
    # The same by a proxy: it tells its callers' keys.
    told_by_proxy = pages["litellm-otel"].replace("{gen_ai_", '{metadata_user_api_key_hash="k",gen_ai_')
    return {**pages, "litellm-otel-proxy": told_by_proxy, "llmvitals": our_page()}


@pytest.fixture(scope="module", name="ask")
def _ask(pages, tmp_path_factory):
    """Asks the Prometheus that has scraped all pages; what is asked comes back per step of the replay, by one label."""
    with contextlib.ExitStack() as stack:
        targets = {name: [stack.enter_context(replayed(page))] for name, page in pages.items()}
        prometheus = stack.enter_context(
            servers.prometheus(
                tmp_path_factory.mktemp("prometheus"), targets=targets, rules=sorted(RULES.glob("*.yml"))
            )
        )
        # The last rule of the last group: all others have been evaluated on all pages then.
        silent = {"llamacpp", "litellm-proxy"}
        servers.eventually(
            lambda: (
                {each["metric"]["job"] for each in servers.query(prometheus.url, "llm:duration_seconds:p99")}
                == set(pages) - silent
                and servers.query(prometheus.url, 'llm:job_requests:rate1m{job="litellm-proxy"}')
            ),
            seconds=30,
            what="durations of every page",
        )

        def ask(promql, *labels):
            found = servers.query(prometheus.url, promql)
            return {
                " ".join(each["metric"].get(label, "") for label in labels): float(
                    f"{float(each['value'][1]) * STEP_SECONDS:.9g}"
                )
                for each in found
            }

        yield ask


REQUESTS = {
    # openai-v2, of a stream, knows neither tokens nor the first chunk.
    "openai-v2": {"client openai talker": 12, "client openai thinker": 2},
    "genai-openai": {"client openai talker": 12, "client openai thinker": 2},
    # Of a failed call OpenLLMetry tells the error and nothing else.
    "openllmetry": {"client openai talker": 12, "client  ": 2},
    "openlit": {"client openai talker": 12, "client openai thinker": 2},
    "llmvitals": {"client openai talker": 12, "client openai thinker": 2},
    # Neither side of LiteLLM counts failures where there is no proxy.
    # It has no model that was asked for, either: that is the proxy's to say.
    "litellm": {"gateway openai ": 12},
    "litellm-otel": {"client openai talker": 12},
    "litellm-otel-proxy": {"gateway openai talker": 12},
    "litellm-proxy": {"gateway openai gpt": 50},
    "genai-server": {"engine own talker": 10},
    "vllm": {"engine vllm talker": 42},
    "sglang": {"engine sglang talker": 11008},
    "llamacpp": {},
    "tgi": {"engine tgi ": 120},
}


def test_every_page_is_expected(pages):
    """A page that nobody looks at is no test."""
    assert set(REQUESTS) == set(pages)


@pytest.mark.parametrize("job", REQUESTS)
def test_requests_are_those_that_were_made(ask, job):
    """Each once, with its provider and model, and the view that it was seen from."""
    assert REQUESTS[job] == ask(f'llm:requests:rate1m{{job="{job}"}}', "src", "provider", "model")


def test_the_sum_over_clients_is_that_of_their_calls(ask):
    """Six clients of fourteen calls each, one of which tells no failures: no gateway, no engine, nothing twice."""
    assert {"": 5 * 14 + 12} == ask('sum (llm:job_requests:rate1m{src="client"})')
    assert {"": 5 * 14 + 12} == ask('sum (llm:duration_seconds_bucket:rate1m{src="client", le="+Inf"})')


def test_errors_are_those_that_failed(ask):
    """And a source that has told none has zero."""
    assert {
        **dict.fromkeys(["openai-v2", "genai-openai", "openllmetry", "openlit", "llmvitals"], 2),
        **dict.fromkeys(["litellm", "litellm-otel", "litellm-otel-proxy", "vllm"], 0),
        "litellm-proxy": 10,
        "genai-server": 1,
        "sglang": 3,
        "tgi": 2,
    } == ask("sum by (job) (llm:errors:rate1m)", "job")
    assert {"openlit thinker": STEP_SECONDS, "openlit talker": 0} == ask(
        'llm:error_ratio:1m{job="openlit"}', "job", "model"
    )


def test_errors_are_told_by_their_kind(ask):
    """In the words of whoever tells them."""
    assert {
        "genai-openai openai.InternalServerError": 2,
        "litellm-proxy Openai.RateLimitError": 10,
        "llmvitals OSError": 2,
        "openai-v2 InternalServerError": 2,
        "openlit InternalServerError": 2,
        "openllmetry InternalServerError": 2,
    } == ask("llm:errors_by_type:rate1m", "job", "error_type")


def test_tokens_are_counted_once(ask):
    """Ours and OpenTelemetry's counters stand beside a histogram of the same tokens; the histogram counts."""
    both = {
        f"{job} {direction}": tokens
        for job in (
            "genai-openai",
            "openllmetry",
            "openlit",
            "llmvitals",
            "litellm",
            "litellm-otel",
            "litellm-otel-proxy",
        )
        for direction, tokens in (("input", 24), ("output", 408))
    }

    assert {
        **both,
        "openai-v2 input": 16,
        "openai-v2 output": 272,
        "vllm input": 12000,
        "vllm output": 3400,
        "sglang input": 8128902,
        "sglang output": 7557572,
        "llamacpp input": 5120,
        "llamacpp output": 2048,
    } == ask("sum by (job, direction) (llm:tokens:rate1m)", "job", "direction")
    assert {"litellm-proxy cache_read": 70, "sglang cache_read": 4000000, "vllm cache_read": 8000} == {
        name: value for name, value in ask("llm:token_details:rate1m", "job", "kind").items() if value
    }


def test_costs_are_those_of_the_tokens(ask):
    """432 tokens at a tenth of a cent, whoever reckons."""
    assert dict.fromkeys(["litellm", "litellm-otel", "litellm-otel-proxy", "openlit"], 0.432) == ask(
        "sum by (job) (llm:cost_usd:rate1m)", "job"
    )


def test_first_and_further_chunks_are_counted_once(ask):
    """OpenLIT tells each stream's first chunk under two names; only the client's counts."""
    assert {
        **dict.fromkeys(["genai-openai", "openllmetry", "openlit", "litellm", "litellm-otel", "litellm-otel-proxy"], 4),
        "genai-server": 9,
        "vllm": 42,
        "sglang": 11008,
    } == ask('sum by (job) (llm:ttft_seconds_bucket:rate1m{le="+Inf"})', "job")
    assert {
        **dict.fromkeys(["genai-openai", "openlit"], 144),
        "litellm": 12,
        **dict.fromkeys(["litellm-otel", "litellm-otel-proxy"], 4),
        "vllm": 42,
        "sglang": 11008,
    } == ask('sum by (job) (llm:tpot_seconds_bucket:rate1m{le="+Inf"})', "job")


def test_a_quantile_lies_in_the_bucket_of_its_call(ask, pages):
    """Half of the calls took no longer than the bucket's bound that the page says they did."""
    for job, name in (
        ("genai-openai", "gen_ai_client_operation_duration_seconds"),
        ("openlit", "gen_ai_client_operation_duration_seconds"),
        ("litellm", "litellm_llm_api_latency_metric"),
        ("vllm", "vllm:e2e_request_latency_seconds"),
    ):
        buckets = {}
        for bound, count in re.findall(rf'^{name}_bucket{{.*?le="([^"]+)".*?}} (\S+)$', pages[job], re.MULTILINE):
            buckets[float(bound)] = buckets.get(float(bound), 0) + float(count)
        half = max(buckets.values()) / 2
        upper = min(bound for bound, count in buckets.items() if count >= half)
        lower = max([bound for bound in buckets if bound < upper], default=0)
        (median,) = ask(f'llm:duration_seconds:p50{{job="{job}"}}').values()

        assert lower <= median / STEP_SECONDS <= upper


def test_objectives_can_be_read_from_every_client(ask):
    """The bounds that slo.yml uses are there; OpenLLMetry's durations have none of them, and are left out."""
    found = ask('sum by (job) (llm:job_duration_seconds_bucket:rate1m{src="client", le="10.24"})', "job")

    assert {"openai-v2": 14, "genai-openai": 14, "openlit": 14, "llmvitals": 14} == found
