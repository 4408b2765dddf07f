"""A day of recorded series, made with `promtool tsdb create-blocks-from openmetrics`."""

import random
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

HOURS = 24
BLOCK_SECONDS = 2 * 3600
# So many samples are written in some minutes. With more they are thinned, down to what is just within the look-back.
_MANY = 30_000_000
_STEPS = (15, 60, 240)

Series = tuple[Mapping[str, str], float]


def step(series: int) -> int:
    """Seconds between two samples of a series."""
    return next((seconds for seconds in _STEPS if series * HOURS * 3600 // seconds <= _MANY), _STEPS[-1])


def backfill(data: Path, scratch: Path, series: Sequence[Series], until: float, progress: Callable[[str], None]) -> int:
    """Writes a day of *series* that ends at *until* into the database in *data*, and returns how many samples."""
    seconds = step(len(series))
    end = int(until) // BLOCK_SECONDS * BLOCK_SECONDS
    edges = [
        (start, min(start + BLOCK_SECONDS, int(until)))
        for start in range(end - HOURS * 3600, int(until), BLOCK_SECONDS)
    ]
    samples = 0
    for number, (start, stop) in enumerate(edges, 1):
        progress(f"back-filling, block {number} of {len(edges)} ({samples:,} samples so far)")
        page = scratch / "block.om"
        with page.open("w", encoding="utf-8", buffering=1 << 20) as file:
            for line in _page(series, range(start, stop, seconds)):
                file.write(line)
                samples += 1
            file.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(page), str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        page.unlink()
        if done.returncode != 0:
            raise RuntimeError(f"promtool could not make blocks: {(done.stderr or done.stdout).strip()[-500:]}")
    return samples


def _page(series: Sequence[Series], times: range) -> Iterator[str]:
    # A series of one value would compress to nothing, and be read faster than a real one.
    dice = random.Random(0)
    for labels, value in sorted(series, key=lambda one: sorted(one[0].items())):
        name = labels["__name__"]
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items() if key != "__name__")
        text = f"{name}{{{inside}}}"
        for time in times:
            yield f"{text} {value * dice.uniform(0.8, 1.2):.6g} {time}\n"
