"""``functools.lru_cache`` among the named caches."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from llmvitals import catalogue
from llmvitals._vitals import Vitals

Function = TypeVar("Function", bound=Callable[..., Any])


def watch_lru_cache(vitals: Vitals, name: str, function: Function) -> Function:
    """Show the hits, misses and entries of a *function* under ``functools.lru_cache`` as those of the cache *name*.

    Its own statistics are read at each scrape, so that a call costs nothing; what it evicts for want of room, it does
    not tell. Returns *function* itself; TypeError when it has no ``cache_info``.
    """
    info = getattr(function, "cache_info", None)
    if info is None:
        raise TypeError(f"{function!r} is no function under functools.lru_cache: it has no cache_info()")
    recorder = vitals.recorder
    before = {"hits": 0, "misses": 0, "currsize": 0}
    lock = threading.Lock()

    def look() -> None:
        with lock:
            now = info()
            if now.hits < before["hits"] or now.misses < before["misses"]:
                # cache_clear() has set them to zero; what was counted between the last look and that is lost.
                recorder.child(catalogue.CACHE_EVICTIONS, name, "cleared").inc(before["currsize"])
                before.update(hits=0, misses=0)
            recorder.child(catalogue.CACHE_REQUESTS, name, "hit").inc(now.hits - before["hits"])
            recorder.child(catalogue.CACHE_REQUESTS, name, "miss").inc(now.misses - before["misses"])
            before.update(hits=now.hits, misses=now.misses, currsize=now.currsize)

    with recorder.guard("caches"):
        look()
        recorder.look_at_scrape(look)
        recorder.read_at_scrape(catalogue.CACHE_ENTRIES, name, read=lambda: info().currsize)
        if info().maxsize is not None:
            recorder.child(catalogue.CACHE_MAX_ENTRIES, name).set(info().maxsize)
    return function
