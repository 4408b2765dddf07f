import asyncio

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._batches import Batcher
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


def flushes(recorder):
    triggers = ("size", "time", "priority", "shutdown")
    read = recorder.registry.get_sample_value
    counted = {t: read("llmvitals_batch_flushes_total", {"queue": "q", "trigger": t}) for t in triggers}
    return {trigger: count for trigger, count in counted.items() if count}


class Sink:
    """Keeps the batches it gets; can be told to fail or to wait."""

    def __init__(self):
        self.batches = []
        self.fail = None
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items):
        self.batches.append(items)
        self.asked.set()
        await self.gate.wait()
        if self.fail:
            raise self.fail


def test_enough_items_go_together(recorder):
    """Ten make a batch, without waiting for the time."""

    async def run():
        sink = Sink()
        batcher = Batcher(recorder, "q", sink, max_items=10, max_wait_seconds=60)
        async with asyncio.timeout(5):
            await asyncio.gather(*(batcher.put(number) for number in range(20)))
        return sink.batches

    assert [list(range(10)), list(range(10, 20))] == asyncio.run(run())
    assert {"size": 2} == flushes(recorder)
    read = recorder.registry.get_sample_value
    assert 20 == read("llmvitals_batch_items_total", {"queue": "q", "priority": "normal"})
    assert 20 == read("llmvitals_batch_size_sum", {"queue": "q"})
    assert 20 == read("llmvitals_batch_wait_seconds_count", {"queue": "q"})
    assert 0 == read("llmvitals_batch_queue_depth", {"queue": "q"})


def test_what_waits_behind_a_slow_flush_is_in_the_queue(recorder):
    """The depth holds the batches whose turn has not come, and no more what is being handed over."""
    read = recorder.registry.get_sample_value

    def depth():
        return read("llmvitals_batch_queue_depth", {"queue": "q"})

    async def run():
        sink = Sink()
        sink.gate.clear()
        batcher = Batcher(recorder, "q", sink, max_items=2, max_wait_seconds=60)
        putting = [asyncio.create_task(batcher.put(number)) for number in range(7)]
        async with asyncio.timeout(5):
            await sink.asked.wait()
            held = depth()
            sink.gate.set()
            await batcher.close()
            await asyncio.gather(*putting)
        return held, depth()

    assert (5, 0) == asyncio.run(run())


def test_a_few_go_when_the_first_has_waited(recorder):
    """Nobody waits for company for ever."""

    async def run():
        sink = Sink()
        batcher = Batcher(recorder, "q", sink, max_wait_seconds=0.02)
        async with asyncio.timeout(5):
            await asyncio.gather(batcher.put("a"), batcher.put("b"))
        return sink.batches

    assert [["a", "b"]] == asyncio.run(run())
    assert {"time": 1} == flushes(recorder)


def test_an_urgent_item_goes_at_once_and_in_front(recorder):
    """It takes along what waits, even while another flush hangs."""

    async def run():
        sink = Sink()
        sink.gate.clear()
        batcher = Batcher(recorder, "q", sink, max_items=2, max_wait_seconds=60)
        puts = [asyncio.create_task(batcher.put(name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        puts.append(asyncio.create_task(batcher.put("now", priority="high")))
        async with asyncio.timeout(5):
            while len(sink.batches) < 2:  # noqa: ASYNC110 -- a few turns of the loop, not a wait
                await asyncio.sleep(0)
        batches = list(sink.batches)
        sink.gate.set()
        await asyncio.gather(*puts)
        return batches

    assert [["a", "b"], ["now", "c"]] == asyncio.run(run())
    assert {"size": 1, "priority": 1} == flushes(recorder)


def test_normal_batches_keep_their_order(recorder):
    """The second does not overtake a slow first."""

    async def run():
        sink = Sink()
        sink.gate.clear()
        batcher = Batcher(recorder, "q", sink, max_items=1)
        puts = [asyncio.create_task(batcher.put(name)) for name in ("a", "b")]
        for _ in range(20):
            await asyncio.sleep(0)
        waiting = list(sink.batches)
        sink.gate.set()
        await asyncio.gather(*puts)
        return waiting, sink.batches

    assert ([["a"]], [["a"], ["b"]]) == asyncio.run(run())


def test_what_a_flush_raises_its_waiters_get(recorder):
    """All of that batch learn of it; the next batch is none the worse."""

    async def run():
        sink = Sink()
        sink.fail = OSError("disk")
        batcher = Batcher(recorder, "q", sink, max_items=2)
        failed = await asyncio.gather(batcher.put("a"), batcher.put("b"), return_exceptions=True)
        sink.fail = None
        async with asyncio.timeout(5):
            await asyncio.gather(batcher.put("c"), batcher.put("d"))
        return [str(error) for error in failed]

    assert ["disk", "disk"] == asyncio.run(run())


def test_a_stuck_flush_is_given_up(recorder):
    """Its waiters get a timeout that names the batcher, and the next batch goes on."""

    async def run():
        sink = Sink()
        sink.gate.clear()
        batcher = Batcher(recorder, "q", sink, max_items=1, flush_seconds=0.02)
        with pytest.raises(TimeoutError, match="batcher 'q'"):
            await batcher.put("a")
        sink.gate.set()
        await batcher.put("b")

    asyncio.run(run())


def test_closing_flushes_what_waits(recorder):
    """Nothing is lost at the end, and nothing is taken after it."""

    async def run():
        sink = Sink()
        batcher = Batcher(recorder, "q", sink, max_wait_seconds=60)
        put = asyncio.create_task(batcher.put("a"))
        await asyncio.sleep(0)
        await batcher.close()
        await put
        with pytest.raises(RuntimeError, match="closed"):
            await batcher.put("b")
        return sink.batches

    assert [["a"]] == asyncio.run(run())
    assert {"shutdown": 1} == flushes(recorder)


def test_a_cancelled_put_takes_its_item_back(recorder):
    """Whoever gave up does not send any more; the others do."""

    async def run():
        sink = Sink()
        batcher = Batcher(recorder, "q", sink, max_wait_seconds=0.02)
        gone, stays = asyncio.create_task(batcher.put("gone")), asyncio.create_task(batcher.put("stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        return sink.batches

    assert [["stays"]] == asyncio.run(run())


def test_a_plain_function_may_flush(recorder):
    """Not every sink is asynchronous."""
    batches = []

    async def run():
        await Batcher(recorder, "q", batches.append, max_items=1).put("a")

    asyncio.run(run())

    assert [["a"]] == batches


def test_it_serves_one_loop_after_another(recorder):
    """Nothing of it is bound to a loop that is gone."""
    batches = []
    batcher = Batcher(recorder, "q", batches.append, max_wait_seconds=0.01)

    asyncio.run(batcher.put("a"))
    asyncio.run(batcher.put("b"))

    assert [["a"], ["b"]] == batches


def test_its_size_is_a_tunable(recorder):
    """Changed while it runs; what makes no sense is refused."""
    batches = []
    batcher = Batcher(recorder, "q", batches.append, max_items=10, max_wait_seconds=60)

    async def run():
        batcher.max_items = 2
        async with asyncio.timeout(5):
            await asyncio.gather(batcher.put("a"), batcher.put("b"))

    asyncio.run(run())

    assert [["a", "b"]] == batches
    with pytest.raises(ValueError, match="at least 1"):
        batcher.max_items = 0


def test_its_size_adapts_to_the_load(recorder):
    """A batch that fills while another is being handed over lets the next be larger, to a limit; a quiet time undoes
    it.
    """

    def shown():
        return recorder.registry.get_sample_value("llmvitals_batch_max_items", {"queue": "q"})

    async def check():
        sink = Sink()
        batcher = Batcher(recorder, "q", sink, max_items=2, most_items=5, max_wait_seconds=0.01)
        sink.gate.clear()
        waiting = [asyncio.create_task(batcher.put(number)) for number in range(10)]
        await asyncio.sleep(0)
        under_load = shown()
        sink.gate.set()
        await asyncio.gather(*waiting)
        for number in range(3):
            await batcher.put(number)

        assert [2, 2, 3, 3] == [len(batch) for batch in sink.batches[:4]]
        assert (5, 2) == (under_load, shown())

    asyncio.run(check())


def test_a_ceiling_below_the_size_is_told(recorder):
    """It raises where the batcher is made."""
    with pytest.raises(ValueError, match="most_items of batcher 'q' must be at least max_items, 10, not 5"):
        Batcher(recorder, "q", Sink(), most_items=5)
