"""The agents' endpoints over real sockets."""

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.remediation.web_service import AGENT, INGEST, build, listening, open_store, services
from tests.servers import eventually, request

from llmvitals_remediation.protocol import Command, CommandResult

NAME = "shop@127.0.0.1:9464"


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents")
    store = open_store(folder)
    yield services(folder, engine=None, store=store)
    store.close()


@pytest.fixture(name="url", scope="module")
def _url(service):
    with listening(build(service)) as url:
        yield url


def hello(agent_id=NAME, *, boot_id="boot-1", wait_seconds=5, **others):
    return {
        "protocol": 1,
        "agent_id": agent_id,
        "boot_id": boot_id,
        "service": "shop",
        "pid": 7,
        "started_at": time.time(),
        "wait_seconds": wait_seconds,
        **others,
    }


def poll(url, body, *, token=AGENT):
    return request(f"{url}/api/v1/agent/poll", data=body, token=token)


def report(url, attempt_id, *, agent_id=NAME, boot_id="boot-1", **others):
    body = {"agent_id": agent_id, "boot_id": boot_id, "attempt_id": attempt_id, "verb": "drop_caches"}
    return request(
        f"{url}/api/v1/agent/results",
        data={**body, "status": "done", "result": {"entries": 3}, "error": None, "refusal": None, **others},
        token=AGENT,
    )


def command(attempt_id, boot_id="boot-1"):
    return Command(attempt_id, 4, boot_id, time.time() + 30, "drop_caches", {"cache": "responses"})


def test_a_command_goes_to_the_agent_and_its_result_comes_back(url, service):
    """Poll, command, result, 204; the executor's thread gets the answer."""
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(poll, url, hello())
        eventually(lambda: NAME in service.hub.connected(), what="the agent's poll")
        answer = pool.submit(service.hub.dispatch, NAME, command("a-1"), timeout=10)
        commands = waiting.result(10).json()["commands"]
        told = report(url, "a-1")
        result = answer.result(10)

    assert [("a-1", 4, "boot-1", "drop_caches", {"cache": "responses"})] == [
        (c["attempt_id"], c["fence"], c["boot_id"], c["verb"], c["parameters"]) for c in commands
    ]
    assert (204, "") == (told.status, told.text)
    assert CommandResult("a-1", "boot-1", "done", {"entries": 3}) == result


def test_a_poll_without_news_ends_empty_after_its_wait(url):
    """The agent polls again at once; nothing is held open for ever."""
    started = time.monotonic()
    answer = poll(url, hello("idle", wait_seconds=0.2))

    assert (200, {"commands": []}) == (answer.status, answer.json())
    assert time.monotonic() - started < 3


def test_a_command_survives_the_death_of_the_poll_that_would_have_carried_it(url, service):
    """The connection closes while the poll waits; the next poll gets the command."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request(
        "POST",
        "/api/v1/agent/poll",
        body=json.dumps(hello("flaky", wait_seconds=20)),
        headers={"Authorization": f"Bearer {AGENT}"},
    )
    eventually(lambda: "flaky" in service.hub.connected(), what="the first poll")
    connection.close()
    eventually(lambda: service.hub._agents["flaky"].poll is None, what="the end of the first poll")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.hub.dispatch, "flaky", command("a-2"), timeout=10)
        commands = poll(url, hello("flaky")).json()["commands"]
        report(url, "a-2", agent_id="flaky")
        answer.result(10)

    assert ["a-2"] == [c["attempt_id"] for c in commands]


def test_a_hundred_agents_wait_at_the_same_time_and_the_rest_of_the_service_answers(url, service):
    """Long polls cost a task each, no thread."""
    release = threading.Event()

    def wait(number):
        answer = poll(url, hello(f"agent-{number}", wait_seconds=10))
        release.wait(10)
        return answer.json()["commands"]

    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(wait, number) for number in range(100)]
        eventually(
            lambda: sum(name.startswith("agent-") for name in service.hub.connected()) == 100, what="100 waiting agents"
        )
        healthy = request(f"{url}/healthz", timeout=5).status
        answers = [
            pool_answer
            for number in range(100)
            if (pool_answer := _told(service, f"agent-{number}", f"b-{number}")) is None
        ]
        release.set()
        commands = [future.result(10) for future in waiting]

    assert 200 == healthy
    assert 100 == len(answers)
    assert [[f"b-{number}"] for number in range(100)] == [[c["attempt_id"] for c in told] for told in commands]


def _told(service, agent_id, attempt_id):
    return service.hub.dispatch(agent_id, command(attempt_id), timeout=0.02)


@pytest.mark.parametrize("token", [None, INGEST, "wrong-token-0123456789"])
def test_only_the_agent_token_opens_the_agents_endpoints(url, token):
    """The token of Alertmanager does not."""
    assert [401, 401] == [
        poll(url, hello(wait_seconds=0), token=token).status,
        request(f"{url}/api/v1/agent/results", data={}, token=token).status,
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("poll", b"not json", 400),
        ("poll", b"[]", 400),
        ("poll", b'{"protocol": 2}', 400),
        ("poll", b"[" * 50_000, 400),
        ("poll", b"9" * 10_000, 400),
        ("poll", b'{"a": "' + b"x" * 300_000 + b'"}', 413),
        ("results", b'{"agent_id": "a"}', 400),
        ("results", b'{"a": "' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
def test_a_hostile_body_gets_a_reason_and_harms_nothing(url, path, body, status):
    """Whoever has the agents' token still cannot make the service stumble."""
    answer = request(f"{url}/api/v1/agent/{path}", body=body, token=AGENT, method="POST")

    assert status == answer.status
    assert answer.json()["error"]
    assert 200 == poll(url, hello("good", wait_seconds=0)).status


def test_a_service_that_stops_sends_polls_home_with_503(tmp_path):
    """Agents back off and come again, to whoever starts next."""
    store = open_store(tmp_path)
    service = services(tmp_path, engine=None, store=store)
    with listening(build(service)) as url, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(poll, url, hello(wait_seconds=20))
        eventually(lambda: NAME in service.hub.connected(), what="the poll")
        service.hub.close()
        statuses = [waiting.result(10).status, poll(url, hello()).status]
    store.close()

    assert [503, 503] == statuses
