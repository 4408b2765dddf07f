"""Ten thousand calls of every kind through the real openai SDK: our numbers are the server's own, to the last one."""

import asyncio
import logging
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.instrumentation.books import User, differences, forget, troubled_llm, watched
from tests.servers import eventually, request

AT_ONCE = 1_000
ON_A_LOOP = 200
DROPPED = 200
THREADS = 4

# How many of each; with those on a loop, and those that the garbage collector finds, ten thousand calls.
MIX = {
    "plain": 2_300,
    "in a call of its own": 800,
    "embedded": 500,
    "streamed": 1_000,
    "streamed with usage": 1_000,
    "streamed and closed twice": 200,
    "retried by the SDK": 600,
    "streamed after retries": 400,
    "retried by tenacity": 400,
    "cut": 400,
    "closed": 200,
    "closed twice": 200,
    "thrown into": 200,
    "left by an error": 200,
}


@pytest.fixture(scope="module", name="faulty")
def _faulty(tmp_path_factory):
    with troubled_llm(tmp_path_factory.mktemp("faulty") / "log") as faulty:
        yield faulty


@pytest.fixture(name="user")
def _user(faulty):
    forget(faulty)
    with watched(faulty) as vitals:
        user = User(vitals, faulty)
        yield user
        user.close()


def in_flight(faulty):
    return sum(ledger["in_flight"] for ledger in request(f"{faulty.control}/ledger").json().values())


def test_ten_thousand_mixed_calls_are_what_the_server_says(faulty, user):
    """Threads and a loop at the same time; every count and every sum that the server knows."""
    ways = {
        "plain": user.plain,
        "in a call of its own": user.in_a_call_of_its_own,
        "embedded": user.embedded,
        "streamed": user.streamed,
        "streamed with usage": lambda: user.streamed(usage=True),
        "streamed and closed twice": user.streamed_and_closed_twice,
        "retried by the SDK": user.retried_by_the_sdk,
        "streamed after retries": lambda: user.retried_by_the_sdk(stream=True),
        "retried by tenacity": user.retried_by_tenacity,
        "cut": user.cut,
        "closed": user.closed,
        "closed twice": lambda: user.closed(2),
        "thrown into": user.thrown_into,
        "left by an error": user.left_by_an_error,
    }
    calls = [ways[name] for name, number in MIX.items() for _ in range(number)]
    random.Random(7).shuffle(calls)

    async def on_a_loop():
        await user.at_once(AT_ONCE)
        await user.cancelled(ON_A_LOOP)

    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(call) for call in calls]
        asyncio.run(on_a_loop())
        for call in running:
            call.result()
    # By themselves: a generator of a loop that another thread's collection finds is a fault of its own making.
    asyncio.run(user.dropped_on_a_loop(ON_A_LOOP))
    for _ in range(4):
        user.dropped(DROPPED // 4)
    eventually(lambda: in_flight(faulty) == 0, what="the server noticed everybody's leaving")

    asked = sum(MIX.values()) + AT_ONCE + 2 * ON_A_LOOP + DROPPED
    assert asked >= 10_000
    assert {} == differences(user.vitals, faulty, user)
    assert user.vitals.value("gen_ai_client_operation_duration_seconds_count") >= asked
    assert user.vitals.value("llmvitals_instrumentation_errors_total") is None


def test_a_dropped_stream_leaves_nothing_in_the_log(faulty, user, caplog):
    """The loop closes what nobody holds; that we look on makes no difference to it."""
    with caplog.at_level(logging.WARNING):
        asyncio.run(user.dropped_on_a_loop(20))
    eventually(lambda: in_flight(faulty) == 0, what="the server noticed the leaving")

    assert [] == caplog.messages
    assert {} == differences(user.vitals, faulty, user)
