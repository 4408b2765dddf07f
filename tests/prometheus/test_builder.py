"""The rules that are generated are those that are committed."""

import subprocess
import sys

from prometheus.builder.__main__ import FOLDER, problems, texts
from tests.prometheus.known_metrics import PROMETHEUS


def test_the_committed_rules_are_what_the_builder_writes():
    """A change of the builder, of slo.yml or of a generated file comes with the others."""
    assert [] == problems()


def test_the_check_tells_each_file_that_differs_lacks_or_is_nobodys(tmp_path):
    """All at once, by path."""
    for path, text in texts().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (tmp_path / "recording" / "llm-client.yml").write_text("groups: []\n", encoding="utf-8")
    (tmp_path / "recording" / "llm-jobs.yml").unlink()
    (tmp_path / "recording" / "mine.yml").write_text("groups: []\n", encoding="utf-8")

    assert [
        f"{tmp_path / 'recording' / 'llm-client.yml'} is not up to date",
        f"{tmp_path / 'recording' / 'llm-jobs.yml'} is not up to date",
        f"{tmp_path / 'recording' / 'mine.yml'} is made by nothing in prometheus/builder",
    ] == problems(tmp_path)


def test_the_command_checks_without_writing():
    """What `make lint` can ask."""
    before = {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*.yml")}

    finished = subprocess.run(
        [sys.executable, "-m", "prometheus.builder", "--check"],
        cwd=PROMETHEUS.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (finished.returncode, finished.stderr)
    assert before == {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*.yml")}
