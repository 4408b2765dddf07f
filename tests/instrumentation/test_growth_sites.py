import threading
import tracemalloc

import pytest

from llmvitals._growth_sites import GrowthSites


def traced(*sites):
    """A trace of three windows of two seconds, with these lines' growth in each."""
    told = [
        {"file": "/srv/app/shop/" + file, "line": line, "grown_bytes_by_window": grown} for file, line, grown in sites
    ]
    return lambda seconds, stop: {"seconds": 6.0, "windows": 3, "sites": told}


def shown(vitals):
    return {
        dict(labels)["site"]: rate
        for labels, rate in vitals.samples("llmvitals_memory_site_growth_bytes_per_second").items()
    }


def test_lines_that_grow_all_the_while(vitals):
    """A leak shows by what it adds at least; what grew once, or shrank, does not; the rest of the list is cut off."""
    leaks = [(f"leak{number}.py", 7, [2000 + number] * 3) for number in range(3)]
    growth = GrowthSites(vitals.recorder, top=2, trace=traced(*leaks, ("cache.py", 9, [90_000, 100, -5])))
    growth.look()

    assert {"app/shop/leak2.py:7": 1001.0, "app/shop/leak1.py:7": 1000.5} == shown(vitals)


def test_a_line_that_grows_no_more_goes(vitals):
    """What is shown is what the last look found."""
    growth = GrowthSites(vitals.recorder, trace=traced(("a.py", 1, [6, 6, 6])))
    growth.look()
    growth._trace = traced(("b.py", 2, [6, 6, 6]))
    growth.look()

    assert {"app/shop/b.py:2": 3.0} == shown(vitals)


def test_a_real_leak_is_found(vitals):
    """A thread that keeps what it makes is named, by its file and line, and nothing is traced afterwards."""
    kept, done = [], threading.Event()

    def leak():
        while not done.wait(0.005):
            kept.append(bytes(5000))

    thread = threading.Thread(target=leak)
    thread.start()
    try:
        GrowthSites(vitals.recorder, seconds=0.9, every_seconds=60).look()
    finally:
        done.set()
        thread.join()

    line = leak.__code__.co_firstlineno + 2
    assert f"tests/instrumentation/test_growth_sites.py:{line}" == max(
        shown(vitals), key=lambda site: shown(vitals)[site]
    )
    assert not tracemalloc.is_tracing()


def test_it_ends_with_the_vitals(vitals):
    """A look that is under way is broken off, and shows nothing."""
    growth = GrowthSites(vitals.recorder, seconds=30, every_seconds=60)
    growth.close()
    growth.look()

    assert {} == shown(vitals)
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize("wrong", [{"top": 0}, {"top": 21}, {"seconds": 0}, {"every_seconds": 10}])
def test_settings_that_are_none(vitals, wrong):
    """They are told where it is asked for; asked for again, it is the first one."""
    with pytest.raises(ValueError, match="top must be from 1 to 20"):
        vitals.watch_growth(**wrong)

    assert vitals.watch_growth() is vitals.watch_growth(top=3)
