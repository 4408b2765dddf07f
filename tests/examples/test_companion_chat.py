"""The companion's ordinary days: chat over HTTP and WebSocket, cache, page, and what comes in wrong."""

import json

import pytest
from tests.examples.companions import companion
from tests.servers import eventually, request
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect


def streamed(answer):
    """The events of a server-sent stream, as (name, data)."""
    events = [block.split("\n", 1) for block in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]


def socket_of(running, user="wendy"):
    return connect(f"{running.url.replace('http', 'ws')}/ws?user={user}", proxy=None)


def messages_of(socket, count):
    """Messages until that many questions have ended, and the number of frames they came in."""
    messages, frames = [], 0
    while sum(message["type"] in {"done", "error"} for message in messages) < count:
        frames += 1
        messages += json.loads(socket.recv(timeout=10))["messages"]
    return messages, frames


def test_talker_answers_and_the_cache_repeats(running, faulty):
    """The second asking of a question is answered from the cache, for anybody, without a request to the model."""
    first = running.say("Is tea good for you?").json()
    second = running.say("Is tea good for you?", user="bob").json()

    assert ("talker", "primary", False) == (first["model"], first["provider"], first["cached"])
    assert (first["reply"], True) == (second["reply"], second["cached"])
    assert 1 == faulty.ledger()["models"]["talker"]["requests"]
    assert running.value("llmvitals_cache_requests_total", cache="responses", result="hit") >= 1
    assert running.value("llmvitals_operations_total", operation="talker", level="excellent") >= 1


def test_thinker_remembers_the_conversation(running, faulty):
    """The thinker is never cached, and is sent what was said before."""
    running.say("My cat is called Ada.", "thinker", user="cat")
    first = faulty.ledger()["models"]["thinker"]["input_tokens"]
    second = running.say("My cat is called Ada.", "thinker", user="cat").json()
    asked = faulty.ledger()["models"]["thinker"]["input_tokens"] - first

    assert ("thinker", False) == (second["model"], second["cached"])
    assert asked > first
    assert running.value("gen_ai_client_token_usage_count", gen_ai_request_model="thinker") >= 2


def test_attachment_reaches_the_model(running, faulty):
    """An attached text is kept and shown to the model."""
    before = running.value("llmvitals_cache_entries", cache="attachments")
    running.say("Summarise this.", "thinker", user="ida", attachment="word " * 400)

    assert faulty.ledger()["models"]["thinker"]["input_tokens"] > 400
    assert before + 1 == running.value("llmvitals_cache_entries", cache="attachments")


def test_streamed_answer(running):
    """The pieces of a stream join to the reply that its end repeats."""
    body = {"user": "sam", "message": "Tell me a long story.", "mode": "thinker"}
    events = streamed(request(f"{running.url}/v1/chat/stream", data=body))

    assert "done" == events[-1][0]
    assert events[-1][1]["reply"] == "".join(data["text"] for name, data in events if name == "delta")
    assert len(events) > 20
    assert running.value("llmvitals_stream_ends_total", reason="completed", gen_ai_provider_name="primary") >= 1
    assert running.value("gen_ai_client_operation_time_to_first_chunk_seconds_count") >= 1


def test_websocket_answers_in_batches(running):
    """Pieces come in order, many to a frame, the end last; the pool shows the connection."""
    with socket_of(running) as socket:
        socket.send(json.dumps({"message": "Tell me a long story.", "mode": "thinker"}))
        messages, frames = messages_of(socket, 1)
        used = running.value("llmvitals_pool_connections", pool="websocket", state="used")

    assert 1 == used
    assert "done" == messages[-1]["type"]
    assert messages[-1]["reply"] == "".join(message["text"] for message in messages if message["type"] == "delta")
    assert frames < len(messages) / 2
    eventually(lambda: running.value("llmvitals_pool_connections", pool="websocket", state="used") == 0)


def test_websocket_takes_questions_in_turn(running):
    """Several questions at once are answered one after the other; a bad one is told, and the rest go on."""
    with socket_of(running) as socket:
        for text in ('{"message": "One?"}', "{", '{"message": "", "mode": "talker"}', '{"message": "One?"}'):
            socket.send(text)
        messages, _ = messages_of(socket, 4)
    ends = {message["question"]: message for message in messages if message["type"] != "delta"}

    assert ["done", "error", "error", "done"] == [ends[number]["type"] for number in (1, 2, 3, 4)]
    assert "not JSON" in ends[2]["error"]
    assert ends[4]["cached"]


@pytest.mark.parametrize(("user", "sent", "code"), [("", None, 1008), ("x" * 65, None, 1008), ("ok", b"\0", 1003)])
def test_websocket_refuses(running, user, sent, code):
    """A user id that is none, and a binary frame, close the connection with a reason."""
    with socket_of(running, user) as socket:
        if sent is not None:
            socket.send(sent)
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=5)

    assert code == closed.value.rcvd.code
    assert closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"\xff\xfe\x00", 400, "not JSON"),
        (b"[" * 200_000, 400, "not JSON"),
        (b'["user"]', 400, "JSON object"),
        (b'{"message": "x"}', 422, "user must be a text of 1 to 64"),
        (b'{"user": "a\\u0000b", "message": "x"}', 422, "printable"),
        (b'{"user": "%s", "message": "x"}' % (b"u" * 65), 422, "1 to 64"),
        (b'{"user": {"$ne": 1}, "message": "x"}', 422, "user must be a text"),
        (b'{"user": "a", "message": 7}', 422, "message must be a text"),
        (b'{"user": "a", "message": "  "}', 422, "must not be empty"),
        (b'{"user": "a", "message": "\\ud83d"}', 422, "half a surrogate pair"),
        (b'{"user": "a", "message": "x", "mode": "../thinker"}', 422, "mode must be talker or thinker"),
        (b'{"user": "a", "message": "x", "mode": ["talker"]}', 422, "mode must be"),
        (b'{"user": "a", "message": "x", "model": "gpt"}', 422, "unknown: 'model'"),
        (b'{"user": "a", "message": "x", "attachment": ["y"]}', 422, "attachment must be a text"),
        (b'{"user": "a", "message": "%s"}' % (b"m" * (1024 * 1024 + 1)), 413, "message is larger"),
        (b'{"user": "a", "message": "x", "attachment": "%s"}' % (b"a" * (8 * 1024 * 1024 + 1)), 413, "attachment is"),
        (b" " * (24 * 1024 * 1024 + 1), 413, "the body is larger"),
    ],
)
def test_hostile_bodies(running, faulty, body, status, says):
    """What is not a question gets a status and says what is wrong; no model is asked."""
    answer = request(f"{running.url}/v1/chat", body=body)

    assert status == answer.status
    assert says in answer.json()["error"]
    assert 0 == faulty.ledger()["requests"]


def test_other_sites_are_refused(running):
    """Neither a page of another origin nor one whose name resolves to this machine can talk to the companion."""
    answer = request(f"{running.url}/demo/crash", method="POST", headers={"Origin": "https://evil.example"})

    assert 403 == answer.status
    assert 421 == request(f"{running.url}/v1/summary", headers={"Host": "evil.example:8080"}).status
    assert 200 == request(f"{running.url}/v1/summary", headers={"Origin": running.url}).status


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("users", {"count": 0}),
        ("users", {"count": 1.5}),
        ("users", {"count": True}),
        ("memory", {"mebibytes": 10**6}),
        ("block", {"seconds": -1}),
        ("block", {}),
    ],
)
def test_demo_faults_have_limits(running, what, body):
    """A fault is refused with its limits when asked for in the wrong measure."""
    answer = running.demo(what, **body)

    assert 422 == answer.status
    assert "must be" in answer.json()["error"]


def test_summary_tells_what_metrics_tell(running):
    """The summary has performance, breakers, checks, users and tunables in one object."""
    running.say("Is tea good for you?")
    eventually(lambda: len(request(f"{running.url}/v1/summary").json()["checks"]) == 3, what="three health checks")
    summary = request(f"{running.url}/v1/summary").json()

    assert "green" == summary["status"]
    assert {"primary": "closed", "backup": "closed"} == summary["breakers"]
    assert {"llm_primary": True, "llm_backup": True, "database": True} == summary["checks"]
    assert summary["operations"]["talker"]["count"] >= 1
    assert summary["users"]["active"] == running.value("llmvitals_user_profiles_active")


def test_a_blocked_loop_is_seen(running):
    """Blocking the loop shows in the time it was blocked."""
    running.demo("block", seconds=0.7)

    eventually(lambda: running.value("llmvitals_asyncio_loop_blocked_seconds_total") >= 0.5, what="the block")


def test_no_faults_unless_asked_for(faulty, tmp_path):
    """Without --demo-faults, there is no /demo."""
    with companion(faulty, tmp_path / "data", demo=False) as plain:
        assert 404 == plain.demo("crash").status
        assert 404 == request(f"{plain.url}/demo/ledger").status
        assert 200 == plain.say("hello").status
