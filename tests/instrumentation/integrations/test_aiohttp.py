import asyncio
import gc
import inspect
import weakref

import pytest

import llmvitals

aiohttp = pytest.importorskip("aiohttp")


@pytest.fixture(name="run")
def _run(vitals):
    """Run an async function that is given a session."""

    def run(function, **settings):
        async def main():
            async with aiohttp.ClientSession(**settings) as session:
                return await function(session)

        return asyncio.run(main())

    return run


def requests(vitals, **labels):
    return vitals.value("http_client_request_duration_seconds_count", **labels)


def connections(vitals):
    return {
        dict(labels)["state"]: value
        for labels, value in vitals.samples("llmvitals_pool_connections").items()
        if dict(labels)["pool"] == "aiohttp"
    }


def acquired(vitals):
    return {
        dict(labels)["connection"]: value for labels, value in vitals.samples("llmvitals_pool_acquired_total").items()
    }


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- nothing of aiohttp's sets an event
            await asyncio.sleep(0)


async def pending(vitals, wanted):
    """Wait until so many requests wait for a connection."""
    await until(lambda: wanted == vitals.value("llmvitals_pool_pending_requests", pool="aiohttp"))


def test_a_request_by_method_server_and_status(vitals, run, http_server):
    """One that failed by its status names it as its error; what is idle is reused."""

    async def ask(session):
        async with session.get(f"{http_server.url}/200?secret=1") as reply:
            assert type(reply) is aiohttp.ClientResponse
            assert b"hello" == await reply.read()
        async with session.request("BREW", f"{http_server.url}/503") as reply:
            await reply.read()
        assert {"used": 0, "idle": 1} == connections(vitals)

    run(ask)

    server = {"server_address": "127.0.0.1", "server_port": str(http_server.server_port)}
    assert 1 == requests(vitals, http_request_method="GET", http_response_status_code="200", error_type="", **server)
    assert 1 == requests(
        vitals, http_request_method="_OTHER", http_response_status_code="503", error_type="503", **server
    )
    assert {"new": 1, "reused": 1} == acquired(vitals)
    assert 0 == vitals.value("http_client_active_requests", http_request_method="GET", **server)
    assert "secret" not in str(vitals.samples("http_client_request_duration_seconds_count"))


def test_each_redirect_is_a_request(vitals, run, http_server):
    """As OpenTelemetry counts."""

    async def ask(session):
        async with session.get(f"{http_server.url}/moved") as reply:
            await reply.read()

    run(ask)

    assert 1 == requests(vitals, http_response_status_code="302", error_type="")
    assert 1 == requests(vitals, http_response_status_code="200")
    assert {0} == set(vitals.samples("http_client_active_requests").values())


def test_a_connection_is_in_use_while_its_answer_is_awaited(vitals, run, http_server):
    """By the host that it leads to; a pool's limit is shown, and with the session all is gone."""

    async def ask(session):
        task = asyncio.create_task(session.get(f"{http_server.url}/slow"))
        active = {"http_connection_state": "active", "server_port": str(http_server.server_port)}
        await until(lambda: 1 == vitals.value("http_client_open_connections", **active))
        assert 1 == vitals.value("http_client_active_requests")
        assert {"used": 1, "idle": 0} == connections(vitals)
        assert 7 == vitals.value("llmvitals_pool_max_connections", pool="aiohttp")
        http_server.go.set()
        await (await task).read()
        assert {"used": 0, "idle": 1} == connections(vitals)
        assert not vitals.value("http_client_open_connections", **active)

    async def main():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=7)) as session:
            await ask(session)

    asyncio.run(main())
    assert {"used": 0, "idle": 0} == connections(vitals)
    assert not vitals.value("http_client_open_connections")


def test_requests_that_wait_for_the_pool(vitals, run, http_server):
    """They are pending, and their wait is timed, even when it is in vain."""

    async def main():
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            slow = asyncio.create_task(session.get(f"{http_server.url}/slow"))
            next_one = asyncio.create_task(session.get(f"{http_server.url}/200"))
            given_up = asyncio.create_task(session.get(f"{http_server.url}/200"))
            await pending(vitals, 2)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            await pending(vitals, 1)
            http_server.go.set()
            await (await slow).read()
            await (await next_one).read()
            await pending(vitals, 0)
            return given_up.cancelled()

    assert asyncio.run(main())
    assert 2 == vitals.value("llmvitals_pool_wait_seconds_count", pool="aiohttp")
    assert 1 == requests(vitals, error_type="CancelledError")
    assert 2 == requests(vitals, error_type="")


@pytest.mark.parametrize(
    ("timeout", "phase"), [({"total": 0.05}, "read"), ({"sock_read": 0.05}, "read"), ({"connect": 0.05}, "pool")]
)
def test_timeouts_by_what_was_waited_for(vitals, http_server, timeout, phase):
    """The errors are aiohttp's own."""

    async def main():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            limits = aiohttp.ClientTimeout(**timeout)
            if phase == "pool":
                slow = asyncio.create_task(session.get(f"{http_server.url}/slow"))
                await asyncio.sleep(0)
                with pytest.raises(aiohttp.ConnectionTimeoutError):
                    await session.get(f"{http_server.url}/200", timeout=limits)
                http_server.go.set()
                await (await slow).read()
            else:
                with pytest.raises(TimeoutError):
                    await session.get(f"{http_server.url}/slow", timeout=limits)

    asyncio.run(main())
    assert {phase: 1} == {
        dict(labels)["phase"]: value for labels, value in vitals.samples("llmvitals_pool_timeouts_total").items()
    }


def test_errors_come_out_as_they_are(vitals, run):
    """No frame of the tracing is in them; the host is the one that was asked."""

    async def ask(session):
        with pytest.raises(aiohttp.ClientConnectorError) as raised:
            await session.get("http://127.0.0.1:9/")
        return raised

    raised = run(ask)

    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert raised.value.__context__ is raised.value.__cause__
    ours = [entry.path.name for entry in raised.traceback if "llmvitals" in str(entry.path)]
    assert ["_aiohttp.py"] == ours, "connect() alone"
    assert 1 == requests(vitals, error_type="ClientConnectorError", server_address="127.0.0.1", server_port="9")
    assert 0 == vitals.value("http_client_active_requests")


def test_the_applications_own_tracing_stays(vitals, http_server):
    """Its list is not touched, and its handlers see the same; a session from before `instrument` is watched, too."""
    seen = []
    theirs = aiohttp.TraceConfig()

    async def on_end(session, context, params):
        seen.append((context.trace_request_ctx, params.response.status))

    theirs.on_request_end.append(on_end)
    configs = [theirs]

    async def main():
        llmvitals.uninstrument()
        async with aiohttp.ClientSession(trace_configs=configs) as session:
            async with session.get(f"{http_server.url}/200", trace_request_ctx="mine"):
                pass
            llmvitals.instrument(vitals)
            async with session.get(f"{http_server.url}/200", trace_request_ctx="mine"):
                pass
            assert [theirs] == configs
            llmvitals.uninstrument()
            assert session.trace_configs is configs
            async with session.get(f"{http_server.url}/200", trace_request_ctx="mine"):
                pass

    asyncio.run(main())
    assert [("mine", 200)] * 3 == seen
    assert 1 == requests(vitals)


def test_a_session_that_is_gone_is_not_kept(vitals, http_server):
    """Nor its connector."""

    async def main():
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{http_server.url}/200") as reply:
                await reply.read()
            return weakref.ref(session), weakref.ref(session.connector)

    kept = asyncio.run(main())
    gc.collect()

    assert [None, None] == [reference() for reference in kept]


def test_a_fault_of_ours_stays_with_us(vitals, run, http_server, monkeypatch):
    """The application has its reply; the fault is counted."""
    import llmvitals.integrations._aiohttp as ours

    def broken(*args, **kwargs):
        raise RuntimeError("ours")

    monkeypatch.setattr(ours, "record_request", broken)

    async def ask(session):
        async with session.get(f"{http_server.url}/200") as reply:
            return reply.status

    assert 200 == run(ask)
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="aiohttp")


def test_uninstrument_restores_exactly():
    """The very same functions."""
    methods = [(aiohttp.ClientSession, "_request"), (aiohttp.BaseConnector, "connect")]
    before = [vars(owner)[name] for owner, name in methods]
    assert "aiohttp" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(f) for f in before] == [inspect.signature(f) for f in during]
    assert list(map(id, before)) == [id(vars(owner)[name]) for owner, name in methods]
