import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals.agent import Clock
from llmvitals.agent._leases import Keeper, LeaseError, Leases
from llmvitals.agent._profiles import Profiles
from llmvitals.agent._tunables import Tunable, Tunables


class App:
    """An application with three tunables, and a clock that a test turns."""

    def __init__(self):
        self.values = {"ttl": 300.0, "model": "thinker", "tokens": 512}
        self.failing = set()
        self.now = 1000.0
        self.recorder = Recorder(CollectorRegistry())
        clock = Clock(wall=lambda: 1_700_000_000 + self.now, monotonic=lambda: self.now)
        self.tunables = Tunables(self.recorder)
        self.profiles = Profiles(self.recorder, self.tunables)
        self.leases = Leases(self.recorder, self.tunables, self.profiles, clock)
        self._offer("ttl", low=30.0, high=3600.0)
        self._offer("model", choices=("thinker", "talker"))
        self._offer("tokens", low=1, high=4096)
        self.profiles.register("speed", {"model": "talker", "tokens": 128})

    def _offer(self, name, **limits):
        self.tunables.register(Tunable(name, get=lambda: self.values[name], set=lambda v: self.set(name, v), **limits))

    def set(self, name, value):
        self.values[name] = value
        if name in self.failing:
            raise RuntimeError(f"{name} does not like {value}")

    def metric(self, name, **labels):
        return self.recorder.registry.get_sample_value(name, labels)


@pytest.fixture(name="app")
def _app():
    return App()


ORIGINAL = {"ttl": 300.0, "model": "thinker", "tokens": 512}


def test_a_lease_ends_by_itself(app):
    """Nobody confirms, nobody calls: at its end the old values are back, and not before."""
    app.leases.grant("a", {"ttl": 60.0, "tokens": 128}, 10)
    assert {"ttl": 60.0, "model": "thinker", "tokens": 128} == app.values
    assert 1 == app.metric("llmvitals_tunable_leases")

    app.now += 9.9
    app.leases.end_due()
    assert 60.0 == app.values["ttl"]
    app.now += 0.2
    app.leases.end_due()

    assert ORIGINAL == app.values
    assert 0 == app.metric("llmvitals_tunable_leases")
    assert [] == app.leases.as_json()


def test_the_very_same_object_comes_back(app):
    """Not an equal one, not one that went through JSON."""
    before = app.values["ttl"] = float("1234.5")

    app.leases.grant("a", {"ttl": 60.0}, 10)
    app.leases.revert("a")

    assert before is app.values["ttl"]


def test_a_confirmed_lease_stays(app):
    """What was proved is the application's own value from then on."""
    app.leases.grant("a", {"ttl": 60.0}, 10)
    app.leases.confirm("a")
    app.leases.confirm("a")

    app.now += 100
    app.leases.end_due()

    assert 60.0 == app.values["ttl"]
    with pytest.raises(LeaseError, match="was confirmed"):
        app.leases.revert("a")


def test_a_renewed_lease_ends_later(app):
    """The time counts from the renewal."""
    app.leases.grant("a", {"ttl": 60.0}, 10)
    app.now += 9
    app.leases.renew("a", 10)

    app.now += 9
    app.leases.end_due()
    assert 60.0 == app.values["ttl"]
    app.now += 1
    app.leases.end_due()

    assert ORIGINAL == app.values


def test_reverting_says_how_it_ended(app):
    """A second revert, or one after the end, is no error: what was wanted is so."""
    app.leases.grant("a", {"ttl": 60.0}, 10)
    app.leases.grant("b", {"tokens": 1}, 10)

    assert "reverted" == app.leases.revert("a")
    assert "reverted" == app.leases.revert("a")
    app.now += 10
    app.leases.end_due()
    assert "expired" == app.leases.revert("b")
    with pytest.raises(LeaseError, match="no lease 'c'"):
        app.leases.revert("c")


@pytest.mark.parametrize("act", ["confirm", "renew"])
def test_what_is_over_can_be_neither_confirmed_nor_renewed(app, act):
    """Also in the moment between its end and the keeper's work."""
    do = {"confirm": app.leases.confirm, "renew": lambda lease_id: app.leases.renew(lease_id, 10)}[act]
    app.leases.grant("a", {"ttl": 60.0}, 10)
    app.now += 10

    with pytest.raises(LeaseError, match="is over"):
        do("a")
    app.leases.end_due()
    with pytest.raises(LeaseError, match="is over: expired"):
        do("a")

    assert ORIGINAL == app.values


def test_overlapping_leases_may_end_in_any_order(app):
    """One that ends below another changes nothing; the last one to end uncovers the original."""
    app.leases.grant("a", {"ttl": 60.0}, 100)
    app.leases.grant("b", {"ttl": 90.0}, 100)
    app.leases.grant("c", {"ttl": 120.0}, 100)

    app.leases.revert("a")
    assert 120.0 == app.values["ttl"]
    app.leases.revert("c")
    assert 90.0 == app.values["ttl"]
    app.leases.revert("b")

    assert ORIGINAL == app.values


def test_a_confirmation_under_another_lease_shows_when_that_ends(app):
    """The base moves, the top stays."""
    app.leases.grant("a", {"ttl": 60.0}, 100)
    app.leases.grant("b", {"ttl": 90.0}, 100)
    app.leases.confirm("a")
    assert 90.0 == app.values["ttl"]

    app.leases.revert("b")

    assert 60.0 == app.values["ttl"]


def test_a_confirmation_outlives_what_lies_below(app):
    """An older lease that ends later must not bring back what is older still."""
    app.leases.grant("a", {"ttl": 60.0, "tokens": 1}, 100)
    app.leases.grant("b", {"ttl": 90.0}, 100)
    app.leases.confirm("b")

    app.leases.revert("a")

    assert {"ttl": 90.0, "model": "thinker", "tokens": 512} == app.values


def test_closing_puts_everything_back(app):
    """The newest first, so that the application sees each step it knows."""
    steps = []
    app.leases.grant("a", {"ttl": 60.0}, 100)
    app.leases.grant("b", {"ttl": 90.0, "tokens": 1}, 100)
    app.set = lambda name, value: (steps.append((name, value)), app.values.__setitem__(name, value))

    app.leases.close()

    assert ORIGINAL == app.values
    assert [("tokens", 512), ("ttl", 60.0), ("ttl", 300.0)] == steps


def test_a_setter_that_raises_half_way_undoes_the_whole_profile(app):
    """Also its own half-done work: it had set the value before it raised."""
    app.failing = {"tokens"}

    def forgiving(name, value):
        app.values[name] = value
        if name == "tokens" and value == 128:
            raise RuntimeError("tokens does not like 128")

    app.set = forgiving

    with pytest.raises(RuntimeError, match="tokens does not like 128"):
        app.leases.grant("a", {"ttl": 60.0, "model": "talker", "tokens": 128}, 10, profile="speed")

    assert ORIGINAL == app.values
    assert [] == app.leases.as_json()
    assert app.profiles.active is None


def test_what_cannot_be_put_back_is_tried_again(app):
    """A setter that fails at the end of the lease keeps its leased value, visibly, until it succeeds."""
    app.leases.grant("a", {"ttl": 60.0, "tokens": 1}, 10)

    def refuse(name, value):
        if name == "ttl":
            raise RuntimeError("not now")
        app.values[name] = value

    app.set = refuse
    app.now += 10
    app.leases.end_due()
    assert {"ttl": 60.0, "model": "thinker", "tokens": 512} == app.values
    assert ["a"] == [lease["lease_id"] for lease in app.leases.as_json()]
    assert 1 == app.metric("llmvitals_instrumentation_errors_total", component="leases")

    app.set = app.values.__setitem__
    app.now += 1
    app.leases.end_due()

    assert ORIGINAL == app.values
    assert [] == app.leases.as_json()


def test_a_revert_that_fails_says_so_and_is_repeated(app):
    """The controller learns that the value is not back; the agent goes on trying."""
    app.leases.grant("a", {"ttl": 60.0}, 100)
    good, app.set = app.set, lambda *_: 1 / 0

    with pytest.raises(LeaseError, match=r"tunable 'ttl': ZeroDivisionError.*tried again"):
        app.leases.revert("a")
    app.set = good
    app.now += 1
    app.leases.end_due()

    assert ORIGINAL == app.values


def test_a_setter_that_hangs_holds_up_its_own_tunable_only(app):
    """Another lease ends in time, and a profile that hangs half-way is undone in the end."""
    entered, released, failed = threading.Event(), threading.Event(), []

    def hanging(name, value):
        if name == "tokens" and value == 7:
            entered.set()
            assert released.wait(10)
        app.values[name] = value

    app.set = hanging

    def grant():
        try:
            app.leases.grant("stuck", {"model": "talker", "tokens": 7}, 10)
        except LeaseError as error:
            failed.append(str(error))

    app.leases.grant("other", {"ttl": 60.0}, 5)
    thread = threading.Thread(target=grant)
    thread.start()
    assert entered.wait(5)
    app.now += 11
    [stuck, other] = sorted(app.leases.claim_due(), key=lambda lease: lease.lease_id, reverse=True)
    ending = threading.Thread(target=app.leases.end, args=(stuck,))
    ending.start()
    app.leases.end(other)
    assert 300.0 == app.values["ttl"]
    released.set()
    thread.join(5)
    ending.join(5)

    assert ORIGINAL == app.values
    assert ["lease 'stuck' ended while its values were being set; they are put back"] == failed


def test_the_keeper_ends_leases_in_real_time(app):
    """With a real clock and a thread, nobody has to call."""
    back = threading.Event()

    def watch(name, value):
        app.values[name] = value
        if value == 300.0:
            back.set()

    app.set = watch
    leases = Leases(app.recorder, app.tunables, app.profiles, Clock())
    keeper = Keeper(leases, Clock())
    keeper.start()
    try:
        leases.grant("a", {"ttl": 60.0}, 30)
        leases.renew("a", 0.05)

        assert back.wait(5)
    finally:
        keeper.stop()
    assert ORIGINAL == app.values


def test_the_active_profile_follows_its_lease(app):
    """It shows in the gauge while it is in force, and only then."""
    app.profiles.register("balanced", {"model": "thinker", "tokens": 512})
    app.leases.grant("a", app.profiles.get("balanced"), 100, profile="balanced")
    app.leases.confirm("a")
    app.leases.grant("b", app.profiles.get("speed"), 100, profile="speed")
    assert "speed" == app.profiles.active
    assert 1 == app.metric("llmvitals_profile_active", profile="speed")
    assert 0 == app.metric("llmvitals_profile_active", profile="balanced")

    app.leases.revert("b")

    assert "balanced" == app.profiles.active
    assert 1 == app.metric("llmvitals_profile_active", profile="balanced")


def test_a_profile_must_fit_its_tunables(app):
    """Both mistakes are told, when the profile is made and not when it is needed."""
    with pytest.raises(ValueError, match=r"no tunable 'colour'.*tokens is 0, but must be at least 1"):
        app.profiles.register("bad", {"colour": "red", "tokens": 0})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"low": None}, "both low and high"),
        ({"low": None, "high": None}, "or choices"),
        ({"choices": (1, 2)}, "either"),
        ({"low": 10, "high": 1}, "above high"),
        ({"low": float("nan")}, "above high"),
        ({"get": lambda: "text"}, "is no number"),
        ({"get": lambda: True}, "is no number"),
        ({"get": object}, "cannot travel"),
        ({"name": "a b"}, "name"),
    ],
    ids=str,
)
def test_a_tunable_must_make_sense(changes, told):
    """The mistake is told where it is made."""
    settings = {"name": "t", "get": lambda: 5, "set": lambda _: None, "low": 1, "high": 10} | changes
    with pytest.raises(ValueError, match=told):
        Tunable(settings.pop("name"), **settings)


# --- any order of anything --------------------------------------------------------------------------------------------

VALUES = {
    "ttl": st.floats(30.0, 3600.0),
    "model": st.sampled_from(["thinker", "talker"]),
    "tokens": st.integers(1, 4096),
}


class AnyOrder(RuleBasedStateMachine):
    """Grants, ends and confirmations in any order, against a model of a few lines."""

    def __init__(self):
        super().__init__()
        self.app = App()
        self.base = dict(ORIGINAL)
        # (lease id, values, deadline), in the order of the grants.
        self.granted = []
        self.count = 0

    @initialize(ttl=VALUES["ttl"])
    def begin(self, ttl):
        self.app.values["ttl"] = self.base["ttl"] = ttl

    @rule(
        values=st.fixed_dictionaries({}, optional=VALUES).filter(bool),
        seconds=st.integers(1, 20),
        bad=st.sampled_from([None, None, "ttl", "model", "tokens"]),
    )
    def grant(self, values, seconds, bad):
        self.count += 1
        lease_id = f"lease-{self.count}"
        if bad is None:
            self.app.leases.grant(lease_id, values, seconds)
            self.granted.append((lease_id, values, self.app.now + seconds))
            return
        raised = []

        def once(name, value):
            self.app.values[name] = value
            if name == bad and not raised:
                raised.append(name)
                raise RuntimeError(name)

        self.app.set = once
        try:
            self.app.leases.grant(lease_id, values, seconds)
            self.granted.append((lease_id, values, self.app.now + seconds))
        except RuntimeError:
            assert bad in values
        self.app.set = self.app.values.__setitem__

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def revert(self, data):
        lease = data.draw(st.sampled_from(self.granted))
        assert "reverted" == self.app.leases.revert(lease[0])
        self.granted.remove(lease)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def confirm(self, data):
        lease = data.draw(st.sampled_from(self.granted))
        self.app.leases.confirm(lease[0])
        index = self.granted.index(lease)
        self.base |= lease[1]
        below = [
            (lease_id, {k: v for k, v in values.items() if k not in lease[1]}, deadline)
            for lease_id, values, deadline in self.granted[:index]
        ]
        self.granted = below + self.granted[index + 1 :]

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), seconds=st.integers(1, 20))
    def renew(self, data, seconds):
        index = data.draw(st.integers(0, len(self.granted) - 1))
        lease_id, values, _ = self.granted[index]
        self.app.leases.renew(lease_id, seconds)
        self.granted[index] = (lease_id, values, self.app.now + seconds)

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds):
        self.app.now += seconds
        self.app.leases.end_due()
        self.granted = [lease for lease in self.granted if lease[2] > self.app.now]

    @invariant()
    def values_are_the_base_and_the_leases_on_it(self):
        expected = dict(self.base)
        for _, values, _ in self.granted:
            expected |= values
        assert expected == self.app.values

    def teardown(self):
        self.app.leases.close()
        assert self.base == self.app.values
        assert 0 == len(self.app.leases)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
