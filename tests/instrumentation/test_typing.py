"""The public API's types, as an application relies on them; `make lint` has mypy look at the same file."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import llmvitals

FOLDER = Path(__file__).parents[1] / "typing"
APPLICATION = FOLDER / "application.py"


def pyright(folder):
    """Let pyright look at what the folder's configuration names; its status and what it wrote."""
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_every_public_name_is_used():
    """What is not in that file is not checked."""
    program = APPLICATION.read_text()

    assert [] == [name for name in llmvitals.__all__ if not re.search(rf"llmvitals\.{name}\b", program)]


@pytest.mark.skipif(importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed")
def test_pyright_sees_the_types_that_applications_rely_on():
    """In its strict mode, without a word."""
    status, told = pyright(FOLDER)

    assert (0, True) == (status, "0 errors, 0 warnings" in told), told


def test_the_types_are_shipped():
    """Without this file a type checker takes everything for Any."""
    assert (Path(llmvitals.__file__).parent / "py.typed").is_file()
