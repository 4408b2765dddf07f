"""What the companion does beside answering: it thinks, hears and speaks, remembers, and keeps to its limits."""

import asyncio
import base64
import json
import random
import threading
import time

import pytest
import redis
from tests.examples.companions import companion
from tests.redis_server import RedisServer
from tests.servers import eventually, request

from companion import _speech
from companion._dials import Dials
from companion._embedding import embed, similarity
from companion._journal import Journal
from companion._store import Exchange, Store
from llmvitals import testing


@pytest.fixture(name="lively", scope="module")
def _lively(faulty_process, tmp_path_factory):
    """A companion that thinks all the time and may be asked forty times a second."""
    faulty_process.reset()
    flags = ("--thoughts-seconds=0.1", "--requests-per-second=40", "--requests-burst=10")
    with pytest.MonkeyPatch.context() as patch:
        # A mood that lasts for seconds would be waited for.
        patch.setenv("LLMVITALS_CACHE_STATE_TTL_SECONDS", "0.1")
        with companion(faulty_process, tmp_path_factory.mktemp("lively") / "data", *flags) as lively:
            yield lively


def hear(running, sound, user="vera"):
    return request(f"{running.url}/v1/voice?user={user}", body=sound)


@pytest.mark.parametrize("name", ["inner_monologue", "motivation", "subjective_experience"])
def test_it_thinks_between_the_questions(lively, name):
    """Each background module runs, and a reply tells how the companion is."""
    eventually(lambda: lively.say("I love my garden.").json()["mood"] != "calm", what="a mood")

    def runs():
        return lively.value("llmvitals_module_duration_seconds_count", module=name, outcome="success") >= 2

    eventually(runs, what="two runs")
    assert lively.value("llmvitals_module_last_success_timestamp_seconds", module=name) > time.time() - 60


def test_bad_days_of_modules(faulty, tmp_path):
    """The dials make modules fail, and one of them overdue; it ends in time all the same."""
    with companion(faulty, tmp_path / "data", "--thoughts-seconds=0.1") as moody:
        moody.demo("dials", module_error_ratio=1)
        errors = "llmvitals_module_errors_total"
        eventually(lambda: moody.value(errors, module="motivation", error_type="RuntimeError"), what="an error")
        moody.demo("dials", module_error_ratio=0, module_seconds=300)
        eventually(lambda: moody.value("llmvitals_module_overdue", module="motivation"), what="an overdue run")
        eventually(lambda: moody.value(errors, module="inner_monologue", error_type="TimeoutError"), what="a time-out")
        begun = time.monotonic()

        assert 0 == moody.server.stop()
        assert time.monotonic() - begun < 8


def test_it_hears_and_speaks(lively):
    """A question is understood, answered, and the answer can be heard."""
    answer = hear(lively, _speech.speak("How are you?", noise=0.05, dice=random.Random(1))).json()

    assert "How are you?" == answer["heard"]
    assert 0.8 < answer["quality"] < 1
    assert answer["reply"][:500] == _speech.hear(base64.b64decode(answer["sound"]))[0][:500]
    assert lively.value("llmvitals_voice_turns_total", voice="recognition", outcome="success") >= 1
    assert lively.value("llmvitals_voice_turns_total", voice="synthesis", outcome="success") >= 1


def test_what_is_not_heard(lively):
    """Silence, noise, a loud room and too much of it are failures of their own kinds."""
    failures = "llmvitals_voice_failures_total"
    noise = random.Random(2).randbytes(4000)
    assert [422, 422, 413] == [hear(lively, sound).status for sound in (bytes(4000), noise, bytes(300_000))]
    assert 1 == lively.value(failures, voice="recognition", cause="no_audio")
    assert 1 == lively.value(failures, voice="recognition", cause="not_understood")

    lively.demo("dials", voice_noise=0.6)
    assert 422 == hear(lively, _speech.speak("How are you?")).status
    assert 200 == lively.demo("dials", voice_noise=0).status


def test_limits(lively):
    """More than may be at once waits for its turn; what would wait for too long is refused, and told when to come."""
    path = f"{lively.url}/v1/messages?user=ann"
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(request(path))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {200} == {answer.status for answer in answers}
    assert lively.value("llmvitals_limit_wait_seconds_count", limiter="companion") >= 1
    lively.demo("dials", turns_per_second=0.1)
    refused = eventually(lambda: (answer := request(path)).status == 429 and answer, what="a refusal")
    assert int({name.lower(): value for name, value in refused.headers.items()}["retry-after"]) >= 1
    assert lively.value("llmvitals_limit_rejected_total", limiter="companion") >= 1
    assert lively.value("llmvitals_limit_headroom_ratio", limiter="companion") < 0.2
    lively.demo("dials", turns_per_second=0)
    eventually(lambda: request(path).status == 200, what="an end of the refusals")


def test_the_providers_limits(lively):
    """What the provider tells of its limit with an answer is shown."""
    lively.say("How much may I ask?")

    assert 1_000_000 == lively.value("llmvitals_limit_maximum", limiter="primary", resource="requests")
    assert 0.9 < lively.value("llmvitals_limit_headroom_ratio", limiter="primary", resource="requests") < 1


def test_a_dial_that_is_none(lively):
    """An unknown dial, or one turned too far, is told and turns nothing."""
    assert [422, 422] == [lively.demo("dials", **body).status for body in ({"volume": 11}, {"voice_noise": 2})]


def test_it_reads_again_what_was_said(lively):
    """A user's exchanges come from the store once, then from the cache, which learns of new ones."""
    path = f"{lively.url}/v1/messages?user=reader"
    lively.say("One.", user="reader")
    eventually(lambda: request(path).json()["messages"], what="the first exchange")
    lively.say("Two.", user="reader")
    before = lively.value("llmvitals_cache_requests_total", cache="messages", result="hit")

    assert ["One.", "Two."] == [message["question"] for message in request(path).json()["messages"]]
    assert before + 1 == lively.value("llmvitals_cache_requests_total", cache="messages", result="hit")


def test_models_are_listed_once(lively):
    """The first one who asks for the models has them loaded; the next is answered from the cache."""
    offered = [request(f"{lively.url}/v1/models").json() for _ in range(2)]

    assert [{"primary": ["talker", "thinker"], "backup": ["talker", "thinker"]}] * 2 == offered
    assert 2 == lively.value("llmvitals_lazy_load_duration_seconds_count")
    assert 2 == lively.value("llmvitals_cache_requests_total", cache="models", result="hit")


def test_environment(faulty, tmp_path, monkeypatch):
    """The environment gives the sizes, a variable another one, and both show; a mistake in one is told."""
    monkeypatch.setenv("LLMVITALS_ENVIRONMENT", "high_load")
    monkeypatch.setenv("LLMVITALS_BATCH_MAX_ITEMS", "33")
    with companion(faulty, tmp_path / "data") as busy:
        assert 500 == busy.value("llmvitals_pool_max_connections", pool="websocket")
        assert 33 == busy.value("llmvitals_batch_max_items", queue="outbox")
        assert 1 == busy.value("llmvitals_profile_active", profile="high_load")
        assert 2000 == busy.value("llmvitals_cache_max_entries", cache="messages")


def test_answers_are_shared_and_outlive_redis(faulty, tmp_path):
    """Answers are in Redis, for others to find; when it dies the companion goes on by itself, and says so."""
    shared = RedisServer(tmp_path)
    shared.start()
    flag = f"--redis-url=redis://127.0.0.1:{shared.port}/0"
    with companion(faulty, tmp_path / "data", flag) as running, redis.Redis(port=shared.port) as client:
        try:
            answer = running.say("Is tea good for you?").json()["reply"]
            keys = client.keys("responses:*")
            assert [answer] == [json.loads(client.get(key))["text"] for key in keys]
        finally:
            shared.kill()
        assert running.say("Is tea good for you?").json()["cached"]
        assert [False, True] == [running.say("Is coffee?").json()["cached"] for _ in range(2)]
        assert 0 == running.value("llmvitals_cache_tier_up", cache="responses", tier="redis")
        assert running.value("llmvitals_cache_fallbacks_total", cache="responses") >= 1


def test_old_exchanges_go(tmp_path):
    """What is older than it should be is deleted, and the rest is kept."""

    async def steps():
        store = await Store.open(tmp_path / "companion.db", vitals, Dials())
        for at in (1.0, 2.0, 3.0):
            store.remember(Exchange("ann", "talker", f"at {at:g}", "yes", at))
        await asyncio.gather(*store._on_the_way)
        deleted = await store.delete_before(3.0)
        left = await store.recent("ann", 10)
        await store.close()
        return deleted, [exchange.question for exchange in left]

    with testing.fresh() as vitals:
        assert (2, ["at 3"]) == asyncio.run(steps())


@pytest.fixture(name="journal")
def _journal(tmp_path, monkeypatch):
    """Runs a test's steps on a journal of at most five documents, which waits for company for a moment only."""
    monkeypatch.setattr("companion._journal._BATCH_SECONDS", 0.01)

    def run(steps):
        async def with_journal():
            with testing.fresh() as vitals:
                dials = Dials()
                journal = await Journal.open(tmp_path / "journal.db", vitals, dials, max_documents=5)
                try:
                    return await steps(journal, vitals, dials)
                finally:
                    await journal.close()

        return asyncio.run(with_journal())

    return run


async def kept(journal, *texts, user="ann"):
    for text in texts:
        journal.keep(user, text)
    await asyncio.gather(*journal._on_the_way)


def test_the_journal_finds_what_is_alike(journal):
    """The most similar comes first, of this user only; what is like nothing is a weak search."""

    async def steps(journal, vitals, dials):
        await kept(journal, "I dream of a garden by the sea.", "My brother has a new job.")
        await kept(journal, "I dream of a garden.", user="bob")
        found = await journal.search("ann", "A dream of gardens by the sea", 10)
        context = await journal.context("ann", "A dream of gardens by the sea")
        await journal.search("ann", '"* OR NEAR(', 10)

        assert ["I dream of a garden by the sea."] == [memory.text for memory in found]
        assert found[0].similarity > 0.7
        assert "The user said earlier:\n- I dream of a garden by the sea." == context
        assert 1 == vitals.value("llmvitals_semantic_memory_weak_searches_total")
        assert 3 == vitals.value("llmvitals_semantic_memory_documents")

    journal(steps)


def test_the_journal_is_tidied(journal):
    """Doubles go, and then the oldest beyond the limit."""

    async def steps(journal, vitals, dials):
        await kept(journal, *(f"thought number {number % 8}" for number in range(10)))

        assert 5 == await journal.tidy()
        assert 5 == vitals.value("llmvitals_semantic_memory_documents")
        assert [] == await journal.search("ann", "2", 10)
        assert 5 == len(await journal.search("ann", "number", 10))

    journal(steps)


def test_the_journal_survives(journal):
    """What was kept is there after a restart."""

    async def write(journal, vitals, dials):
        journal.keep("ann", "Remember the lighthouse.")

    async def read(journal, vitals, dials):
        return [memory.text for memory in await journal.search("ann", "lighthouse", 1)]

    journal(write)

    assert ["Remember the lighthouse."] == journal(read)


def test_likeness():
    """A text is like itself, somewhat like its kin, and unlike what shares no word with it."""
    garden = embed("a garden by the sea")

    assert similarity(garden, garden) == pytest.approx(1)
    assert 0.5 < similarity(garden, embed("gardens at the seaside")) < 1
    assert similarity(garden, embed("quick foxes jump")) < 0.2
    assert 0 == similarity(garden, embed("!"))


def test_sums_are_worked_out_once(fresh):
    """The thinker is told what a sum comes to, from a cache the second time; the page and the messages have theirs."""

    def hits(cache):
        return fresh.value("llmvitals_cache_requests_total", cache=cache, result="hit")

    for _ in range(2):
        assert 200 == fresh.say("How much is 6 * 7?", mode="thinker").status
        assert 200 == request(f"{fresh.url}/").status
    for _ in range(2):
        messages = request(f"{fresh.url}/v1/messages?user=ann").json()["messages"]

    assert ["How much is 6 * 7?"] * 2 == [message["question"] for message in messages]
    assert 1 == fresh.value("gen_ai_execute_tool_duration_seconds_count", gen_ai_tool_name="calculator")
    assert {"tools": 1, "web": 1, "api": 1} == {cache: hits(cache) for cache in ("tools", "web", "api")}
