import subprocess

import yaml
from tests.grafana.queries import interpolate, load, queries


def test_promtool_accepts_every_expression(tmp_path):
    """Each expression parses on the oldest Prometheus that we promise; the error names the panel."""
    found = [q for dashboard in load().values() for q in queries(dashboard)]
    rules = [
        {"record": "dashboard:query", "expr": interpolate(q.expr), "labels": {"panel": q.where, "n": str(n)}}
        for n, q in enumerate(found)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert len(found) > 80
