"""One Prometheus and one Alertmanager for all of this folder."""

import pytest
from tests.loop.loop import loop


@pytest.fixture(name="stack", scope="session")
def _stack(tmp_path_factory):
    """The servers; each test starts the remediation service and a shop of its own."""
    with loop(tmp_path_factory.mktemp("loop"), shops=12, kiosks=2) as started:
        yield started
