"""httpx and httpx2: the same tests for both."""

import asyncio
import contextvars
import gc
import importlib
import inspect
import weakref

import pytest

import llmvitals


@pytest.fixture(name="httpx", params=["httpx", "httpx2"])
def _httpx(request):
    return pytest.importorskip(request.param)


def requests(vitals, **labels):
    return vitals.value("http_client_request_duration_seconds_count", **labels)


def pool(vitals, library):
    return {
        dict(labels)["state"]: value
        for labels, value in vitals.samples("llmvitals_pool_connections").items()
        if dict(labels)["pool"] == library.__name__
    }


def test_a_request_by_method_server_and_status(vitals, httpx, http_server):
    """One that failed by its status names it as its error."""
    with httpx.Client() as client:
        reply = client.get(f"{http_server.url}/200?secret=1")
        client.post(f"{http_server.url}/503")

    assert type(reply) is httpx.Response
    assert b"hello" == reply.content
    assert reply.request.url.path == "/200"
    port = str(http_server.server_port)
    server = {"server_address": "127.0.0.1", "server_port": port}
    assert 1 == requests(vitals, http_request_method="GET", http_response_status_code="200", error_type="", **server)
    assert 1 == requests(
        vitals, http_request_method="POST", http_response_status_code="503", error_type="503", **server
    )
    assert "secret" not in str(vitals.samples("http_client_request_duration_seconds_count"))


def test_async_requests_too(vitals, httpx, http_server):
    """The same, and what runs inside sees the caller's context."""
    name = contextvars.ContextVar("name")
    seen = []

    async def hook(request):
        seen.append(name.get())

    async def main():
        name.set("caller")
        async with httpx.AsyncClient(event_hooks={"request": [hook]}) as client:
            return await client.get(f"{http_server.url}/200")

    assert type(asyncio.run(main())) is httpx.Response
    assert 1 == requests(vitals, http_response_status_code="200")
    assert ["caller"] == seen


def test_each_redirect_is_a_request(vitals, httpx, http_server):
    """As OpenTelemetry counts."""
    with httpx.Client(follow_redirects=True) as client:
        client.get(f"{http_server.url}/moved")

    assert 1 == requests(vitals, http_response_status_code="302", error_type="")
    assert 1 == requests(vitals, http_response_status_code="200")


def test_methods_are_few(vitals, httpx, http_server):
    """One that nobody knows is another."""
    with httpx.Client() as client:
        client.request("BREW", f"{http_server.url}/200")

    assert 1 == requests(vitals, http_request_method="_OTHER")


def test_errors_come_out_as_they_are(vitals, httpx):
    """And count by their class, without a status."""
    with httpx.Client() as client, pytest.raises(httpx.ConnectError) as raised:
        client.get("http://127.0.0.1:9/")

    assert type(raised.value) is httpx.ConnectError
    assert raised.value.request.url.port == 9
    assert 1 == requests(vitals, error_type="ConnectError", http_response_status_code="", server_port="9")


def test_a_cancelled_request_is_cancelled(vitals, httpx, http_server):
    """The task ends as cancelled, and the request counts."""

    async def main():
        async with httpx.AsyncClient() as client:
            task = asyncio.create_task(client.get(f"{http_server.url}/slow"))
            while not client._transport._pool.connections:  # noqa: ASYNC110 -- nothing of httpx's sets an event
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return task.cancelled()

    assert asyncio.run(main())
    assert 1 == requests(vitals, error_type="CancelledError")


def test_a_stream_is_the_clients_own(vitals, httpx, http_server):
    """It counts when its headers come; its connection is in use until it is closed."""
    with httpx.Client(limits=httpx.Limits(max_connections=7)) as client:
        with client.stream("GET", f"{http_server.url}/200") as reply:
            assert 1 == requests(vitals, http_response_status_code="200")
            assert {"used": 1, "idle": 0} == pool(vitals, httpx)
            assert 7 == vitals.value("llmvitals_pool_max_connections", pool=httpx.__name__)
            assert b"hello" == b"".join(reply.iter_bytes())
        assert {"used": 0, "idle": 1} == pool(vitals, httpx)
        assert 1 == vitals.value(
            "http_client_open_connections", http_connection_state="idle", server_port=str(http_server.server_port)
        )
    assert {"used": 0, "idle": 0} == pool(vitals, httpx)
    assert not vitals.value("http_client_open_connections")


def test_a_pool_without_a_limit_shows_none(vitals, httpx, http_server):
    """Nor does the sum with one that has a limit."""
    with httpx.Client(limits=httpx.Limits(max_connections=7)) as limited, httpx.Client(limits=httpx.Limits()) as free:
        limited.get(f"{http_server.url}/200")
        assert 7 == vitals.value("llmvitals_pool_max_connections", pool=httpx.__name__)
        free.get(f"{http_server.url}/200")
        assert {"used": 0, "idle": 2} == pool(vitals, httpx)
        assert vitals.value("llmvitals_pool_max_connections", pool=httpx.__name__) is None


def test_requests_that_wait_for_the_pool_are_pending(vitals, httpx, http_server):
    """As long as they do."""

    async def main():
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
            await client.get(f"{http_server.url}/200")
            tasks = [asyncio.create_task(client.get(f"{http_server.url}/slow")) for _ in range(3)]
            pending = None
            async with asyncio.timeout(10):
                while pending != 2:
                    await asyncio.sleep(0)
                    pending = vitals.value("llmvitals_pool_pending_requests", pool=httpx.__name__)
            http_server.go.set()
            await asyncio.gather(*tasks)
            return pending

    assert 2 == asyncio.run(main())
    assert 0 == vitals.value("llmvitals_pool_pending_requests", pool=httpx.__name__)


def test_a_client_that_is_gone_is_not_kept(vitals, httpx, http_server):
    """What was pooled by clients that nobody holds is forgotten."""
    with httpx.Client() as client:
        client.get(f"{http_server.url}/200")
        assert vitals.value("llmvitals_pool_max_connections", pool=httpx.__name__)
    transport = weakref.ref(client._transport)
    del client
    gc.collect()

    assert transport() is None
    assert {"used": 0, "idle": 0} == pool(vitals, httpx)


def test_other_transports_are_left_alone(vitals, httpx):
    """A mock is no request over the network."""
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204))) as client:
        assert 204 == client.get("http://nowhere/").status_code

    assert requests(vitals) is None


def test_a_fault_of_ours_stays_with_us(vitals, httpx, http_server, monkeypatch):
    """The application has its reply; the fault is counted."""
    module = importlib.import_module("llmvitals.integrations._httpx")

    def broken(*args, **kwargs):
        raise RuntimeError("ours")

    monkeypatch.setattr(module, "record_request", broken)
    with httpx.Client() as client:
        assert 200 == client.get(f"{http_server.url}/200").status_code

    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="httpx")


def test_uninstrument_restores_exactly(httpx, http_server):
    """The very same functions, which look the same while they are wrapped."""
    methods = [(httpx.HTTPTransport, "handle_request"), (httpx.AsyncHTTPTransport, "handle_async_request")]
    before = [vars(owner)[name] for owner, name in methods]
    assert httpx.__name__ in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    with httpx.Client() as client:
        assert 200 == client.get(f"{http_server.url}/200").status_code, "without vitals, nothing is recorded"
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(f) for f in before] == [inspect.signature(f) for f in during]
    assert [inspect.iscoroutinefunction(f) for f in before] == [inspect.iscoroutinefunction(f) for f in during]
    assert before == [vars(owner)[name] for owner, name in methods]


def test_the_pools_series_go_with_the_integration(httpx, http_server):
    """A number that is read no more is shown no more."""
    with llmvitals.testing.fresh() as vitals, httpx.Client() as client:
        llmvitals.instrument(vitals)
        client.get(f"{http_server.url}/200")
        assert {"used": 0, "idle": 1} == pool(vitals, httpx)
        llmvitals.uninstrument()
        assert {} == pool(vitals, httpx)
        assert vitals.value("http_client_open_connections") is None
        assert 1 == requests(vitals)


def test_timeouts_by_what_was_waited_for(vitals, httpx, http_server):
    """An answer that does not come, and a place in the pool."""
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(limits=limits, timeout=httpx.Timeout(10, read=0.05, pool=0.05)) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"{http_server.url}/slow")
        with client.stream("GET", f"{http_server.url}/200"), pytest.raises(httpx.PoolTimeout):
            client.get(f"{http_server.url}/200")

    assert {"read": 1, "pool": 1} == {
        dict(labels)["phase"]: value for labels, value in vitals.samples("llmvitals_pool_timeouts_total").items()
    }
