"""``python -m prometheus.lint``: exit status 1 and a line for each problem that exclusions.yml does not excuse."""

import sys
from pathlib import Path

from prometheus.lint import problems, rules_in
from prometheus.lint.exclusions import remaining

RULES = Path(__file__).resolve().parents[1] / "rules"


def main() -> int:
    found, stale = remaining(problems(rules_in(RULES)))
    lines = [str(problem) for problem in found] + [
        f"exclusions.yml excuses nothing any more: {entry}" for entry in stale
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
