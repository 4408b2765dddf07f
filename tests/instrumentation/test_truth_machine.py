"""Any order of calls and of ways to leave a stream, as a state machine: at no step is a number wrong."""

import asyncio
import gc

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from tests.instrumentation.books import User, differences, forget, troubled_llm, watched
from tests.servers import eventually, request

# What a stalling stream sends before it stalls.
STALLED_CHUNKS = 3


class Held:
    """A stream that somebody holds."""

    def __init__(self, stream, *, stalls):
        self.stream = stream
        self.chunks = iter(stream)
        self.stalls = stalls
        self.read = 0
        self.over = False


class Calls(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self, faulty):
        super().__init__()
        self.faulty = faulty
        forget(faulty)
        self.watching = watched(faulty)
        self.vitals = self.watching.__enter__()
        self.user = User(self.vitals, faulty)
        self.open = 0

    # --- Calls that are over when they return -------------------------------------------------------------------------

    @rule(own=st.booleans())
    def plain(self, own):
        self.user.in_a_call_of_its_own() if own else self.user.plain()

    @rule()
    def embedded(self):
        self.user.embedded()

    @rule(usage=st.booleans())
    def streamed(self, usage):
        self.user.streamed(usage=usage)

    @rule(stream=st.booleans())
    def retried_by_the_sdk(self, stream):
        self.user.retried_by_the_sdk(stream=stream)

    @rule()
    def retried_by_tenacity(self):
        self.user.retried_by_tenacity()

    @rule()
    def cut(self):
        self.user.cut()

    @rule(calls=st.integers(1, 5))
    def at_once(self, calls):
        asyncio.run(self.user.at_once(calls))

    @rule(calls=st.integers(1, 3))
    def cancelled(self, calls):
        asyncio.run(self.user.cancelled(calls))

    # --- Streams that stay open ---------------------------------------------------------------------------------------

    @rule(target=held, stalls=st.booleans(), usage=st.booleans())
    def opened(self, stalls, usage):
        self.open += 1
        return Held(self.user.opened("stalling" if stalls else "primary", usage=usage), stalls=stalls)

    @rule(held=held)
    def one_chunk_is_read(self, held):
        if held.over or (held.stalls and held.read == STALLED_CHUNKS):
            return
        if next(held.chunks, None) is None:
            self._over(held)
        elif held.stalls:
            self.user.saw["further chunks" if held.read else "half read"] += 1
        held.read += 1

    @rule(held=held)
    def read_to_the_end(self, held):
        if not held.stalls:
            list(held.chunks)
            self._over(held)

    @rule(held=held, times=st.integers(1, 3))
    def closed(self, held, times):
        """A healthy one is read first: whether the server had sent all of it, is nobody's to know."""
        self.read_to_the_end(held)
        for _ in range(times):
            held.stream.close()
        if held.stalls and not held.over:
            self._over(held)

    @rule(held=held)
    def thrown_into(self, held):
        self.read_to_the_end(held)
        with held.stream, pytest.raises(KeyError):
            held.chunks.throw(KeyError("thrown in"))
        if held.stalls and not held.over:
            self._over(held)

    @rule(held=consumes(held))
    def dropped(self, held):
        self.read_to_the_end(held)
        if not held.over:
            self.user.saw["dropped"] += 1
            self._over(held)
        held.stream = held.chunks = None
        gc.collect()

    def _over(self, held):
        self.open -= not held.over
        held.over = True

    # --- What is always so --------------------------------------------------------------------------------------------

    @invariant()
    def what_is_open_is_in_flight(self):
        assert self.open == (self.vitals.value("llmvitals_calls_in_flight") or 0)

    @invariant()
    def nothing_of_ours_went_wrong(self):
        assert self.vitals.value("llmvitals_instrumentation_errors_total") is None

    def teardown(self):
        # The bundle's own are still held; whoever has not been read to the end is closed.
        for held in self.names_to_values.values():
            if isinstance(held, Held) and held.stream is not None:
                self.closed(held, 1)
        try:
            # The SDK leaves the connection of a stream that was dropped unread open, for as long as the client is.
            self.user.close()
            eventually(self._nobody_is_served, what="the server noticed everybody's leaving")
            assert {} == differences(self.vitals, self.faulty, self.user)
        finally:
            self.watching.__exit__(None, None, None)

    def _nobody_is_served(self):
        return all(ledger["in_flight"] == 0 for ledger in request(f"{self.faulty.control}/ledger").json().values())


@pytest.fixture(scope="module", name="faulty")
def _faulty(tmp_path_factory):
    # What the whole run of tests has made need not be looked through at each collection.
    gc.freeze()
    with troubled_llm(tmp_path_factory.mktemp("faulty") / "log") as faulty:
        yield faulty
    gc.unfreeze()


def test_no_order_of_calls_makes_a_number_wrong(faulty):
    """Open streams are in flight, nothing else is; in the end everything equals the server's ledger."""
    run_state_machine_as_test(
        lambda: Calls(faulty),
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=True,
            # Shrinking takes minutes, as each step is a request; the steps are told all the same.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
