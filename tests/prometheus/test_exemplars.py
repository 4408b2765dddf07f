"""From a bucket to a trace: what a real Prometheus keeps of our exemplars."""

import time
import urllib.parse
from pathlib import Path

import pytest
import yaml
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from tests import servers

from llmvitals import testing
from llmvitals.exposition import serve
from llmvitals_stack.programs import Tools, programs
from llmvitals_stack.settings import ensure, load

ROOT = Path(__file__).parents[2]
FLAG = "--enable-feature=exemplar-storage"
SPAN = SpanContext(
    0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
)


@pytest.mark.stack
def test_prometheus_tells_the_trace_behind_a_call(tmp_path):
    """With the flag that `make up` gives it; the exemplar is on the bucket and carries the call's duration."""
    with testing.fresh() as vitals, serve(vitals.registry, "127.0.0.1", 0) as shown:
        with use_span(NonRecordingSpan(SPAN)), vitals.call(provider="local", model="talker"):
            pass
        with servers.prometheus(tmp_path, targets={"app": [f"127.0.0.1:{shown.port}"]}) as prometheus:

            def exemplars():
                now = time.time()
                asked = {
                    "query": "gen_ai_client_operation_duration_seconds_bucket",
                    "start": now - 60,
                    "end": now + 60,
                }
                answer = servers.request(
                    f"{prometheus.url}/api/v1/query_exemplars?{urllib.parse.urlencode(asked)}"
                ).json()
                return answer["data"]

            (found,) = servers.eventually(exemplars, what="an exemplar in Prometheus")

    (exemplar,) = found["exemplars"]
    assert ("app", "talker") == (found["seriesLabels"]["job"], found["seriesLabels"]["gen_ai_request_model"])
    assert {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"} == exemplar["labels"]
    assert 0 < float(exemplar["value"]) <= float(found["seriesLabels"]["le"])


def test_make_up_lets_prometheus_keep_exemplars(tmp_path):
    """With Compose as without: Prometheus drops them otherwise, and says nothing."""
    for name in ("remediation", ".env.example"):
        (tmp_path / name).symlink_to(ROOT / name)
    ensure(tmp_path)
    native = programs(load(tmp_path), Tools(prometheus=Path("prometheus"), alertmanager=Path("alertmanager")))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]

    assert FLAG in next(program.command for program in native if program.name == "prometheus")
    assert FLAG in compose["prometheus"]["command"]
