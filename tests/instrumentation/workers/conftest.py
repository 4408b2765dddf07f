import pytest


@pytest.fixture(autouse=True)
def groups(tmp_path_factory, monkeypatch):
    """The directory of all groups: this test's own. Its path is too long for a socket's, as a user's may be."""
    path = tmp_path_factory.mktemp("groups") / ("workers" + "-of-a-test" * 8)
    path.mkdir(0o700)
    monkeypatch.setenv("LLMVITALS_WORKERS_DIR", str(path))
    for variable in ("LLMVITALS_WORKERS", "LLMVITALS_SERVICE", "LLMVITALS_METRICS_PORT", "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.delenv(variable, raising=False)
    return path
