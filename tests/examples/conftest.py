import pytest
from tests.examples.companions import companion
from tests.examples.faulty import faulty_llm


@pytest.fixture(scope="session", name="faulty_process")
def _faulty_process(tmp_path_factory):
    """One faulty_llm for all tests of this folder: it starts in half a second, and that adds up."""
    with faulty_llm(log=tmp_path_factory.mktemp("faulty") / "log") as faulty:
        yield faulty


@pytest.fixture(name="faulty")
def _faulty(faulty_process):
    """faulty_llm with its dials as they are at the start, and an empty ledger."""
    faulty_process.reset()
    yield faulty_process
    faulty_process.reset()


@pytest.fixture(scope="module", name="running")
def _running(faulty_process, tmp_path_factory):
    """One companion for a module whose tests leave it as it was."""
    faulty_process.reset()
    with companion(faulty_process, tmp_path_factory.mktemp("companion") / "data") as running:
        yield running


@pytest.fixture(name="fresh")
def _fresh(faulty, tmp_path):
    """A companion of the test's own, for faults that leave traces."""
    with companion(faulty, tmp_path / "data") as fresh:
        yield fresh
