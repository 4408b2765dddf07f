"""For the tests of applications: vital signs without server, threads or any global state.

```python
def test_a_reply_is_counted():
    with llmvitals.testing.fresh() as vitals:
        ask("How are you?", vitals)

        assert 1 == vitals.value("gen_ai_client_operation_duration_seconds_count", gen_ai_request_model="talker")
```
"""

from prometheus_client import CollectorRegistry

from llmvitals._vitals import Vitals


class TestVitals(Vitals):
    """A `Vitals` whose numbers can be read."""

    __test__ = False  # pytest: this is no test case.

    def value(self, name: str, /, **labels: str) -> float | None:
        """Return the sum of the samples called *name* that have these labels; None when there is none.

        *name* is a sample's name as on ``/metrics``: ``..._total``, ``..._count``, ``..._sum``, ``..._bucket``.
        """
        self.recorder.drain()
        found = [
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return every sample called *name* by its labels, sorted."""
        self.recorder.drain()
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }


def fresh(service: str = "test") -> TestVitals:
    """Return vitals on a registry of their own. Give them to `llmvitals.instrument` to watch the integrations."""
    return TestVitals(service=service, registry=CollectorRegistry(), threads=False)


__all__ = ["TestVitals", "fresh"]
