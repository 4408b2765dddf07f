"""The conversation: a line in, a line out."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from llmvitals_exporter._answering import DriverAbsentError, DriverFailedError, Talk, answers_only, converse
from llmvitals_exporter.nvml._card import Card, same_name_once
from llmvitals_exporter.nvml._demo import Demo
from llmvitals_exporter.nvml._driver import ABSENT, LIBRARY_NOT_FOUND, Nvml, ask, code_of, text
from llmvitals_exporter.nvml._mig import Activity
from llmvitals_exporter.nvml._recording import Recording
from llmvitals_exporter.nvml._replay import Replay
from llmvitals_exporter.nvml._xid import Xids

ALSO = ("pcie-throughput", "processes")

_DESCRIPTION = """Ask NVIDIA's driver. The exporter starts this, and asks with a line such as {"id": 1} on standard
input; started by hand it shows what the exporter would get. --capture records a card instead."""


class Driver:
    """NVML from its start to its first failure, after which it says nothing but that."""

    def __init__(self, nvml: Nvml, also: frozenset[str] = frozenset()) -> None:
        self._nvml = nvml
        self._also = also
        self._activity = Activity()
        self._xids: Xids | None = None
        self._talk = Talk(self._start)

    def answer(self) -> dict[str, Any]:
        """One answer, without its id."""
        return {**self._talk.answer(), "xids": [] if self._xids is None else self._xids.seen()}

    def _start(self) -> Callable[[], dict[str, Any]]:
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            code = code_of(error)
            kind = DriverAbsentError if code in ABSENT else DriverFailedError
            raise kind(code, f"nvmlInit: {error}") from error
        return self._collect

    def _collect(self) -> dict[str, Any]:
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise DriverFailedError(code_of(error), f"nvmlDeviceGetCount: {error}") from error
        if count == 0:
            raise DriverFailedError(0, "the driver is there, but shows no GPU")
        cards = [Card(self._nvml, index, self._also) for index in range(count)]
        same_name_once(cards)
        if self._xids is None:
            self._xids = Xids(self._nvml, cards)
        cuda = ask(self._nvml, "nvmlSystemGetCudaDriverVersion")
        return {
            "driver": {
                "driver_version": text(ask(self._nvml, "nvmlSystemGetDriverVersion")),
                "cuda_version": f"{cuda // 1000}.{cuda % 1000 // 10}" if isinstance(cuda, int) else "",
            },
            "devices": [
                {
                    "uuid": card.uuid,
                    "info": card.info(),
                    "readings": [*card.readings(), *self._activity.readings(card)],
                }
                for card in cards
            ],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llmvitals_exporter.nvml", description=_DESCRIPTION, allow_abbrev=False
    )
    parser.add_argument("--also", action="append", choices=ALSO, default=[], help="what costs time or series")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play this capture instead of asking a driver")
    parser.add_argument("--demo", action="store_true", help="let the replayed card live: load comes and goes")
    parser.add_argument("--demo-faults", type=Path, metavar="FILE", help="with --demo: what goes wrong, by line")
    parser.add_argument("--capture", metavar="SOURCE", help="print what the driver answers, what identifies it masked")
    given = parser.parse_args(arguments)
    if given.demo and given.replay is None:
        parser.error("--demo plays a card: say which with --replay")
    answers = answers_only()
    nvml: Any
    if given.replay is not None:
        described = json.loads(given.replay.read_text(encoding="utf-8"))
        nvml = Demo(described, given.demo_faults) if given.demo else Replay(described)
    else:
        try:
            nvml = importlib.import_module("pynvml")  # Optional, and only this process may load it.
        except ImportError:
            nvml = None
    if given.capture is not None:
        return _capture(nvml, given.capture, answers)
    missing = {"status": "absent", "code": LIBRARY_NOT_FOUND, "error": "nvidia-ml-py is not installed", "xids": []}
    driver = None if nvml is None else Driver(nvml, frozenset(given.also))
    converse(answers, lambda: missing if driver is None else driver.answer())
    return 0


def _capture(nvml: Any, source: str, output: TextIO) -> int:
    if nvml is None:
        print("nvidia-ml-py is not installed", file=sys.stderr)  # noqa: T201 -- a command line's answer
        return 1
    recording = Recording(nvml)
    driver = Driver(recording, frozenset(ALSO))
    answers = [driver.answer(), driver.answer()]  # Activity needs two looks.
    if answers[-1]["status"] != "ok":
        print(answers[-1]["error"], file=sys.stderr)  # noqa: T201 -- a command line's answer
        return 1
    json.dump(recording.capture(source), output, indent=1)
    output.write("\n")
    output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
