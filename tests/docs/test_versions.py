"""Which versions of the libraries that it watches llmvitals is tested with, and says so."""

import runpy
from pathlib import Path

from packaging.version import Version

from llmvitals import integrations

ROOT = Path(__file__).parents[2]
versions = runpy.run_path(str(ROOT / "docs" / "versions.py"))


def test_the_oldest_are_locked_as_declared():
    """The lowest version that a declaration allows is the one that `make test-oldest` installs."""
    oldest, locked = versions["oldest"](), versions["locked"]("constraints-oldest.txt")

    assert {name: Version(version) for name, version in oldest.items()} == {
        name: Version(locked[name]) for name in oldest
    }


def test_every_library_that_is_watched_has_an_oldest_version():
    """None is watched whose oldest version nobody has thought about."""
    watched = {module.partition(".")[0].replace("_", "-") for _, module, _ in integrations._LIBRARIES}
    # It goes with no openai SDK that is new, so its tests are in an environment of their own.
    elsewhere = {"litellm"}

    assert set() == watched - elsewhere - set(versions["oldest"]())


def test_the_page_tells_the_versions():
    """`docs/versions.py` would write nothing else."""
    assert versions["table"]() in versions["TARGET"].read_text(), "docs/versions.py writes it anew"
