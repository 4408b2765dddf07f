"""``python -m grafana.lint``: exit status 1 and a line for each problem that exclusions.yml does not excuse."""

import sys

from grafana.lint import problems
from grafana.lint.exclusions import remaining
from grafana.lint.load import dashboards


def main() -> int:
    left, stale = remaining(problems(dashboards()))
    lines = [str(problem) for problem in left] + [
        f"exclusions.yml excuses nothing any more: {entry}" for entry in stale
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
