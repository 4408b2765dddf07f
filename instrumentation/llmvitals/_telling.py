from typing import Literal, Protocol

Level = Literal["info", "warning", "critical", "emergency"]


class Tell(Protocol):
    """How a part of the library says that something happened which should be remembered; see `History.record`."""

    def __call__(self, event: str, name: str, *, level: Level = "info", **facts: object) -> None: ...


def tell_nobody(event: str, name: str, *, level: Level = "info", **facts: object) -> None:
    """For a part that is used by itself."""
