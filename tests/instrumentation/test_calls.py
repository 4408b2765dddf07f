import asyncio
import inspect
import threading
from types import SimpleNamespace

import pytest

from llmvitals._calls import active_call

BASE = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "primary",
    "gen_ai_request_model": "talker",
    "gen_ai_response_model": "",
    "server_address": "127.0.0.1",
    "server_port": "8081",
}
REPLY = SimpleNamespace(model="talker-2026", usage=SimpleNamespace(prompt_tokens=7, completion_tokens=5))


@pytest.fixture(name="call")
def _call(vitals):
    return vitals.call(provider="primary", model="talker", server_address="127.0.0.1", server_port=8081)


def count(vitals, **labels):
    return vitals.value("gen_ai_client_operation_duration_seconds_count", **labels)


def test_a_call_records_its_duration_under_every_base_label(vitals, call):
    """Success has an empty error type."""
    with call as entered:
        assert entered is call

    assert {(*sorted((BASE | {"error_type": ""}).items()),): 1.0} == vitals.samples(
        "gen_ai_client_operation_duration_seconds_count"
    )


def test_tokens_are_recorded_as_told(vitals, call):
    """Each kind on its own, under the model that answered."""
    with call:
        call.usage(input_tokens=7)
        call.usage(output_tokens=5)
        call.response_model("talker-2026")

    assert 7 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert 5 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert 1 == count(vitals, gen_ai_response_model="talker-2026")
    assert vitals.value("llmvitals_usage_missing_total") is None


def test_missing_usage_is_counted_and_never_guessed(vitals, call):
    """A call that ended well without usage makes the token counts too low, and says so."""
    with call:
        pass

    assert vitals.value("gen_ai_client_token_usage_count") is None
    assert 1 == vitals.value("llmvitals_usage_missing_total", gen_ai_request_model="talker", stream="false")


def test_an_error_goes_through_and_is_named(vitals, call):
    """The very same exception; and a failed call is not one that lacks usage."""
    error = ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError) as caught, call:
        raise error

    assert error is caught.value
    assert 1 == count(vitals, error_type="ConnectionResetError")
    assert vitals.value("llmvitals_usage_missing_total") is None


def test_calls_in_flight_rise_and_fall(vitals, call):
    """Also when a call fails."""
    other = vitals.call(provider="primary", model="talker").start()
    call.start()
    assert 2 == vitals.value("llmvitals_calls_in_flight", gen_ai_request_model="talker")

    call.finish(ValueError("x"))
    assert 1 == vitals.value("llmvitals_calls_in_flight")
    other.finish()
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_a_call_ends_once(vitals, call):
    """Finishing again does nothing, whatever it brings."""
    with call:
        call.finish()
        call.finish(ValueError("too late"))

    assert 1 == count(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_an_explicit_call_may_fail(vitals, call):
    """Start and finish do what the context manager does."""
    call.start().finish(TimeoutError())

    assert 1 == count(vitals, error_type="TimeoutError")


def test_a_call_may_begin_again(vitals, call):
    """Each time it is one more call, and knows nothing of the one before."""
    with call:
        call.usage(input_tokens=1)
    with call:
        pass

    assert 2 == count(vitals)
    assert 1 == vitals.value("gen_ai_client_token_usage_count")


def test_the_async_context_manager_is_the_same(vitals, call):
    """Cancellation goes through and is named."""

    async def main():
        async with call:
            pass
        async with vitals.call(provider="primary", model="talker"):
            await asyncio.sleep(30)

    async def cancelled():
        task = asyncio.create_task(main())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())

    assert 1 == count(vitals, error_type="")
    assert 1 == count(vitals, error_type="CancelledError")


def test_a_decorated_function_is_a_call_each_time(vitals, call):
    """Its name stays, its reply is given back and read for model and usage."""

    @call
    def ask(question, *, loud=False):
        """Docstring."""
        return REPLY

    assert REPLY is ask("?")
    assert REPLY is ask("?", loud=True)

    assert "ask" == ask.__name__
    assert 2 == count(vitals, gen_ai_response_model="talker-2026")
    assert 14 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")


def test_a_decorated_function_of_any_kind_stays_of_its_kind(vitals, call):
    """Frameworks look at functions; they must see what they saw before."""

    @call
    async def ask():
        return {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 4}}

    @call
    def chunks():
        yield 1
        return "end"

    @call
    async def achunks():
        yield 1

    async def drain():
        return await ask(), [chunk async for chunk in achunks()]

    reply, received = asyncio.run(drain())

    assert inspect.iscoroutinefunction(ask)
    assert inspect.isgeneratorfunction(chunks)
    assert inspect.isasyncgenfunction(achunks)
    assert ("m", [1], [1]) == (reply["model"], received, list(chunks()))
    assert 3 == count(vitals)
    assert 2 == vitals.value("llmvitals_stream_ends_total", reason="completed")
    assert 4 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")


def test_concurrent_runs_of_a_decorated_function_do_not_mix(vitals, call):
    """Each run has its own usage."""

    @call
    async def ask(tokens):
        await asyncio.sleep(0)
        return {"usage": {"prompt_tokens": tokens}}

    async def main():
        await asyncio.gather(*(ask(number) for number in range(50)))

    asyncio.run(main())

    assert sum(range(50)) == vitals.value("gen_ai_client_token_usage_sum")
    assert 50 == vitals.value("gen_ai_client_token_usage_count")
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_the_active_call_is_known_inside_only(call):
    """Integrations find the application's call where it runs, and not after."""
    with call:
        assert call is active_call()

    assert active_call() is None


@pytest.mark.parametrize(
    "reply",
    [None, "text", 5, {}, {"usage": None, "model": 3}, {"usage": {"prompt_tokens": "many"}}, REPLY.usage],
    ids=["none", "str", "int", "empty", "odd model", "odd usage", "no usage"],
)
def test_a_reply_of_another_shape_is_read_for_nothing(vitals, call, reply):
    """It raises nothing and counts as usage that is missing."""
    with call:
        call.read(reply)

    assert 1 == vitals.value("llmvitals_usage_missing_total")


def test_an_error_whose_attributes_raise_leaves_no_call_in_flight(vitals, call):
    """The application's error goes on; that its kind cannot be told is a fault of ours."""

    class OddError(Exception):
        @property
        def status_code(self):
            raise RuntimeError("no status")

    with pytest.raises(OddError), call:
        raise OddError

    assert 0 == vitals.value("llmvitals_calls_in_flight")
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="calls")


def test_a_call_whose_model_is_known_only_later_falls_where_it_rose(vitals, call):
    """The gauge of calls in flight goes down where it went up."""
    for model in ("talker", "thinker") * 2:
        with call:
            call.model = model
            call.usage(input_tokens=1, output_tokens=1)

    assert 0 == vitals.value("llmvitals_calls_in_flight", gen_ai_request_model="talker")
    assert 0 == vitals.value("llmvitals_calls_in_flight", gen_ai_request_model="thinker")


def test_a_reply_whose_attributes_raise_is_survived(vitals, call):
    """Reading is our wish; the fault is ours too."""

    class Lazy:
        @property
        def model(self):
            raise RuntimeError("not loaded")

    with call:
        call.read(Lazy())

    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="calls")
    assert 1 == count(vitals)


def test_an_explicit_call_may_end_in_another_thread(vitals, call):
    """Many at once try to; one of them does."""
    call.start()
    threads = [threading.Thread(target=call.finish, args=(TimeoutError(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == count(vitals, error_type="TimeoutError")
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_what_goes_into_a_decorated_async_generator_reaches_it(vitals, call):
    """What is sent, thrown and closed, as if it were not decorated."""
    closed = []

    @call
    async def talk():
        try:
            try:
                yield (yield 1)
            except KeyError:
                yield "caught"
        finally:
            closed.append(True)

    async def main():
        source = talk()
        assert 1 == await anext(source)
        assert "sent" == await source.asend("sent")
        assert "caught" == await source.athrow(KeyError())
        await source.aclose()

    asyncio.run(main())

    assert [True] == closed
    assert 1 == vitals.value("llmvitals_stream_ends_total", reason="cancelled")


@pytest.mark.parametrize("tokens", [True, 7.0, 7])
def test_tokens_may_be_any_number(vitals, call, tokens):
    """Each by its value, as one of a pair or alone."""
    with call:
        call.usage(input_tokens=tokens, output_tokens=5)
    with call:
        call.usage(input_tokens=tokens)

    assert 2 * tokens == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert 5 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert 2 == count(vitals)


@pytest.mark.parametrize("tokens", ["seven", 10**400])
def test_tokens_that_are_no_number_cost_only_themselves(vitals, call, tokens):
    """The call is counted, and so is the fault."""
    with call:
        call.usage(input_tokens=tokens, output_tokens=5)

    assert 1 == count(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="calls")
