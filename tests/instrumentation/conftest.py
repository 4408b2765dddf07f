import pytest

from llmvitals import testing


@pytest.fixture
def vitals():
    """Vital signs on a registry of their own, without threads."""
    with testing.fresh() as fresh:
        yield fresh


@pytest.fixture
def no_created_series(monkeypatch):
    """prometheus_client without its ``_created`` series, which our encoder never writes."""
    monkeypatch.setattr("prometheus_client.metrics._use_created", False)
