"""Record the pages anew: ``python -m tests.prometheus.pages.record [NAME ...]``, from the repository's root.

Each instrumentation runs in an environment of its own below build/, which bench/instrumentation makes where it is not
there; that needs a package index, and takes minutes once. When a version is raised, see tests/prometheus/test_pages.py.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.instrumentation import _environments
from tests import servers

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# Whose version stands in the page's first line.
PACKAGES = {
    "openai-v2": "opentelemetry-instrumentation-openai-v2",
    "genai-openai": "opentelemetry-instrumentation-genai-openai",
    "OpenLLMetry": "opentelemetry-instrumentation-openai",
    "OpenLIT": "openlit",
    "LiteLLM": "litellm",
    "LiteLLM-OTel": "litellm",
}
_environments.REQUIREMENTS["LiteLLM-OTel"] = (
    _environments.OPENTELEMETRY,
    *_environments.REQUIREMENTS["LiteLLM"],
)
KEPT = re.compile(r"(?:# (?:HELP|TYPE) )?(?:gen_ai_|llm_|litellm_|target_info)")
# A port, and what else differs each time and means nothing.
CHANGING = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:8081"),
    (re.compile(r'server_port="\d+"'), 'server_port="8081"'),
    (re.compile(r'service_instance_id="[^"]*"'), 'service_instance_id="0"'),
)


def page(contender: str, url: str) -> str:
    python = _environments.environment(contender)
    package = PACKAGES[contender]
    asked = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    version = subprocess.run((python, "-c", asked), check=True, capture_output=True, text=True).stdout.strip()
    command = (python, HERE / "_calls.py", contender, url)
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    lines = [line for line in told.stdout.splitlines() if KEPT.match(line) and "_created" not in line]
    text = "\n".join([f"# Recorded from {package} {version} against faulty_llm by record.py.", *lines, ""])
    for pattern, constant in CHANGING:
        text = pattern.sub(constant, text)
    return text


def main() -> None:
    port, control = servers.free_port(), servers.free_port()
    command = [sys.executable, "-m", "faulty_llm", f"--listen=primary={port}", f"--control-port={control}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.server(command, port=control, log=Path(folder) / "log", ready="/healthz") as started,
    ):
        dials = json.dumps({"models": {"thinker": {"error_ratio": 1.0}}}).encode()
        servers.request(f"{started.url}/dials/primary", method="PUT", body=dials)
        for contender in sys.argv[1:] or PACKAGES:
            path = HERE / f"{contender.lower()}.prom"
            path.write_text(page(contender, f"http://127.0.0.1:{port}/v1"), encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
