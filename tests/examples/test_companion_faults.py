"""The companion when its providers fail, stall, lie or are gone."""

import contextlib
import http.client
import json
import threading
import urllib.parse

from tests.examples.companions import companion
from tests.examples.test_companion_chat import streamed
from tests.servers import eventually, request

NEVER = "--breaker-failures=1000"


def stream(fresh, message="Tell me a story.", mode="talker"):
    return request(f"{fresh.url}/v1/chat/stream", data={"user": "sam", "message": message, "mode": mode})


@contextlib.contextmanager
def asked(fresh, path, message="Tell me a story."):
    """A connection that has asked, and that is closed at the end, answered or not."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(fresh.url).netloc, timeout=10)
    connection.request("POST", path, json.dumps({"user": "leo", "message": message, "mode": "thinker"}))
    with contextlib.closing(connection):
        yield connection


@contextlib.contextmanager
def open_stream(fresh, message="Tell me a story."):
    """A stream whose first event was read, and that can be left at any time."""
    with asked(fresh, "/v1/chat/stream", message) as connection, connection.getresponse() as response:
        yield response


def test_retries_then_fallback(faulty, tmp_path):
    """A failing provider is tried four times, each retry counted, then the other one answers."""
    faulty.turn(error_ratio=1, error_status=503, retry_after_seconds=0)
    with companion(faulty, tmp_path / "data", NEVER) as patient:
        reply = patient.say("hello").json()

        assert "backup" == reply["provider"]
        assert {"error_503": 4} == faulty.ledger()["outcomes"]
        assert 3 == patient.value("llmvitals_retries_total", name="llm", error_type="503")
        assert 1 == patient.value("llmvitals_retries_exhausted_total", name="llm")
        assert 4 == patient.value("llmvitals_attempts_total", name="llm", outcome="retryable")
        assert 1 == patient.value("llmvitals_circuit_breaker_fallbacks_total", name="llm_primary")
        failed = patient.value(
            "gen_ai_client_operation_duration_seconds_count", gen_ai_provider_name="primary", error_type="503"
        )
        assert 4 == failed


def test_a_passing_fault_is_retried_away(faulty, tmp_path):
    """When every second request fails, every answer comes, from the first provider mostly."""
    faulty.turn(error_ratio=0.5, error_status=429, retry_after_seconds=0)
    with companion(faulty, tmp_path / "data", NEVER, "--retries=10") as patient:
        replies = [patient.say(f"hello {number}").json() for number in range(6)]

        assert {"primary"} == {reply["provider"] for reply in replies}
        assert patient.value("llmvitals_retries_total", error_type="429") >= 1


def test_retry_after_is_respected(faulty, tmp_path):
    """A retry comes no sooner than the provider asked for."""
    faulty.turn(error_ratio=1, error_status=429, retry_after_seconds=0.6)
    with companion(faulty, tmp_path / "data", "--retries=1") as hasty:
        assert hasty.say("hello").json()["seconds"] >= 0.6


def test_breaker_opens_and_recovers(fresh, faulty):
    """After five failures no request reaches the provider; when it is well again, the breaker closes by itself."""
    faulty.turn(error_ratio=1)
    for number in range(3):
        assert "backup" == fresh.say(f"hello {number}").json()["provider"]
    assert faulty.ledger()["requests"] < 8
    assert fresh.value("llmvitals_circuit_breaker_transitions_total", name="llm_primary", to_state="open") >= 1
    assert fresh.value("llmvitals_circuit_breaker_calls_total", name="llm_primary", outcome="rejected") >= 1

    faulty.reset()
    eventually(lambda: fresh.say("are you there?", "thinker").json()["provider"] == "primary", what="recovery")
    assert 1 == fresh.value("llmvitals_circuit_breaker_state", name="llm_primary", state="closed")


def test_a_refused_connection_fails_over_and_back(fresh, faulty):
    """A provider that is gone is replaced, its health check fails; when it is back, both go back."""
    fresh.say("hello")
    faulty.turn(refuse=True)

    assert "backup" == fresh.say("hello", "thinker").json()["provider"]
    eventually(lambda: fresh.value("llmvitals_health_check_status", check="llm_primary") == 0, what="a failed check")
    assert "yellow" == request(f"{fresh.url}/v1/summary").json()["status"]

    faulty.turn(refuse=False)
    eventually(lambda: fresh.value("llmvitals_health_check_status", check="llm_primary") == 1, what="a passed check")
    eventually(lambda: fresh.say("hello", "thinker").json()["provider"] == "primary", what="the way back")


def test_nobody_answers(fresh, faulty):
    """With both providers gone, the answer is 503 with a time to come back, plain and streamed."""
    faulty.turn("primary", refuse=True)
    faulty.turn("backup", refuse=True)

    for answer in (fresh.say("hello"), stream(fresh)):
        assert 503 == answer.status
        assert "5" == {name.lower(): value for name, value in answer.headers.items()}["retry-after"]
        assert "no model answers" in answer.json()["error"]


def test_what_is_our_own_fault_is_not_retried(fresh, faulty):
    """What the provider refuses for good is passed on as 502 at once; no retry, and no failure to the breaker."""
    statuses = (400, 401, 404, 422)
    for status in statuses:
        faulty.turn(error_ratio=1, error_status=status)
        answer = fresh.say("hello")

        assert 502 == answer.status
        assert "dials of faulty_llm" in answer.json()["error"]

    assert {f"error_{status}": 1 for status in statuses} == faulty.ledger()["outcomes"]
    assert 0 == faulty.ledger("backup")["requests"]
    assert 4 == fresh.value("llmvitals_circuit_breaker_calls_total", name="llm_primary", outcome="ignored")


def test_a_stalled_stream_breaks_off(faulty, tmp_path):
    """A stream that falls silent ends with an error event after what came; nothing stays open."""
    faulty.turn(stall_after_chunks=3)
    with companion(faulty, tmp_path / "data", "--llm-stall-seconds=0.5") as impatient:
        events = streamed(stream(impatient))

        assert ["delta", "delta", "delta", "error"] == [name for name, _ in events]
        assert "primary broke off" in events[-1][1]["error"]
        assert 1 == impatient.value("llmvitals_stream_ends_total", reason="timeout")
        eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the stream's end at the provider")


def test_streams_that_stall_open_the_breaker(faulty, tmp_path):
    """A provider that begins each answer and ends none is left alone after a few, though each first word came."""
    faulty.turn(stall_after_chunks=3)
    few = ("--llm-stall-seconds=0.3", "--breaker-failures=2", "--breaker-reset-seconds=60")
    with companion(faulty, tmp_path / "data", *few) as impatient:
        ends = [streamed(stream(impatient, f"Story {number}?"))[-1] for number in range(3)]

        assert ["error", "error", "done"] == [name for name, _ in ends]
        assert "backup" == ends[-1][1]["provider"]
        assert 2 == faulty.ledger()["requests"]
        breaker = "llmvitals_circuit_breaker_calls_total"
        assert 2 == impatient.value(breaker, name="llm_primary", outcome="failure")
        assert 1 == impatient.value(breaker, name="llm_primary", outcome="rejected")
        # Three first words and no refused call: what the companion's own retries count is attempts.
        assert 3 == impatient.value("llmvitals_attempts_total", name="llm", outcome="success")
        assert 0 == impatient.value("llmvitals_attempts_total", name="llm", outcome="fatal")


def test_a_stream_that_never_begins_fails_over(faulty, tmp_path):
    """A stream that stalls before its first word is given to the other provider, and nobody notices."""
    faulty.turn(stall_after_chunks=0)
    with companion(faulty, tmp_path / "data", "--llm-stall-seconds=0.3", "--retries=0") as impatient:
        events = streamed(stream(impatient))

        assert ("done", "backup") == (events[-1][0], events[-1][1]["provider"])


def test_malformed_replies(fresh, faulty):
    """Plain replies that are cut, empty or null count as failures, and the other provider answers."""
    faulty.turn(malformed_ratio=1)

    assert {"backup"} == {fresh.say(f"hello {number}").json()["provider"] for number in range(4)}
    assert 0 == fresh.value("llmvitals_instrumentation_errors_total")


def test_malformed_chunks(fresh, faulty):
    """A chunk without text passes, a cut one ends the stream with an error event; the companion lives."""
    faulty.turn(malformed_ratio=0.1)
    ends = {streamed(stream(fresh, f"Tell me story {number}.", "thinker"))[-1][0] for number in range(6)}

    assert "error" in ends
    assert ends <= {"error", "done"}
    assert fresh.value("llmvitals_stream_ends_total", reason="error") >= 1
    assert 0 == fresh.value("llmvitals_calls_in_flight")
    faulty.reset()
    assert "done" == streamed(stream(fresh))[-1][0]


def test_a_client_that_leaves_frees_the_stream(fresh, faulty):
    """When the person leaves in mid-stream, the request to the model ends too."""
    faulty.turn(stall_after_chunks=3)
    with open_stream(fresh) as response:
        assert response.readline().startswith(b"event: delta")
        assert 1 == faulty.ledger()["in_flight"]

    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the end of the request to the model")
    eventually(lambda: fresh.value("llmvitals_calls_in_flight") == 0, what="no call in flight")
    eventually(lambda: fresh.value("llmvitals_pool_connections", pool="llm_primary", state="used") == 0)


def test_a_client_that_leaves_before_its_answer_frees_the_model(fresh, faulty):
    """A plain question is given up with the person who asked it; the next one is answered."""
    faulty.turn(latency_seconds=60)
    with asked(fresh, "/v1/chat"):
        eventually(lambda: faulty.ledger()["in_flight"] == 1, what="the request to the model")

    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the end of the request to the model")
    eventually(lambda: fresh.value("llmvitals_calls_in_flight") == 0, what="no call in flight")
    assert 0 == fresh.value("llmvitals_circuit_breaker_calls_total", name="llm_primary", outcome="failure")
    faulty.reset()
    assert "primary" == fresh.say("are you there?").json()["provider"]


def test_more_streams_than_connections_wait(faulty, tmp_path):
    """With two connections, the third stream waits and is seen waiting; then it is served."""
    faulty.turn(stall_after_chunks=2)
    answers = []
    with companion(faulty, tmp_path / "data", "--llm-connections=2") as narrow, contextlib.ExitStack() as streams:
        for number in range(2):
            streams.enter_context(open_stream(narrow, f"Story {number}?")).readline()
        third = threading.Thread(target=lambda: answers.append(narrow.say("A third?", "thinker")))
        third.start()
        eventually(
            lambda: narrow.value("llmvitals_pool_pending_requests", pool="llm_primary") == 1, what="a waiting request"
        )
        assert 2 == narrow.value("llmvitals_pool_connections", pool="llm_primary", state="used")

        faulty.turn(stall_after_chunks=None)
        third.join(20)

    assert [200] == [answer.status for answer in answers]
