"""The bar of many workers: sixty-four of them, a thousand deaths, and nothing lost, doubled or left over."""

import os
import queue
import random
import statistics
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.instrumentation.workers.services import CALLS, NO_ANSWER, gunicorn

WORKERS = 64
# An orderly end costs an interpreter three times what being killed does, and much more than we do.
KILLED, ORDERLY = 950, 50


@pytest.fixture(name="in_memory")
def _in_memory(groups, monkeypatch, tmp_path):
    """Where the groups are by default; a disk that others write to would be measured, too."""
    base = Path("/dev/shm") / f"llmvitals-test-{os.getpid()}-{random.randrange(1 << 30)}"
    if not base.parent.is_dir():
        yield groups
        return
    base.mkdir(0o700)
    monkeypatch.setenv("LLMVITALS_WORKERS_DIR", str(base))
    yield base
    for path in sorted(base.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    base.rmdir()


def scrape_seconds(*shops, rounds=15):
    """The median for each, asked in turn, so that what else the machine does is the same for all."""
    found = {shop.metrics_port: [] for shop in shops}
    for _ in range(rounds):
        for shop in shops:
            started = time.perf_counter()
            shop.scraped()
            found[shop.metrics_port].append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in found.values()]


def sixty_four_workers(tmp_path, **more):
    return gunicorn(tmp_path, workers=WORKERS, PRELOADS="yes", STARTS="post_fork", **more)


def test_a_thousand_deaths_of_sixty_four_workers(tmp_path, in_memory):
    """Under load, killed and in order: totals are exactly what the clients were told, the scrape is as fast as with
    new workers, and no file is left.
    """
    # Each request is a worker's last: it is killed after it, or ends in order.
    with sixty_four_workers(tmp_path, MAX_REQUESTS=1) as shop:
        shop.await_workers(WORKERS, seconds=120)
        jobs = queue.SimpleQueue()
        wanted = [("/kill", 3)] * KILLED + [("/work", 2)] * ORDERLY
        random.Random(64).shuffle(wanted)
        for job in wanted:
            jobs.put(job)
        told = []

        def ask():
            with suppress(queue.Empty):
                while True:
                    told.append(shop.work(*jobs.get_nowait()))

        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            # Prometheus scrapes on meanwhile. The one that it has asked may be killed: then this scrape is lost.
            with suppress(*NO_ANSWER):
                shop.scrape()
            clients[0].join(3.0)
        shop.await_workers(WORKERS, seconds=120)
        with sixty_four_workers(tmp_path) as other:
            other.await_workers(WORKERS, seconds=120)
            after, fresh = scrape_seconds(shop, other)
        seen = shop.scrape()
        files = [path for path in in_memory.rglob("*") if not path.is_dir()]

    amount = sum(amount for _, amount in told)
    assert KILLED + ORDERLY == len(told)
    assert amount == seen.value(CALLS)
    assert 3 * amount == seen.value("gen_ai_client_token_usage_sum")
    assert len(files) <= 3 * WORKERS + 10
    assert after <= 2 * fresh
    assert ["lock"] == [path.name for path in in_memory.iterdir()]
