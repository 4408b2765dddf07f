"""`python -m llmvitals_remediation`: serve, or check a policy file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from llmvitals_remediation.options import OptionsError, add_serve_flags, read_options
from llmvitals_remediation.policy import PolicyError, load

# What the exit status means; `make up` and supervisors read it.
EXIT_WRONG = 2
EXIT_UNAVAILABLE = 3

_EPILOG = """exit status:
  0  stopped as asked, or the policy is good
  2  wrong flags, or a policy with mistakes; all of them are told
  3  the database is held by another process or cannot be opened, or the port is taken
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="llmvitals-remediation",
        description="Answers Prometheus alerts with safe, verified, reversible actions inside the application.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="take alerts, act, verify; and serve the console",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_serve_flags(serve)
    check = commands.add_parser("check-policy", help="tell every mistake in a policy file")
    check.add_argument("file", type=Path)
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.command == "check-policy":
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return _check_policy(arguments.file)
    try:
        options = read_options(arguments, unknown)
    except OptionsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG
    # Only now: `check-policy` and `--help` should not wait for the server's imports.
    from llmvitals_remediation import serve as server  # noqa: PLC0415

    try:
        server.serve(options)
    except server.ServeError as error:
        sys.stderr.write(f"llmvitals-remediation: {error}\n")
        return EXIT_UNAVAILABLE
    return 0


def _check_policy(path: Path) -> int:
    try:
        policy = load(path)
    except PolicyError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG
    modes = ", ".join(f"{handler.name} ({handler.mode})" for handler in policy.handlers.values())
    sys.stdout.write(f"{path}: good, {policy.hash}: {modes}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
