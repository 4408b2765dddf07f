"""What the exporter's tests share: read a collector, and look at what it gave."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from llmvitals_exporter._declaration import Declaration, Option, Settings, Source
from llmvitals_exporter._places import PROCFS, ROOTFS
from llmvitals_exporter._samples import checked

#: A small machine's kernel files.
LINUX = Path(__file__).parent / "linux"


def settings(machine: Path = LINUX, more: Mapping[Option, object] | None = None) -> Settings:
    """The settings of an exporter that looks at the files under *machine*."""
    places = {PROCFS: f"{machine}/proc", ROOTFS: "/"}
    return Settings({**places, **(more or {})})


def values(declaration: Declaration, source: Source) -> dict[str, float]:
    """One read, as ``name{label="value"}`` to number, checked as the frame checks it."""
    return flat(checked(declaration, source.read()))


def flat(samples: Mapping) -> dict[str, float]:
    return {
        series(family, labels): value for family, by_labels in samples.items() for labels, value in by_labels.items()
    }


def series(family, labels: Iterable[str]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in zip(family.labels, labels, strict=True))
    return f"{family.name}{{{pairs}}}" if pairs else family.name


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write *files* (path to text) under *root*; ``{here}`` in a text is *root*."""
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("{here}", str(root)), encoding="utf-8")
    return root


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll *condition* until it holds; an AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
