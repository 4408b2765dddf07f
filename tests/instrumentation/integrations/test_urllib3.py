"""urllib3, and requests on it."""

import inspect
import threading

import pytest
import requests
import urllib3
from tests.servers import eventually
from urllib3.connectionpool import HTTPConnectionPool

import llmvitals
from llmvitals.agent._http import Controller

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


def durations(vitals, **labels):
    return vitals.value("http_client_request_duration_seconds_count", **labels)


def test_a_request_by_method_server_and_status(vitals, http_server):
    """Through requests, with an error by its status."""
    with requests.Session() as session:
        reply = session.get(f"{http_server.url}/200?secret=1", timeout=10)
        session.post(f"{http_server.url}/503", timeout=10)

    assert type(reply) is requests.Response
    assert b"hello" == reply.content
    server = {"server_address": "127.0.0.1", "server_port": str(http_server.server_port)}
    assert 1 == durations(vitals, http_request_method="GET", http_response_status_code="200", error_type="", **server)
    assert 1 == durations(vitals, http_response_status_code="503", error_type="503", **server)
    assert "secret" not in str(vitals.samples("http_client_request_duration_seconds_count"))


def test_each_retry_and_redirect_is_a_request(vitals, http_server):
    """As OpenTelemetry counts."""
    with urllib3.PoolManager() as manager:
        manager.request("GET", f"{http_server.url}/moved")
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            manager.request("GET", f"{http_server.url}/503", retries=urllib3.Retry(2, status_forcelist={503}))

    assert 1 == durations(vitals, http_response_status_code="302")
    assert 1 == durations(vitals, http_response_status_code="200")
    assert 3 == durations(vitals, http_response_status_code="503")


def test_errors_come_out_as_they_are(vitals):
    """And count by the class that urllib3 gave them."""
    with pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:9/", timeout=10)

    assert 1 == durations(vitals, error_type="NewConnectionError", http_response_status_code="", server_port="9")


def test_the_pool_is_read_when_it_is_scraped(vitals, http_server):
    """Used while the body is unread, idle after."""
    with requests.Session() as session:
        reply = session.get(f"{http_server.url}/200", stream=True, timeout=10)
        assert 1 == vitals.value("llmvitals_pool_connections", pool="urllib3", state="used")
        assert b"hello" == reply.content
        assert 0 == vitals.value("llmvitals_pool_connections", pool="urllib3", state="used")
        assert 1 == vitals.value("llmvitals_pool_connections", pool="urllib3", state="idle")
        assert vitals.value("llmvitals_pool_max_connections", pool="urllib3") is None, "it opens more when it is full"
        assert 1 == vitals.value("http_client_open_connections", http_connection_state="idle")
        del reply  # It holds the pool.
    assert not vitals.value("http_client_open_connections")


def test_the_wait_for_a_blocking_pool_is_seen(vitals, http_server):
    """Pending as long as it lasts, and timed; a pool that never blocks has no wait."""
    with urllib3.HTTPConnectionPool("127.0.0.1", http_server.server_port, maxsize=1, block=True) as pool:
        threads = [threading.Thread(target=pool.request, args=("GET", "/slow")) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(
            lambda: vitals.value("llmvitals_pool_pending_requests", pool="urllib3") == 1, what="one waits for the other"
        )
        http_server.go.set()
        for thread in threads:
            thread.join()

        assert 1 == vitals.value("llmvitals_pool_max_connections", pool="urllib3")
    assert 0 == vitals.value("llmvitals_pool_pending_requests", pool="urllib3")
    assert 2 == vitals.value("llmvitals_pool_wait_seconds_count", pool="urllib3")


def test_the_agents_own_requests_are_not_the_applications(vitals, http_server, tmp_path):
    """Its long polls would drown them."""
    token = tmp_path / "token"
    token.write_text("secret")
    controller = Controller(http_server.url, token)
    assert b"hello" == controller.poll({}, wait_seconds=0)
    controller.close()

    assert durations(vitals) is None


def test_uninstrument_restores_exactly():
    """The very same functions."""
    names = ["_make_request", "_get_conn"]
    before = [vars(HTTPConnectionPool)[name] for name in names]
    assert "urllib3" in llmvitals.instrument()
    during = [vars(HTTPConnectionPool)[name] for name in names]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(f) for f in before] == [inspect.signature(f) for f in during]
    assert before == [vars(HTTPConnectionPool)[name] for name in names]


def test_timeouts_by_what_was_waited_for(vitals, http_server):
    """An answer that does not come, and a place in the pool."""
    with urllib3.HTTPConnectionPool("127.0.0.1", http_server.server_port, maxsize=1, block=True, retries=False) as pool:
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            pool.request("GET", "/slow", timeout=0.05)
        held = pool.request("GET", "/200", preload_content=False)
        with pytest.raises(urllib3.exceptions.EmptyPoolError):
            pool.urlopen("GET", "/200", pool_timeout=0.05)
        held.drain_conn()
        held.release_conn()

    assert {"read": 1, "pool": 1} == {
        dict(labels)["phase"]: value for labels, value in vitals.samples("llmvitals_pool_timeouts_total").items()
    }
