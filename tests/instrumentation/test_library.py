"""The page about the library, and its face."""

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import llmvitals
import llmvitals.exposition
from llmvitals._loop import LoopWatch
from llmvitals.testing import TestVitals

PAGES = Path(__file__).parents[2] / "docs"
PAGE = PAGES / "library.md"
# What `start` does, in steps.
STEPS = {"join_workers", "serve_metrics", "start_agent", "watch_process"}
FACES = [
    *(face for name in llmvitals.__all__ if inspect.isclass(face := getattr(llmvitals, name))),
    LoopWatch,
    TestVitals,
]


def public(face):
    """What a class of ours offers, by name, with what it has from a base of ours."""
    ours = [base for base in reversed(face.__mro__) if base.__module__.startswith("llmvitals")]
    return {
        name: member
        for base in ours
        for name, member in vars(base).items()
        if not name.startswith("_") and _is_offered(member)
    }


def _is_offered(member):
    return inspect.isfunction(member) or isinstance(member, property)


@pytest.mark.parametrize("page", ["library.md", "exposition.md"])
def test_the_page_is_a_program_that_runs(tmp_path, page):
    """Its blocks, one after the other, each on the lines where the page has it."""
    lines = (PAGES / page).read_text().splitlines()
    program, inside = [], False
    for line in lines:
        fence = line.startswith("```")
        inside = line == "```python" if fence else inside
        program.append(line if inside and not fence else "")
    file = tmp_path / f"{page}.py"
    file.write_text("\n".join(program) + "\n")

    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("LLMVITALS_")}
        | {"LLMVITALS_METRICS_PORT": "0"},
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert len(lines) <= 400


def test_the_page_shows_every_method():
    """Who reads it has seen the whole face."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    methods = [name for name, member in public(llmvitals.Vitals).items() if inspect.isfunction(member)]

    assert [] == [name for name in methods if name not in STEPS and f"vitals.{name}(" not in code]


@pytest.mark.parametrize(("page", "module"), [("library.md", llmvitals), ("exposition.md", llmvitals.exposition)])
def test_a_page_names_every_public_name(page, module):
    """Whether it shows a use of it, or says what it is."""
    words = set(re.findall(r"\w+", (PAGES / page).read_text()))

    assert [] == [name for name in module.__all__ if name not in words]


def test_every_variable_is_documented():
    """In a page or in `.env.example`; those of `Settings` are its fields, by a rule that the page tells."""
    code = "".join(path.read_text() for path in Path(llmvitals.__file__).parent.rglob("*.py"))
    told = "".join(path.read_text() for path in (*PAGES.glob("*.md"), PAGES.parent / ".env.example"))
    fields = {f"LLMVITALS_{field.name.upper()}" for field in dataclasses.fields(llmvitals.Settings)}
    variables = set(re.findall(r"LLMVITALS(?:_[A-Z]+)+", code)) - fields

    assert [] == [name for name in sorted(variables) if name not in told]


def test_the_page_knows_every_argument_of_start():
    """And the environment variable behind it, where there is one."""
    page = PAGE.read_text()
    variables = set(re.findall(r"LLMVITALS_[A-Z_]+", inspect.getdoc(llmvitals.start)))

    assert [] == [name for name in inspect.signature(llmvitals.start).parameters if f"`{name}`" not in page]
    assert [] == [name for name in sorted(variables) if f"`{name}`" not in page]


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_everything_public_says_what_it_does(face):
    """A docstring of its own, not one of the class that it inherits from."""
    documented = {
        name: (member.fget if isinstance(member, property) else member).__doc__
        for name, member in public(face).items()
        # A mapping's are known.
        if not (face is llmvitals.Cache and name in {"pop", "popitem"})
    }

    assert [] == [name for name, text in documented.items() if not text]
