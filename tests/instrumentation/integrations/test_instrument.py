"""Switching on and off, for all libraries alike."""

import importlib
import subprocess
import sys

import pytest

import llmvitals


def run(code):
    """Run *code* in a fresh interpreter, where nothing has been imported."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.split()


def test_nothing_is_imported_for_our_sake():
    """A library is watched from its import on, and keeps its own loader."""
    assert ["True"] == run("""
import sys, llmvitals
from llmvitals import testing
vitals = testing.fresh()
assert {"httpx", "openai"} <= set(llmvitals.instrument(vitals))
assert not {"httpx", "openai", "redis", "sqlalchemy"} & set(sys.modules)
import importlib.util
assert "Client" in importlib.util.find_spec("httpx").loader.get_source("httpx")
assert "httpx" not in sys.modules
import httpx
assert httpx.HTTPTransport.handle_request.__globals__["__name__"] == "llmvitals.integrations._httpx"
assert httpx.__loader__ is httpx.__spec__.loader and type(httpx.__loader__).__name__ == "SourceFileLoader"
import importlib.resources
assert (importlib.resources.files("httpx") / "py.typed").is_file()
before = list(sys.meta_path)
llmvitals.uninstrument()
print(sys.meta_path == before[1:] and httpx.HTTPTransport.handle_request.__module__ == "httpx._transports.default"
      and httpx.HTTPTransport.handle_request.__globals__["__name__"] == "httpx._transports.default")
""")


def test_what_is_imported_after_uninstrument_is_its_own():
    """The word given is taken back."""
    assert ["httpx._transports.default"] == run("""
import llmvitals
llmvitals.instrument()
llmvitals.uninstrument()
import httpx
print(httpx.HTTPTransport.handle_request.__globals__["__name__"])
""")


def test_a_module_that_fails_to_import_fails_as_before(tmp_path, monkeypatch):
    """With its own error; and the next try is told."""
    from llmvitals.integrations._imports import AfterImport

    told = []
    (tmp_path / "sometimes_broken.py").write_text("import os\nif 'BROKEN' in os.environ:\n    1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BROKEN", "1")
    after_import = AfterImport()
    after_import.wait("sometimes_broken", lambda: told.append(sys.modules["sometimes_broken"]))
    try:
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("sometimes_broken")
        assert not told
        monkeypatch.delenv("BROKEN")

        assert [importlib.import_module("sometimes_broken")] == told
    finally:
        after_import.stop()
        sys.modules.pop("sometimes_broken", None)


def test_a_library_that_looks_different_is_left_alone(monkeypatch, caplog):
    """Said once in the log; the others are watched."""
    import llmvitals.integrations._httpx as ours

    pytest.importorskip("httpx")

    def broken(session):
        session.patch(pytest.importorskip("httpx").HTTPTransport, "close", lambda original: lambda self: None)
        raise AttributeError("no such thing")

    close = pytest.importorskip("httpx").HTTPTransport.close
    monkeypatch.setattr(ours, "install", broken)
    watched = llmvitals.instrument()
    llmvitals.uninstrument()

    assert "httpx" not in watched
    assert "urllib3" in watched
    assert "httpx is not watched: AttributeError: no such thing" in caplog.text
    assert close is pytest.importorskip("httpx").HTTPTransport.close


@pytest.mark.parametrize("stand_in", ["empty", "raising", "without a spec", "a finder that raises"])
def test_strange_libraries_do_not_raise(stand_in):
    """Half-installed, of an unknown version, or a test's stand-in: each is left alone, and said in the log."""
    assert ["True"] == run(f"""
import importlib.machinery, sys, types
import llmvitals
from llmvitals import integrations, testing

class Raising(types.ModuleType):
    def __getattr__(self, name):
        raise RuntimeError(name)

class Finder:
    def find_spec(self, name, path, target=None):
        if name in ("openai", "httpx"):
            raise ImportError(name)

stand_in = {stand_in!r}
if stand_in == "a finder that raises":
    sys.meta_path.insert(0, Finder())
else:
    for _, module, _ in integrations._LIBRARIES:
        for name in (module.partition(".")[0], module):
            made = (Raising if stand_in == "raising" else types.ModuleType)(name)
            made.__path__ = []
            made.__spec__ = importlib.machinery.ModuleSpec(name, None) if stand_in in ("empty", "raising") else None
            sys.modules[name] = made
import logging
logging.disable()
with testing.fresh() as vitals:
    watched = llmvitals.instrument(vitals)
    llmvitals.uninstrument()
print(not {{"openai", "httpx"}} & set(watched))
""")


def test_a_second_time_changes_where_it_is_recorded(http_server):
    """And wraps nothing twice."""
    import requests

    with llmvitals.testing.fresh() as first, llmvitals.testing.fresh() as second:
        llmvitals.instrument(first)
        requests.get(http_server.url, timeout=10)
        llmvitals.instrument(second)
        requests.get(http_server.url, timeout=10)
        llmvitals.uninstrument()
        requests.get(http_server.url, timeout=10)

        assert 1 == first.value("http_client_request_duration_seconds_count")
        assert 1 == second.value("http_client_request_duration_seconds_count")
