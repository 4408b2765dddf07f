"""`python -m faulty_llm`: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from faulty_llm._simulator import MODELS, Simulator

_EPILOG = """\
examples:
  python -m faulty_llm --listen primary=8081 --listen backup=8083 --control-port 8082
  curl -X PUT  http://127.0.0.1:8082/dials/primary -d '{"latency_seconds": 6}'
  curl -X PUT  http://127.0.0.1:8082/dials/primary -d '{"models": {"thinker": {"error_ratio": 0.5}}}'
  curl -X PUT  http://127.0.0.1:8082/dials/primary -d '{"refuse": true}'
  curl         http://127.0.0.1:8081/metrics            (a vLLM server's)
  curl -X POST http://127.0.0.1:8082/dials/primary/reset
  curl         http://127.0.0.1:8082/ledger
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="faulty_llm",
        description="An OpenAI- and KoboldCpp-compatible server with dials for faults. "
        f"Every provider serves the models {' and '.join(MODELS)}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen",
        action="append",
        type=_listen,
        metavar="NAME=PORT",
        help="a provider and its port; repeat for several; port 0 takes a free one (default: primary=8081)",
    )
    parser.add_argument("--control-port", type=_port, default=8082, help="where the dials are turned (default: 8082)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; leave it unless in a container")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same replies and same dice (default: 0)")
    options = parser.parse_args(argv)
    listen = options.listen or [("primary", 8081)]
    if len(dict(listen)) < len(listen):
        parser.error("--listen: each provider's name may be given once")
    # Starlette logs nothing and uvicorn only what is wrong.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        return asyncio.run(_run(dict(listen), options.control_port, options.host, options.seed))
    except OSError as error:
        print(f"faulty_llm: cannot listen: {error}", file=sys.stderr)  # noqa: T201 -- a program's face
        return 1


async def _run(listen: dict[str, int], control_port: int, host: str, seed: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(listen, control_port=control_port, host=host, seed=seed) as simulator:
        for name, port in simulator.ports.items():
            _say(f"{name} on http://{host}:{port}/v1")
        _say(f"control on http://{host}:{simulator.control_port}")
        await stop.wait()
    return 0


def _say(line: str) -> None:
    print(f"faulty_llm: {line}", flush=True)  # noqa: T201 -- a program's face


def _listen(text: str) -> tuple[str, int]:
    name, equals, port = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PORT, such as primary=8081")
    return name, _port(port)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a whole number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
