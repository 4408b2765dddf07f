import re
import subprocess

import yaml
from tests.grafana.queries import interpolate, load, queries


def test_promtool_accepts_every_expression(tmp_path):
    """Each expression parses on the oldest Prometheus that we promise; the error names the panel."""
    found = [q for dashboard in load().values() for q in queries(dashboard)]
    rules = [
        {"record": "dashboard:query", "expr": interpolate(q.expr), "labels": {"n": str(n)}} for n, q in enumerate(found)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)

    told = done.stdout + done.stderr
    panels = [found[int(number) - 1].where for number in re.findall(r"\brule (\d+)", told)]
    assert 0 == done.returncode, f"{panels}: {told}"
    assert len(found) > 80
