import os
import signal
import time

import pytest
from tests.instrumentation.workers.services import CALLS, Scrape, faults, gunicorn, uvicorn
from tests.servers import eventually, free_port, is_alive

from llmvitals import workers

STARTS = {
    "gunicorn": gunicorn,
    "gunicorn --preload": lambda path: gunicorn(path, PRELOADS="yes"),
    "gunicorn post_fork": lambda path: gunicorn(path, PRELOADS="yes", STARTS="post_fork"),
    "uvicorn --workers": uvicorn,
}


def served_by(shop, processes=2):
    """Have so many processes do some work; return what each was told to have done."""
    told = {}

    def spread():
        pid, amount = shop.work(n=2)
        told[pid] = told.get(pid, 0) + amount
        return len(told) >= processes

    eventually(spread, every=0.0, what=f"work by {processes} processes")
    return told


@pytest.mark.parametrize("kind", STARTS)
def test_one_address_shows_the_whole_service(tmp_path, groups, kind):
    """Own and foreign counters are the sum over all workers, gauges name theirs, and nothing is left at the end."""
    # With --preload the process that forks has started, too.
    living = 3 if kind == "gunicorn --preload" else 2
    with STARTS[kind](tmp_path) as shop:
        shop.await_workers(living)
        told = sum(served_by(shop).values())
        seen = [shop.scrape() for _ in range(6)]

    for scrape in seen:
        assert told == scrape.value(CALLS)
        assert told == scrape.value("shop_orders_total", kind="book")
        assert 3 * told == scrape.value("gen_ai_client_token_usage_sum")
        assert 2 == scrape.value("shop_most")
        assert living == len(scrape.labels("shop_depth")) == len(scrape.labels("shop_sensor"))
        assert [(("worker", str(number)),) for number in range(living)] == scrape.labels("shop_sensor")
        assert 1 == scrape.value("llmvitals_build_info") == scrape.value("python_info")
        resident = scrape.value("llmvitals_worker_resident_memory_bytes")
        assert resident / 2 < scrape.value("process_resident_memory_bytes") < resident * 2
    assert [] == faults(shop.server.log)
    if "uvicorn" not in kind:  # Its workers end by the signal that they were sent.
        # Where only workers import us, the last one cannot know that none will follow, and leaves the numbers.
        assert {"retained"} >= {path.name for path in groups.rglob("*") if path.name[0] in "rw" and path.is_file()}
    workers.sweep()
    assert ["lock"] == [path.name for path in groups.iterdir()]


def test_a_worker_that_is_replaced_leaves_its_counts(tmp_path):
    """With one worker that ends after each request, the service counts on, in order and killed; gauges do not stay."""
    with gunicorn(tmp_path, workers=1, MAX_REQUESTS=1) as shop:
        told = sum(shop.work(n=2)[1] for _ in range(4)) + shop.work("/kill", n=3)[1]
        shop.work(n=0)
        scrape = eventually(lambda: _scraped(shop), what="a scrape")

    assert told == scrape.value(CALLS)
    assert 0 == (scrape.value("llmvitals_operations_in_flight", operation="left") or 0)


def _scraped(shop):
    try:
        return shop.scrape()
    except OSError:
        return None


def test_two_services_know_nothing_of_each_other(tmp_path):
    """Of the same user on the same machine, with other names or other ports."""
    with (
        gunicorn(tmp_path, service="shop") as one,
        gunicorn(tmp_path, service="shop") as two,
        gunicorn(tmp_path, service="bank") as three,
    ):
        for number, shop in enumerate((one, two, three), 1):
            shop.await_workers(2)
            shop.work(n=number)

        assert [1, 2, 3] == [shop.scrape().value(CALLS) for shop in (one, two, three)]


def test_a_port_of_another_service_is_still_taken(tmp_path):
    """It is told by who cannot have it, what is scraped there is the first one's, and then the other's."""
    port = free_port()
    with gunicorn(tmp_path, service="shop", metrics_port=port) as one:
        one.await_workers(2)
        with gunicorn(tmp_path, service="bank", metrics_port=port) as two:
            two.work(n=5)
            one.work(n=1)

            assert 1 == one.scrape().value(CALLS)
            one.server.stop()
            # Once it is free, the other has it.
            two.await_workers(2)
            assert 5 == two.scrape().value(CALLS)
    assert [] == faults(one.server.log)
    assert any("cannot listen" in fault for fault in faults(two.server.log))


def test_no_scrape_fails_when_a_worker_that_listens_is_killed(tmp_path):
    """Each new connection is answered by who is left, and no counter goes back."""
    with gunicorn(tmp_path, workers=3) as shop:
        shop.await_workers(3)
        told, last = 0, 0
        for _ in range(6):
            killed, amount = shop.work("/kill", n=2)
            told += amount
            eventually(lambda pid=killed: not is_alive(pid), what="its death")
            for _ in range(3):
                now = shop.scrape().value(CALLS)
                assert now >= last
                last = now
            shop.await_workers(3)

        assert told == shop.scrape().value(CALLS)
    assert [] == faults(shop.server.log)


def test_a_worker_that_is_stopped_costs_only_its_foreign_part(tmp_path):
    """Scrapes go on, within their time; its own numbers are exact, of the rest the last is shown; it is told."""
    with gunicorn(tmp_path) as shop:
        shop.await_workers(2)
        told = served_by(shop)
        before = shop.scrape()
        stopped = next(iter(told))
        os.kill(stopped, signal.SIGSTOP)
        try:
            started = time.monotonic()
            # Both may accept; what the stopped one has accepted is not answered.
            seen = [eventually(lambda: _scraped_within(shop, 3), seconds=30, what="a scrape") for _ in range(2)]
            took = time.monotonic() - started
        finally:
            os.kill(stopped, signal.SIGCONT)

    assert took < 30
    for scrape in seen:
        assert sum(told.values()) == scrape.value(CALLS) == scrape.value("shop_orders_total")
        assert before.value("shop_depth") == scrape.value("shop_depth")
    assert 1 <= seen[-1].value("llmvitals_instrumentation_errors_total", component="workers")


def _scraped_within(shop, seconds):
    try:
        return Scrape(shop.scraped(seconds))
    except OSError:
        return None


def test_prometheus_clients_own_mode_is_served_at_one_address(tmp_path):
    """The application's files hold all counters, ours too; custom collectors are asked; gauges of the dead go."""
    files = tmp_path / "prometheus"
    files.mkdir()
    with gunicorn(tmp_path, PROMETHEUS_MULTIPROC_DIR=files) as shop:
        shop.await_workers(2)
        told = served_by(shop)
        killed, amount = shop.work("/kill", n=7)
        shop.await_workers(2)
        scrape = eventually(
            lambda: (seen := shop.scrape()).value("shop_most") == 2 and seen, what="the dead worker's gauge going"
        )

    assert sum(told.values()) + amount == scrape.value(CALLS) == scrape.value("shop_orders_total")
    assert 2 == len(scrape.labels("shop_sensor"))
    assert not (files / f"gauge_livemax_{killed}.db").exists()
    assert [] == faults(shop.server.log)
