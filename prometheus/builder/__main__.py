"""
Writes prometheus/rules/recording/*.yml and prometheus/rules/slo/*.yml.

Run from the repository's root: ``python -m prometheus.builder``. With ``--check`` nothing is written; the exit
status is 1 when a file differs from what would be written, is missing, or is one that nothing here makes.
"""

import argparse
import sys
from pathlib import Path

from prometheus.builder import jobs, recording, slo, spec, spending

SLOS = Path(__file__).resolve().parents[1] / "slo.yml"
FOLDER = SLOS.with_name("rules")
OWNED = ("recording", "slo")


def texts(slos: Path = SLOS) -> dict[Path, str]:
    """Each file's path below `FOLDER`, and its text; raises SpecError when *slos* has mistakes."""
    recorded = [*recording.files(), *jobs.files(), *spending.files()]
    names = {rule["record"] for file in recorded for group in file.groups for rule in group.rules}
    return {Path(file.path): file.text() for file in (*recorded, *slo.files(spec.load(slos, recorded=names)))}


def problems(folder: Path = FOLDER) -> list[str]:
    """What differs between *folder* and `texts`, a sentence each."""
    wanted = texts()
    found = [
        f"{folder / path} is not up to date"
        for path, text in wanted.items()
        if not (folder / path).is_file() or (folder / path).read_text(encoding="utf-8") != text
    ]
    strays = sorted(p for owned in OWNED for p in (folder / owned).glob("*.yml") if p.relative_to(folder) not in wanted)
    return found + [f"{path} is made by nothing in prometheus/builder" for path in strays]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m prometheus.builder", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the committed files, write nothing")
    check = parser.parse_args().check
    try:
        wanted = texts()
    except spec.SpecError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if check:
        found = problems()
        sys.stderr.write("".join(f"{problem}\n" for problem in found))
        if found:
            sys.stderr.write("run: python -m prometheus.builder\n")
        return 1 if found else 0
    for path, text in wanted.items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{FOLDER / path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
