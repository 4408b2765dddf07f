"""What watching the openai SDK costs: llmvitals beside its peers, in one run.

Each contender runs alone in a process of its own, several times in turns with the others, so that what disturbs the
machine disturbs all of them; the least of its rounds counts. The SDK is the real one; its ``create`` answers at once
with canned replies, so that what is measured is what the contender adds. The peers are installed into virtual
environments below build/, which nothing else uses; the first run takes minutes for that.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.instrumentation._environments import REQUIREMENTS, ROOT, environment
from bench.instrumentation._report import report

ROUNDS = 3
IMPORTS = 5
# Who is installed is compiled; so is what is measured here, after the first time, unless Python is told not to.
_NOT_PASSED_ON = ("LLMVITALS_", "OTEL_", "PYTHONDONTWRITEBYTECODE")


def run(python: Path, program: str, *arguments: str, **variables: str) -> dict[str, float]:
    """Run a module of ours that prints JSON last, and return that."""
    done = subprocess.run(
        (python, "-m", f"bench.instrumentation.{program}", *arguments),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)},
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "instrumentation"))),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **variables,
        },
        check=True,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(name: str, *, quick: bool) -> dict[str, float]:
    python, arguments = environment(name), ("--quick",) if quick else ()
    if name == "LiteLLM":
        result = run(python, "_litellm", *arguments)
    else:
        with tempfile.TemporaryDirectory(prefix="llmvitals-bench-") as folder:
            shared = {"PROMETHEUS_MULTIPROC_DIR": folder} if name == "by-hand-mmap" else {}
            result = run(python, "_measure", name, *arguments, LLMVITALS_WORKERS_DIR=folder, **shared)
    if not result.pop("counted"):
        raise SystemExit(f"{name} counted nothing, so its figures mean nothing")
    if name == "llmvitals":
        result["bare import"] = min(run(python, "_import")["ms"] for _ in range(IMPORTS))
    return result


def rounds(names: list[str], times: int, *, quick: bool) -> dict[str, list[dict[str, float]]]:
    """Measure each of *names* so often, in turns; tell on stderr how far it is."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    started = time.monotonic()
    for number in range(1, times + 1):
        for name in names:
            elapsed = time.monotonic() - started
            print(f"[{elapsed:4.0f} s] round {number} of {times}: {name}", file=sys.stderr, flush=True)
            results[name].append(measure(name, quick=quick))
    print(f"[{time.monotonic() - started:4.0f} s] done", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.instrumentation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=f"any of: {', '.join(REQUIREMENTS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each is measured (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the calls: the magnitudes only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what every round measured, too")
    settings = parser.parse_args()
    names = settings.contenders or list(REQUIREMENTS)
    if unknown := set(names) - set(REQUIREMENTS):
        parser.error(f"no such contender: {', '.join(sorted(unknown))}; there are: {', '.join(REQUIREMENTS)}")
    for name in names:  # All of them first: installing warms and fills caches.
        environment(name)
    results = rounds(names, 1 if settings.quick else max(settings.rounds, 1), quick=settings.quick)
    if settings.json:
        settings.json.write_text(json.dumps(results, indent=1))
    print(report(results))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd))} failed with {error.returncode}; it says why, above", file=sys.stderr)
        sys.exit(1)
