"""For the tests of applications: vital signs without server, threads or any global state.

```python
def test_a_reply_is_counted():
    with llmvitals.testing.fresh() as vitals:
        ask("How are you?", vitals)

        assert 1 == vitals.value("gen_ai_client_operation_duration_seconds_count", gen_ai_request_model="talker")
```

An application that calls `llmvitals.start` itself is tested inside of `active`, for instance in a fixture:

```python
@pytest.fixture
def vitals():
    with llmvitals.testing.active() as vitals:
        yield vitals
```
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from llmvitals import _current, catalogue
from llmvitals._family import Family
from llmvitals._vitals import Vitals

__all__ = ["TestVitals", "active", "fresh"]


class TestVitals(Vitals):
    """A `Vitals` whose numbers can be read."""

    __test__ = False  # pytest: this is no test case.

    def value(self, name: str, /, **labels: str) -> float | None:
        """Return the sum of the samples called *name* that have these labels; None when there is none.

        *name* is a sample's name as on ``/metrics``: ``..._total``, ``..._count``, ``..._sum``, ``..._bucket``.
        Raises LookupError for a name, or a label, that nothing here can ever have: a test that expects None of a
        misspelt one would pass for ever.
        """
        found = [sample.value for sample in self._samples(name, labels) if labels.items() <= sample.labels.items()]
        return sum(found) if found else None

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return every sample called *name* by its labels, sorted. Raises LookupError like `value`."""
        return {tuple(sorted(sample.labels.items())): sample.value for sample in self._samples(name, ())}

    def _samples(self, name: str, labels: "dict[str, str] | tuple[()]") -> list[Sample]:
        family = _families().get(name)
        if family is not None and (unknown := set(labels) - {*family.labels, "le"}):
            raise LookupError(f"{name} has no label {', '.join(sorted(unknown))}; it has {', '.join(family.labels)}")
        self.recorder.drain()
        # First, because a look may be what makes a metric.
        self.recorder.look()
        shown = list(self.registry.restricted_registry([name]).collect())
        found = [sample for metric in shown for sample in metric.samples if sample.name == name]
        if not found and family is None:
            self._look_for(name)
        return found

    def _look_for(self, name: str) -> None:
        """Raise LookupError unless the application has a metric of this name, which shows no sample yet."""
        own = [metric.name for metric in self.registry.collect() if name.startswith(metric.name)]
        if not own:
            from difflib import get_close_matches  # noqa: PLC0415 -- for those who mistype

            near = get_close_matches(name, _families(), n=3)
            raise LookupError(f"nothing shows {name}{'; did you mean ' + ' or '.join(near) + '?' if near else ''}")


def fresh(service: str = "test") -> TestVitals:
    """Return vitals on a registry of their own. Give them to `llmvitals.instrument` to watch the integrations."""
    return TestVitals(service=service, registry=CollectorRegistry(), threads=False)


class _ActiveVitals(TestVitals):
    """What the application takes for its own. It may close them; the test still reads them."""

    def close(self) -> None:
        if _current.stand_in() is not self:
            super().close()


@contextmanager
def active(service: str = "test") -> Iterator[TestVitals]:
    """Let `llmvitals.start` return these vitals, whatever it is told: no port is opened, no thread started.

    `llmvitals.instrument` without vitals records there, too. Afterwards all is as before. Not for tests that run at the
    same time in one process: it is the process's.
    """
    vitals = _ActiveVitals(service=service, registry=CollectorRegistry(), threads=False)
    before = _current.stand_in()
    _current.push(vitals)
    _current.use_stand_in(vitals)
    try:
        yield vitals
    finally:
        _current.use_stand_in(before)
        vitals.close()


@cache
def _families() -> dict[str, Family]:
    """The families by the names of their samples."""
    kinds = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {f"{family.name}{ending}": family for family in catalogue.FAMILIES for ending in kinds[family.type]}
