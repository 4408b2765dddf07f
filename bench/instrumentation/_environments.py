"""Where each contender is installed: virtual environments below build/, which nothing else uses."""

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
    "llmvitals-costs": (),
    "llmvitals-workers": (),
    "by-hand": (),
    "by-hand-mmap": (),
    "openai-v2": (OPENTELEMETRY, "opentelemetry-instrumentation-openai-v2", "opentelemetry-util-genai>=0.4b0,<0.5"),
    "genai-openai": (OPENTELEMETRY, "opentelemetry-instrumentation-genai-openai"),
    "OpenLLMetry": (OPENTELEMETRY, "opentelemetry-instrumentation-openai"),
    "OpenLIT": (OPENTELEMETRY, "openlit>=1.45"),
    # 1.107.0 is known to have been tampered with.
    "LiteLLM": ("litellm>=1.100,<1.107",),
}


def environment(contender: str) -> Path:
    """Return the interpreter of the environment that *contender* is in; make it when it is not there."""
    requirements = REQUIREMENTS[contender]
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
