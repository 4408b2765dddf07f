import asyncio
import gc
import inspect
import threading

import pytest

from llmvitals import catalogue

TOOL = "gen_ai_execute_tool_duration_seconds"
KINDS = {
    "tool": (TOOL, "gen_ai_tool_name"),
    "agent": ("gen_ai_invoke_agent_duration_seconds", "gen_ai_agent_name"),
    "workflow": ("gen_ai_workflow_duration_seconds", "gen_ai_workflow_name"),
}


@pytest.fixture(name="tool")
def _tool(vitals):
    return vitals.tool("weather")


def runs(vitals, **labels):
    return vitals.value(f"{TOOL}_count", **labels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_recorded_under_its_name(vitals, kind):
    """Tools, agents and workflows each in their own family, with two labels and no more."""
    family, label = KINDS[kind]

    with getattr(vitals, kind)("helper"):
        pass

    assert {(("error_type", ""), (label, "helper")): 1.0} == vitals.samples(f"{family}_count")


def test_the_bounds_are_opentelemetrys_and_longer():
    """The tail is ours, because a tool or an agent may take longer than the last bound."""
    bounds = {family.name: family.buckets for family in catalogue.FAMILIES}

    assert catalogue.DURATION_BUCKETS == bounds[TOOL]
    assert (0.1, 0.2, 0.4) == bounds["gen_ai_invoke_agent_duration_seconds"][:3]
    assert (409.6, 819.2, 1638.4, 3276.8) == bounds["gen_ai_invoke_agent_duration_seconds"][-4:]
    assert (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200) == bounds["gen_ai_workflow_duration_seconds"]


def test_an_error_goes_through_and_is_named(vitals, tool):
    """The very same exception."""
    error = ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError) as caught, tool:
        raise error

    assert error is caught.value
    assert 1 == runs(vitals, error_type="ConnectionResetError")


def test_a_cancelled_run_is_named(vitals, tool):
    """The async context manager is the same; cancellation goes through."""

    async def work():
        async with tool:
            await asyncio.sleep(30)

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert 1 == runs(vitals, error_type="CancelledError")


def test_a_run_may_end_in_another_thread_and_ends_once(vitals, tool):
    """As callbacks of frameworks do; a second start or finish does nothing."""
    tool.start().start()
    thread = threading.Thread(target=tool.finish, args=(TimeoutError(),))
    thread.start()
    thread.join()
    tool.finish()

    assert 1 == runs(vitals)
    assert 1 == runs(vitals, error_type="TimeoutError")


def test_one_tool_may_run_many_times_at_once(vitals, tool, monkeypatch):
    """Each run has its own time: of two that overlap, none gets the other's."""
    now = [0.0]
    monkeypatch.setattr("llmvitals._steps.perf_counter", lambda: now[0])

    async def run(begin, end):
        await begin.wait()
        async with tool:
            await end.wait()

    async def main():
        begins, ends = [[asyncio.Event() for _ in range(2)] for _ in range(2)]
        tasks = [asyncio.create_task(run(begins[n], ends[n])) for n in range(2)]
        for moment, event in [(0, begins[0]), (5, begins[1]), (6, ends[0]), (10, ends[1])]:
            now[0] = float(moment)
            event.set()
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert 11 == vitals.value(f"{TOOL}_sum")
    assert 1 == vitals.value(f"{TOOL}_bucket", le="5.12"), "5 s and 6 s"
    assert 2 == vitals.value(f"{TOOL}_bucket", le="10.24")


def test_a_decorated_function_of_any_kind_stays_of_its_kind(vitals, tool):
    """Each use is a run; a generator's lasts to its end, and what is sent or thrown into it arrives."""

    @tool
    def plain(value):
        return value

    @tool
    async def coroutine(value):
        return value

    @tool
    def generator():
        yield (yield 1)
        return "done"

    @tool
    async def async_generator():
        try:
            yield (yield 1)
        except KeyError:
            yield "caught"

    async def main():
        assert 2 == await coroutine(2)
        source = async_generator()
        assert 1 == await anext(source)
        assert "sent" == await source.asend("sent")
        assert "caught" == await source.athrow(KeyError())
        with pytest.raises(StopAsyncIteration):
            await anext(source)

    assert 1 == plain(1)
    asyncio.run(main())
    source = generator()
    assert (1, "sent") == (next(source), source.send("sent"))
    with pytest.raises(StopIteration, match="done"):
        next(source)

    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert {(("error_type", ""), ("gen_ai_tool_name", "weather")): 4.0} == vitals.samples(f"{TOOL}_count")


def test_a_generator_that_is_left_early_has_no_error(vitals, tool):
    """Closed or dropped: its reader has had enough."""

    @tool
    def chunks():
        yield 1
        yield 2

    closed, dropped = chunks(), chunks()
    next(closed)
    next(dropped)
    closed.close()
    del dropped
    gc.collect()

    assert 2 == runs(vitals, error_type="")


def test_an_async_generator_is_closed_with_its_source(vitals, tool):
    """Leaving it early closes the application's own generator, once, and ends the run."""
    closed = []

    @tool
    async def chunks():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main():
        source = chunks()
        await anext(source)
        await source.aclose()

    asyncio.run(main())

    assert [True] == closed
    assert 1 == runs(vitals, error_type="")


def test_a_retrieval_and_embeddings_are_calls_of_their_own_operation(vitals):
    """A retrieval has no tokens, so none are missed."""
    with vitals.retrieval(provider="chroma"):
        pass
    with vitals.embeddings(provider="local", model="small", server_address="127.0.0.1", server_port=80) as call:
        call.usage(input_tokens=9)

    duration = "gen_ai_client_operation_duration_seconds_count"
    assert 1 == vitals.value(duration, gen_ai_operation_name="retrieval", gen_ai_provider_name="chroma")
    assert 1 == vitals.value(duration, gen_ai_operation_name="embeddings", gen_ai_request_model="small")
    assert 9 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_operation_name="embeddings")
    assert vitals.value("llmvitals_usage_missing_total") is None


def test_a_registry_that_raises_does_not_reach_the_tool(vitals, tool, monkeypatch):
    """The fault is counted instead."""
    child = vitals.recorder.child

    def broken(family, *values):
        if family.name == TOOL:
            raise OSError("disk full")
        return child(family, *values)

    monkeypatch.setattr(vitals.recorder, "child", broken)

    with tool:
        pass

    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="steps")
