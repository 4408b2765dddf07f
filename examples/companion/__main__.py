"""`python -m companion`: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sqlite3
import sys

from companion import _load
from companion._settings import add_flags, settings_of

_EPILOG = """\
examples:
  python -m faulty_llm --listen primary=8081 --listen backup=8083 --control-port 8082
  python -m companion serve --llm-url http://127.0.0.1:8081/v1 --backup-url http://127.0.0.1:8083/v1
  python -m companion load --url http://127.0.0.1:8080
  curl http://127.0.0.1:8080/v1/chat -d '{"user": "ann", "message": "hello", "mode": "talker"}'
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="companion",
        description="A small chat service on any OpenAI-compatible server, watched and tended by llmvitals.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="answer over HTTP and WebSocket",
        description="Answer over HTTP and WebSocket. A flag goes before its environment variable. The key of "
        "the model's server, if it wants one, is read from $COMPANION_LLM_API_KEY only.",
    )
    add_flags(serve)
    load = commands.add_parser("load", help="be a few kinds of user at a steady rate")
    url = os.environ.get("COMPANION_URL", "http://127.0.0.1:8080")
    load.add_argument("--url", default=url, help="the companion's address ($COMPANION_URL; default: %(default)s)")
    load.add_argument("--rate", type=_above_zero, default=3.0, help="requests a second, all users (default: 3)")
    load.add_argument("--in-flight", type=int, default=32, help="requests open at once at most (default: 32)")
    load.add_argument("--seconds", type=_above_zero, default=None, help="stop after that time (default: when told)")
    load.add_argument("--every", type=_above_zero, default=10.0, help="seconds between summary lines (default: 10)")
    load.add_argument("--seed", type=int, default=None, help="same seed, same dice")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for quiet in ("httpx2", "openai", "uvicorn.error"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    if options.command == "load":
        plan = _load.Plan(
            options.url.rstrip("/"), options.rate, options.in_flight, options.seconds, options.seed, options.every
        )
        return asyncio.run(_load.run(plan))
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    # Not needed by the load generator, and half a second of imports.
    from companion._serve import serve  # noqa: PLC0415 -- see above

    try:
        asyncio.run(serve(settings_of(options)))
    except (ValueError, OSError, sqlite3.Error) as error:
        for line in str(error).splitlines():
            print(f"companion: {line}", file=sys.stderr)  # noqa: T201 -- a program's face
        return 1
    return 0


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
