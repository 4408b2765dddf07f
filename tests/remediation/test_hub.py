"""The agents' hub: hand-over, redelivery, replacement, and what is said when nobody knows."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from llmvitals_remediation.agents import AgentHub, HubClosedError
from llmvitals_remediation.protocol import Command, CommandResult, ProtocolError, parse_hello, parse_result

AGENT = "shop@127.0.0.1:9464"


def hello(**changes):
    body = {
        "protocol": 1,
        "agent_id": AGENT,
        "boot_id": "boot-1",
        "service": "shop",
        "pid": 1,
        "started_at": 100.0,
        "wait_seconds": 5,
        "actions": [{"name": "drop_caches", "effect": "idempotent"}],
    }
    return parse_hello({**body, **changes}, seen_at=1000.0)


def command(attempt_id="a-1", *, fence=1, boot_id="boot-1"):
    return Command(attempt_id, fence, boot_id, expires_at=2e9, verb="drop_caches", parameters={})


def result(attempt_id="a-1", status="done"):
    return CommandResult(attempt_id, "boot-1", status, {"entries": 3})


async def never():
    await asyncio.Event().wait()


@pytest.fixture(name="executor")
def _executor():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def dispatched(hub: AgentHub, executor, wanted: Command, *, timeout=5.0) -> "Future[CommandResult | None]":
    """A dispatch in a thread of its own; returns once the command is pending."""
    future = executor.submit(hub.dispatch, AGENT, wanted, timeout=timeout)
    while not future.done() and wanted.attempt_id not in hub._pending.get(AGENT, {}):
        threading.Event().wait(0.001)
    return future


def test_a_waiting_poll_gets_the_command_and_its_answer_wakes_the_dispatch(executor):
    """The round trip: poll, dispatch, answer."""

    async def story():
        hub = AgentHub()
        poll = asyncio.ensure_future(hub.poll(hello(), gone=never))
        await asyncio.sleep(0)
        future = dispatched(hub, executor, command())
        commands = await poll
        hub.answer(AGENT, result())
        return commands, await asyncio.wrap_future(future)

    commands, answer = asyncio.run(story())

    assert (command(),) == commands
    assert result() == answer


def test_a_command_for_an_agent_that_is_not_here_yet_waits_for_it(executor):
    """After a restart of this service the agents come back one by one; the executor need not care."""

    async def story():
        hub = AgentHub()
        dispatched(hub, executor, command())
        commands = await hub.poll(hello(), gone=never)
        hub.answer(AGENT, result())
        return commands

    assert (command(),) == asyncio.run(story())


def test_a_command_is_handed_over_once_and_again_only_after_a_while_without_an_answer(executor):
    """The agent deduplicates by attempt id, so asking again turns a lost answer into a known one."""

    async def story():
        now = [0.0]
        hub = AgentHub(monotonic=lambda: now[0], redeliver_seconds=5)
        dispatched(hub, executor, command())
        first = await hub.poll(hello(wait_seconds=0), gone=never)
        second = await hub.poll(hello(wait_seconds=0), gone=never)
        now[0] = 5.0
        third = await hub.poll(hello(wait_seconds=0), gone=never)
        hub.answer(AGENT, result())
        fourth = await hub.poll(hello(wait_seconds=0), gone=never)
        return first, second, third, fourth

    assert ((command(),), (), (command(),), ()) == asyncio.run(story())


def test_a_poll_that_hung_up_takes_nothing(executor):
    """The next poll gets the command at once."""

    async def story():
        hub = AgentHub()
        gone = asyncio.get_running_loop().create_future()
        poll = asyncio.ensure_future(hub.poll(hello(), gone=lambda: gone))
        await asyncio.sleep(0)
        gone.set_result(None)
        left = await poll
        dispatched(hub, executor, command())
        taken = await hub.poll(hello(), gone=never)
        hub.answer(AGENT, result())
        return left, taken

    assert ((), (command(),)) == asyncio.run(story())


def test_an_answer_that_was_not_written_gives_the_command_to_the_next_poll(executor):
    """`undelivered` makes it due at once, not after the redelivery interval."""

    async def story():
        hub = AgentHub()
        dispatched(hub, executor, command())
        taken = await hub.poll(hello(), gone=never)
        hub.undelivered(AGENT, taken)
        again = await hub.poll(hello(), gone=never)
        hub.answer(AGENT, result())
        return again

    assert (command(),) == asyncio.run(story())


def test_a_newer_poll_of_the_same_agent_sends_the_older_one_home():
    """One waiting poll each: a reconnecting agent does not collect waiters."""

    async def story():
        hub = AgentHub()
        older = asyncio.ensure_future(hub.poll(hello(), gone=never))
        await asyncio.sleep(0)
        newer = asyncio.ensure_future(hub.poll(hello(boot_id="boot-2", started_at=200.0), gone=never))
        await asyncio.sleep(0)
        left = await older
        boot = hub.connected()[AGENT].boot_id
        newer.cancel()
        return left, boot

    assert ((), "boot-2") == asyncio.run(story())


def test_the_elder_of_two_living_processes_under_one_name_gets_no_commands(executor):
    """It may still poll while a rolling restart is under way; the newer boot stays the agent."""

    async def story():
        hub = AgentHub()
        await hub.poll(hello(boot_id="boot-2", started_at=200.0, wait_seconds=0), gone=never)
        dispatched(hub, executor, command(boot_id="boot-2"))
        elder = await hub.poll(hello(wait_seconds=0), gone=never)
        boot = hub.connected()[AGENT].boot_id
        hub.answer(AGENT, result())
        return elder, boot

    assert ((), "boot-2") == asyncio.run(story())


def test_a_command_for_a_process_that_is_gone_is_refused_and_never_handed_over(executor):
    """What the agent would say itself, without asking the wrong process."""

    async def story():
        hub = AgentHub()
        await hub.poll(hello(boot_id="boot-2", wait_seconds=0), gone=never)
        answer = await asyncio.wrap_future(dispatched(hub, executor, command()))
        handed = await hub.poll(hello(boot_id="boot-2", wait_seconds=0), gone=never)
        return answer.status, answer.refusal, handed

    assert ("refused", "other_boot", ()) == asyncio.run(story())


def test_a_command_in_the_hands_of_a_process_that_then_died_has_an_unknown_outcome(executor):
    """It may have acted before it died: refused would be a guess."""

    async def story():
        hub = AgentHub()
        future = dispatched(hub, executor, command())
        await hub.poll(hello(), gone=never)
        await hub.poll(hello(boot_id="boot-2", started_at=200.0, wait_seconds=0), gone=never)
        return await asyncio.wrap_future(future)

    assert asyncio.run(story()) is None


def test_no_answer_in_time_is_none_and_takes_the_command_back(executor):
    """After the timeout no poll can pick the command up any more."""

    async def story():
        hub = AgentHub()
        answer = await asyncio.wrap_future(executor.submit(hub.dispatch, AGENT, command(), timeout=0.05))
        return answer, await hub.poll(hello(wait_seconds=0), gone=never)

    assert (None, ()) == asyncio.run(story())


def test_a_result_that_came_too_late_answers_the_next_look_up(executor):
    """The engine asks again with the same attempt id, and learns what became of it."""

    async def story():
        hub = AgentHub()
        hub.answer(AGENT, result())
        return await asyncio.wrap_future(executor.submit(hub.dispatch, AGENT, command(), timeout=5.0))

    assert result() == asyncio.run(story())


def test_a_result_from_another_agent_answers_nobody(executor):
    """Attempt ids are looked up under the agent that they were sent to."""

    async def story():
        hub = AgentHub()
        future = dispatched(hub, executor, command(), timeout=0.1)
        hub.answer("stranger", result())
        return await asyncio.wrap_future(future)

    assert asyncio.run(story()) is None


def test_an_agent_is_connected_for_45_seconds_after_its_poll():
    """Longer than the longest poll, so that a waiting agent does not flicker."""

    async def story():
        now = [0.0]
        hub = AgentHub(monotonic=lambda: now[0])
        await hub.poll(hello(wait_seconds=0), gone=never)
        now[0] = 45.0
        then = set(hub.connected())
        now[0] = 45.1
        return then, set(hub.connected())

    assert ({AGENT}, set()) == asyncio.run(story())


def test_closing_sends_polls_home_but_an_agent_that_acts_may_still_report(executor):
    """A stop must not wait for 30-second polls, and must not turn a running act into an unknown one."""

    async def story():
        hub = AgentHub()
        future = dispatched(hub, executor, command())
        await hub.poll(hello(), gone=never)
        poll = asyncio.ensure_future(hub.poll(hello(), gone=never))
        await asyncio.sleep(0)
        hub.close()
        with pytest.raises(HubClosedError):
            await poll
        with pytest.raises(HubClosedError):
            await hub.poll(hello(), gone=never)
        hub.answer(AGENT, result())
        return await asyncio.wrap_future(future)

    assert result() == asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"protocol": 2}, "protocol"),
        ({"protocol": True}, "protocol"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": "a\nb"}, "agent_id"),
        ({"agent_id": "x" * 257}, "agent_id"),
        ({"boot_id": 7}, "boot_id"),
        ({"pid": "1"}, "pid"),
        ({"started_at": float("nan")}, "started_at"),
        ({"started_at": 10**400}, "started_at"),
        ({"actions": {}}, "actions"),
        ({"actions": [{"name": "../etc", "effect": "idempotent"}]}, "actions[0].name"),
        ({"actions": [{"name": "go", "effect": "maybe"}]}, "actions[0].effect"),
        ({"actions": [{"name": "go", "effect": "neither", "parameters": [[]]}]}, "actions[0].parameters[0]"),
        ({"tunables": [{"name": "t", "value": []}]}, "tunables[0].value"),
        ({"tunables": [{"name": "t", "value": 1, "low": "0"}]}, "tunables[0].low"),
        ({"profiles": {"speed": 1}}, "profiles.speed"),
        ({"leases": [{"lease_id": "l", "values": {}, "expires_at": None}]}, "leases[0].expires_at"),
        ({"leases": ["x"] * 257}, "leases"),
    ],
)
def test_a_hostile_poll_is_refused_with_the_key_at_fault(change, where):
    """Nothing of an odd body is taken."""
    with pytest.raises(ProtocolError) as caught:
        hello(**change)

    assert where == caught.value.where


def test_a_poll_may_say_more_than_we_know_and_may_wait_no_longer_than_30_seconds():
    """A newer library is welcome; its waits are ours to bound."""
    read = hello(wait_seconds=9999, mood="sunny", active_profile="speed", profiles={"speed": {"max_tokens": 128}})

    assert (30.0, "speed", 128) == (read.wait_seconds, read.active_profile, read.profiles["speed"]["max_tokens"])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"status": "great"}, "status"),
        ({"attempt_id": None}, "attempt_id"),
        ({"result": [1]}, "result"),
        ({"refusal": "mood"}, "refusal"),
    ],
)
def test_a_hostile_result_is_refused_with_the_key_at_fault(change, where):
    """Only answers of the protocol reach the engine."""
    body = {"agent_id": AGENT, "boot_id": "b", "attempt_id": "a", "verb": "v", "status": "done", "result": {}}

    with pytest.raises(ProtocolError) as caught:
        parse_result({**body, **change})

    assert where == caught.value.where


def test_a_very_long_error_is_cut_and_not_a_reason_to_lose_the_result():
    """The outcome matters more than its text."""
    body = {"agent_id": AGENT, "boot_id": "b", "attempt_id": "a", "status": "failed", "error": "x" * 100_000}

    _, answer = parse_result(body)

    assert ("failed", 4096) == (answer.status, len(answer.error))
