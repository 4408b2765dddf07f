import json
import re
import subprocess

import pytest
from tests.grafana.queries import ROOT

from llmvitals_stack import viewer_build

VIEWER = ROOT / "grafana" / "viewer"


@pytest.mark.stack
def test_types_hold(dist):
    """The TypeScript compiler, strict, has nothing to say."""
    done = subprocess.run(["npm", "run", "typecheck"], cwd=VIEWER, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout


@pytest.mark.stack
def test_the_bundle_stays_small(dist):
    """What a browser must load is at most 800 kB as gzip sends it."""
    import gzip

    scripts = sorted((dist / "assets").glob("index-*.js"))

    assert 1 == len(scripts)
    assert len(gzip.compress(scripts[0].read_bytes())) < 800_000


@pytest.mark.stack
def test_a_second_build_is_not_needed(dist):
    """With unchanged sources the built files are taken as they are."""
    before = (dist / "index.html").stat().st_mtime_ns

    assert dist == viewer_build.ensure_built(ROOT)
    assert before == (dist / "index.html").stat().st_mtime_ns


def test_versions_are_exact():
    """Parts of @grafana/ui are not promised to stay; a range would break the build on a day of npm's choosing."""
    package = json.loads((VIEWER / "package.json").read_text())

    versions = package["dependencies"] | package["devDependencies"] | package["overrides"]
    assert [] == [f"{n} {v}" for n, v in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", v)]


def test_the_lock_file_names_no_registry():
    """Whoever installs takes their own registry."""
    lock = json.loads((VIEWER / "package-lock.json").read_text())

    assert [] == [name for name, package in lock["packages"].items() if "resolved" in package]


def test_modules_are_short():
    """At most 400 lines, one idea each."""
    long = [p.name for p in (VIEWER / "src").rglob("*.ts*") if len(p.read_text().splitlines()) > 400]

    assert [] == long


def _checkout(tmp_path):
    """As much of a repository as the build looks at, with an npm that writes what the real one would."""
    viewer = tmp_path / "grafana" / "viewer"
    (viewer / "src").mkdir(parents=True)
    (viewer / "package.json").write_text("{}")
    (viewer / "package-lock.json").write_text("{}")
    (viewer / "src" / "main.tsx").write_text("1")
    datasource = tmp_path / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    datasource.parent.mkdir(parents=True)
    datasource.write_text("timeInterval: 5s")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in {
        "node": "echo v20.1.0",
        "npm": 'echo "$*" >> ../../calls; case "$1" in ci) mkdir -p node_modules;; run) mkdir -p dist; '
        "echo page > dist/index.html;; esac",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    return tools


def test_it_builds_once_and_again_when_a_source_changes(tmp_path, monkeypatch):
    """Modules are installed once for a lock file; a changed source costs a build, and nothing else does."""
    monkeypatch.setenv("PATH", f"{_checkout(tmp_path)}:/usr/bin:/bin")
    dist = tmp_path / "grafana" / "viewer" / "dist"

    results = [viewer_build.ensure_built(tmp_path) for _ in range(2)]
    (tmp_path / "grafana" / "viewer" / "src" / "main.tsx").write_text("2")
    results.append(viewer_build.ensure_built(tmp_path))

    assert [dist, dist, dist] == results
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["ci --ignore-scripts --no-audit --no-fund", "run build", "run build"] == calls


@pytest.mark.parametrize(
    ("node", "reason"),
    [("exit 127", "unknown version"), ("echo v18.20.0", "v18.20.0")],
    ids=["no answer", "too old"],
)
def test_an_unfit_node_is_told(tmp_path, monkeypatch, node, reason):
    """The reason says what is there and what to do."""
    tools = _checkout(tmp_path)
    (tools / "node").write_text(f"#!/bin/sh\n{node}\n")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    found = viewer_build.ensure_built(tmp_path)

    assert isinstance(found, str)
    assert reason in found
    assert "install Node.js 20 or newer" in found


def test_a_failed_build_gives_npms_last_words(tmp_path, monkeypatch):
    """What npm said comes back as the reason; nothing is taken for built."""
    tools = _checkout(tmp_path)
    (tools / "npm").write_text("#!/bin/sh\necho 'npm error notarget'; exit 1\n")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    found = viewer_build.ensure_built(tmp_path)

    assert isinstance(found, str)
    assert "npm error notarget" in found


def test_no_checkout_no_build(tmp_path):
    """An installed wheel has no viewer's sources; that is said, not crashed over."""
    assert "is no whole checkout" in str(viewer_build.ensure_built(tmp_path))
