"""
Writes docs/alerts.md from the rules, from prometheus/alerts-in-the-demo.yml, and from what `python -m
tests.stack.fire_alerts --write` saw, docs/alerts-fired.json; `--check` fails when the file differs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(__file__).with_name("alerts.md")
DEMO = ROOT / "prometheus" / "alerts-in-the-demo.yml"
FIRED = Path(__file__).with_name("alerts-fired.json")

INTRODUCTION = """\
<!-- Written by docs/alerts.py from prometheus/rules and prometheus/alerts-in-the-demo.yml; run `make generate`. -->

# Alerts

{count} alerts, each with a runbook, a dashboard, and scenarios in which it fires, stays quiet just below its limit, and
outlives a restart and a missed scrape. *critical* wakes somebody, *warning* makes work for the day, *info* waits to be
read. *in the demo* says how the running demo makes it fire for real, or why it cannot; ✓ where that was watched. Where
there are seconds, `python -m tests.stack.fire_alerts` turned the fault on and waited: {fired} alerts, last on {date},
with Prometheus {prometheus} and Alertmanager {alertmanager}, on a busy machine of two cores. The seconds are from the
fault to the alert, and hold the windows over which a rule looks. What is *played* went through the real exporter, from
answers of a driver or of a kernel that were prepared.

What `remediate` marks is also answered by a handler; who is told of what is in `alertmanager/`."""

ORDER = ("llm", "app", "inference", "gpu", "host", "exporter", "stack")


def alerts() -> dict[str, list[dict[str, Any]]]:
    """Each alert's rules, in the files' order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "prometheus" / "rules").glob("*/*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], []).append(rule)
    return found


def demo() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    return loaded


def fired() -> dict[str, Any]:
    """The last run, with what fired by its alert."""
    loaded: dict[str, Any] = json.loads(FIRED.read_text(encoding="utf-8"))
    return loaded


def document() -> str:
    """The page."""
    found, shown, run = alerts(), demo(), fired()
    shown |= {name: {"how": f"{one['fault']}: {one['seconds']} s", "seen": True} for name, one in run["fired"].items()}
    about = {"date": run["date"], **run["versions"], "fired": len(run["fired"])}
    parts = [INTRODUCTION.format(count=len(found), **about)]
    components = {rules[0]["labels"]["component"] for rules in found.values()}
    for component in (*ORDER, *sorted(components - set(ORDER))):
        names = sorted(name for name, rules in found.items() if rules[0]["labels"]["component"] == component)
        if names:
            rows = [_row(name, found[name], shown.get(name, {})) for name in names]
            head = "| alert | severity | meaning | in the demo |\n|---|---|---|---|\n"
            parts += [f"## {component}", head + "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _row(name: str, rules: list[dict[str, Any]], shown: dict[str, Any]) -> str:
    severities = ", ".join(dict.fromkeys(rule["labels"]["severity"] for rule in rules))
    if any("remediate" in rule["labels"] for rule in rules):
        severities += "; remediate"
    how = f"{'✓ ' if shown.get('seen') else ''}{shown['how']}" if "how" in shown else f"no: {shown.get('cannot', '')}"
    cells = (f"[{name}](runbooks/{name}.md)", severities, rules[0]["annotations"]["summary"], how)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    text = document()
    if "--check" in sys.argv[1:]:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{TARGET} is not what the rules say. Run: make generate\n")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
