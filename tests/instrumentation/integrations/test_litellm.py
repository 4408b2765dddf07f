"""litellm needs an older openai SDK than all else here, so it has an environment of its own."""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[3]
SUITE = Path(__file__).with_name("litellm_suite.py")
ENVIRONMENT = ROOT / "build" / "test-litellm"
# 1.107.0 is known to have been tampered with. tenacity is for its retries, mcp for its responses; the rest is ours.
REQUIREMENTS = ("litellm>=1.100,<1.107", "mcp", "tenacity", "prometheus-client", "psutil", "pytest>=9", "requests")
REQUIREMENTS += ("pyyaml", "starlette", "uvicorn")


def environment():
    """The interpreter of an environment that has litellm; the first time makes it, which takes a minute."""
    python, made = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.txt"
    wanted = "\n".join((sys.version, *REQUIREMENTS))
    if not made.exists() or made.read_text() != wanted:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
        subprocess.run((*pip, "uv"), check=True)
        uv = (python, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python)
        subprocess.run((*uv, *REQUIREMENTS), check=True)
        made.write_text(wanted)
    return python


def test_litellm():
    """All of litellm_suite.py passes there."""
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("", "instrumentation", "examples")),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # It would else fetch the prices.
    }
    # litellm has warnings of its own.
    pytest = (environment(), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-o", "filterwarnings=default", SUITE)

    done = subprocess.run(pytest, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
