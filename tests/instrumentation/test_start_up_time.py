"""Starting costs an application little: what is heavy is imported by what needs it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llmvitals

ROOT = Path(__file__).parents[2]

# Each of them takes more than a millisecond, and none is needed to count.
HEAVY = {
    "aiosqlite", "anthropic", "cachetools", "concurrent.futures.process", "ctypes", "decimal", "difflib", "httpx",
    "importlib.metadata", "jinja2", "multiprocessing", "openai", "opentelemetry", "pickle", "psutil", "redis",
    "requests", "sqlalchemy", "sqlite3", "starlette", "statistics", "tenacity", "tracemalloc", "urllib3", "uuid",
    "websockets", "yaml",
}  # fmt: skip

IMPORT = "import llmvitals"
MAKE = f"{IMPORT}; vitals = llmvitals.Vitals(service='app', registry=prometheus_client.CollectorRegistry())"
USE = f"""{MAKE}
with vitals.call(provider='openai', model='talker') as call: call.usage(input_tokens=1)
with vitals.operation('talk', target_seconds=1): pass
vitals.summary()"""
START = f"{IMPORT}; vitals = llmvitals.start(port=0)"


@pytest.mark.parametrize("code", [IMPORT, MAKE, USE, START], ids=["import", "make", "use", "start"])
def test_what_is_heavy_is_not_imported(code):
    """Beyond what prometheus_client brings, none of the modules that take long."""
    script = f"import sys, prometheus_client; before = set(sys.modules); {code}\nprint(*set(sys.modules) - before)"
    brought = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert "llmvitals" in brought
    assert set() == HEAVY & set(brought)


def test_the_version_is_the_packages():
    """Written in two places, because reading the installed package's takes 10 ms."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == llmvitals.__version__
