"""The conversation: a line in, a line out."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from llmvitals_exporter._answering import DriverAbsentError, DriverFailedError, Talk, answers_only, converse
from llmvitals_exporter.amd._card import Card, identities
from llmvitals_exporter.amd._driver import ABSENT, NO_DRIVER, NOT_FOUND, AmdSmi, code_of, told

_DESCRIPTION = """Ask AMD's driver. The exporter starts this, and asks with a line such as {"id": 1} on standard input;
started by hand it shows what the exporter would get."""


class Driver:
    """`amdsmi` from its start to its first failure.

    Args:
        load: Imports `amdsmi`.
    """

    def __init__(self, load: Callable[[], AmdSmi], also: frozenset[str] = frozenset()) -> None:
        self._load = load
        self._also = also

    def start(self) -> Callable[[], dict[str, Any]]:
        """Initialise the library; what is returned gives an answer each time."""
        try:
            smi = self._load()
        except Exception as error:  # Without its library, importing it ends with a KeyError; other versions differ.
            reason = f"amdsmi cannot be imported: {type(error).__name__}: {told(error)}"
            raise DriverAbsentError(NO_DRIVER, reason) from error
        try:
            smi.amdsmi_init()
        except smi.AmdSmiException as error:
            code = code_of(error)
            kind = DriverAbsentError if code in ABSENT else DriverFailedError
            raise kind(code, f"amdsmi_init: {told(error)}") from error
        return lambda: self._collect(smi)

    def _collect(self, smi: AmdSmi) -> dict[str, Any]:
        try:
            handles = smi.amdsmi_get_processor_handles()
        except smi.AmdSmiException as error:
            raise DriverFailedError(code_of(error), f"amdsmi_get_processor_handles: {told(error)}") from error
        if not handles:
            # ROCm may be installed where no card is, and that is no failure.
            raise DriverAbsentError(NOT_FOUND, "amdsmi is there, but shows no GPU")
        cards = [Card(smi, handle, index, self._also) for index, handle in enumerate(handles)]
        devices = [
            {"uuid": identity, "info": card.info(), "readings": card.readings()}
            for identity, card in zip(identities(cards), cards, strict=True)
        ]
        return {"driver": {"driver_version": cards[0].driver_version()}, "devices": devices}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llmvitals_exporter.amd", description=_DESCRIPTION, allow_abbrev=False
    )
    parser.add_argument("--also", action="append", choices=("processes",), default=[], help="what costs series")
    given = parser.parse_args(arguments)
    output = answers_only()

    # Optional, and only this process may load it.
    driver = Driver(lambda: cast("AmdSmi", importlib.import_module("amdsmi")), frozenset(given.also))
    talk = Talk(driver.start)
    converse(output, talk.answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
