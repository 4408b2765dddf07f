import pytest
from prometheus_client import CollectorRegistry

from llmvitals._pools import Pools
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


def connections(recorder):
    return {
        state: recorder.registry.get_sample_value("llmvitals_pool_connections", {"pool": "p", "state": state})
        for state in ("used", "idle")
    }


def test_what_is_used_and_idle_is_shown(recorder):
    """A kept connection becomes idle, and the idle one is the next to be used."""
    pool = Pools(recorder).pool("p", max_size=100)

    pool.acquire()
    pool.acquire()
    pool.release(keep=True)
    assert {"used": 1, "idle": 1} == connections(recorder)
    pool.acquire()
    pool.release()

    assert {"used": 1, "idle": 0} == connections(recorder)
    assert 100 == recorder.registry.get_sample_value("llmvitals_pool_max_connections", {"pool": "p"})


def test_the_context_manager_releases_on_errors(recorder):
    """A connection that fails is not in use any more."""
    pool = Pools(recorder).pool("p", max_size=100)

    with pytest.raises(OSError, match="gone"), pool:
        raise OSError(f"gone, with {connections(recorder)['used']} in use")

    assert 0 == connections(recorder)["used"]


def test_waiting_is_pending_and_timed(recorder):
    """Those who wait are seen while they wait, and counted afterwards."""
    pool = Pools(recorder).pool("p", max_size=1)

    with pool.waiting():
        assert 1 == recorder.registry.get_sample_value("llmvitals_pool_pending_requests", {"pool": "p"})

    assert 0 == recorder.registry.get_sample_value("llmvitals_pool_pending_requests", {"pool": "p"})
    assert 1 == recorder.registry.get_sample_value("llmvitals_pool_wait_seconds_count", {"pool": "p"})


def test_a_release_too_many_is_a_fault_not_a_negative_number(recorder):
    """The gauge stays true to what can be, and the mistake is counted."""
    pool = Pools(recorder).pool("p", max_size=1)

    pool.release()

    assert 0 == connections(recorder)["used"]
    assert 1 == recorder.registry.get_sample_value("llmvitals_instrumentation_errors_total", {"component": "pools"})


def test_mistakes_are_told_at_registration(recorder):
    """A name taken twice, and a pool that can hold nothing."""
    pools = Pools(recorder)
    pools.pool("p", max_size=1)

    with pytest.raises(ValueError, match="registered already"):
        pools.pool("p", max_size=1)
    with pytest.raises(ValueError, match="at least 1"):
        pools.pool("q", max_size=0)
