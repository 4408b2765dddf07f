"""Builds the dashboard viewer where there is Node.js, once: the result is kept until a source changes."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

OLDEST_NODE = 20
_SECONDS = 600
_STAMP = ".built-from"


def ensure_built(root: Path) -> Path | str:
    """The folder with the built viewer of the repository at *root*, or the reason why there is none."""
    viewer = root / "grafana" / "viewer"
    if not (viewer / "package.json").is_file():
        return f"{viewer} is missing: this is no whole checkout"
    with _alone(viewer):
        return _build(root, viewer)


def kept(root: Path) -> Path | None:
    """The folder with the built viewer, if one is there that is made from today's sources."""
    dist = root / "grafana" / "viewer" / "dist"
    return dist if (dist / "index.html").is_file() and _read(dist / _STAMP) == fingerprint(root) else None


def _build(root: Path, viewer: Path) -> Path | str:
    if built := kept(root):
        return built
    dist = viewer / "dist"
    wanted = fingerprint(root)
    if reason := _missing_node():
        return reason
    # A folder of modules from another lock file would give another viewer.
    lock = _digest([viewer / "package-lock.json"], root)
    commands = [["npm", "run", "build"]]
    if _read(viewer / "node_modules" / _STAMP) != lock:
        commands.insert(0, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    for command in commands:
        print(f"  {' '.join(command)}  (in {viewer.relative_to(root)})", flush=True)
        if reason := _run(command, viewer):
            return reason
        if "ci" in command:
            (viewer / "node_modules" / _STAMP).write_text(lock)
    (dist / _STAMP).write_text(wanted)
    return dist


def fingerprint(root: Path) -> str:
    """A hash of all that the built viewer is made from."""
    viewer = root / "grafana" / "viewer"
    sources = [p for p in viewer.iterdir() if p.is_file()] + [p for p in (viewer / "src").rglob("*") if p.is_file()]
    return _digest([*sources, root / "grafana" / "provisioning" / "datasources" / "prometheus.yml"], root)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for another build of the same folder: two at once would tear each other's modules out."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(paths: list[Path], root: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path.relative_to(root)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _missing_node() -> str:
    """Empty when Node.js and npm can build; else what is missing and what to do."""
    advice = f"install Node.js {OLDEST_NODE} or newer with npm, or Grafana"
    if not shutil.which("node") or not shutil.which("npm"):
        return f"there is no Node.js; {advice}"
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    version = re.match(r"v(\d+)", told)
    if version is None or int(version[1]) < OLDEST_NODE:
        return f"Node.js is {told.strip() or 'of an unknown version'}; {advice}"
    return ""


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(command)}` in {folder} took longer than {_SECONDS} s"
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        return f"`{' '.join(command)}` in {folder} failed:\n{tail}"
    return ""


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
