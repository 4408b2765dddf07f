"""What watching the openai SDK costs: llmvitals beside its peers, in one run.

    python -m bench.instrumentation [CONTENDER ...]

Each contender runs alone in a process of its own. The SDK is the real one; its ``create`` answers at once with canned
replies, so that what is measured is what the contender adds. The peers are installed into virtual environments below
build/, which nothing else uses; the first run takes minutes for that.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / "build" / "bench-instrumentation"

# Whatever the contender, the same: OpenLIT 1.45 knows no openai 3.
COMMON = ("openai>=2.54,<3", "httpx", "prometheus-client", "psutil", "requests")
OPENTELEMETRY = "opentelemetry-exporter-prometheus"

# The two of OpenTelemetry need different versions of a package that they share.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "llmvitals": (),
    "by hand": (),
    "openai-v2": (OPENTELEMETRY, "opentelemetry-instrumentation-openai-v2", "opentelemetry-util-genai>=0.4b0,<0.5"),
    "genai-openai": (OPENTELEMETRY, "opentelemetry-instrumentation-genai-openai"),
    "OpenLLMetry": (OPENTELEMETRY, "opentelemetry-instrumentation-openai"),
    "OpenLIT": (OPENTELEMETRY, "openlit>=1.45"),
    # 1.107.0 is known to have been tampered with.
    "LiteLLM": ("litellm>=1.100,<1.107",),
}

ROWS = (
    ("sync 0", "CPU added, plain call", "us"),
    ("sync 64", "  streamed, 64 chunks", "us"),
    ("sync 1024", "  streamed, 1,024 chunks", "us"),
    ("async 0", "  async, plain", "us"),
    ("async 64", "  async, 64 chunks", "us"),
    ("async 1024", "  async, 1,024 chunks", "us"),
    ("import", "CPU to import and start", "ms"),
    ("kept", "memory kept, 20,000 calls", "KiB"),
    ("scrape", "CPU of a scrape", "ms"),
    ("series", "  series in it", ""),
)


def environment(requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment that has *requirements*; make it when it is not there."""
    wanted = "\n".join((*COMMON, *requirements))
    folder = ENVIRONMENTS / ("-".join(name.partition(">")[0].partition("<")[0] for name in requirements) or "common")
    python, made = folder / "bin" / "python", folder / "requirements.txt"
    if not made.exists() or made.read_text() != wanted:
        print(f"Installing {', '.join(requirements) or 'the openai SDK'} ...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
        # pip itself finds no versions of OpenLIT's requirements that fit together.
        subprocess.run((*pip, "uv"), check=True)
        uv = (python, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python)
        subprocess.run((*uv, *COMMON, *requirements), check=True)
        made.write_text(wanted)
    return python


def measure(name: str) -> dict[str, float]:
    program = ("bench.instrumentation._litellm",) if name == "LiteLLM" else ("bench.instrumentation._measure", name)
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "instrumentation"))),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OTEL_SDK_DISABLED": "false",
    }
    run = subprocess.run(
        (environment(REQUIREMENTS[name]), "-m", *program), env=variables, check=True, stdout=subprocess.PIPE, cwd=ROOT
    )
    result: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    if not result["counted"]:
        raise SystemExit(f"{name} counted nothing, so its figures mean nothing")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=f"of {', '.join(REQUIREMENTS)}")
    names = parser.parse_args().contenders or list(REQUIREMENTS)
    if unknown := set(names) - set(REQUIREMENTS):
        parser.error(f"no such contender: {', '.join(unknown)}")
    for name in names:  # All of them first: installing warms and fills caches.
        environment(REQUIREMENTS[name])
    results = {name: measure(name) for name in names}

    ours = results.get("llmvitals", {})
    print(f"{'':<27}" + "".join(f"{name:>22}" for name in names))
    for key, title, unit in ROWS:
        cells = []
        for name in names:
            value = results[name].get(key)
            if value is None:
                cells.append(f"{'-':>22}")
                continue
            own = ours.get(key, 0)
            ratio = f" {value / own:6.1f}x" if unit in ("us", "ms") and own > 0 else " " * 8
            cells.append(f"{value:11,.{0 if value >= 1000 or not unit else 1}f} {unit:<2}{ratio}"[-22:].rjust(22))
        print(f"{title:<27}" + "".join(cells))


if __name__ == "__main__":
    main()
