from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Layers(Generic[T]):
    """A value with leased values on top of it, oldest first: what counts is the top one, or `base` without any.

    Taking a layer out never shows in the value unless it was the top one, so leases may end in any order and the last
    one to end uncovers the base: the value from before all of them.
    """

    base: T
    leased: list[tuple[str, T]] = field(default_factory=list)

    @property
    def value(self) -> T:
        return self.leased[-1][1] if self.leased else self.base

    def put(self, lease_id: str, value: T) -> None:
        self.leased.append((lease_id, value))

    def without(self, lease_id: str) -> T:
        """The value that would count if that lease ended."""
        rest = [value for owner, value in self.leased if owner != lease_id]
        return rest[-1] if rest else self.base

    def remove(self, lease_id: str) -> None:
        self.leased = [layer for layer in self.leased if layer[0] != lease_id]

    def confirm(self, lease_id: str) -> None:
        """Make that layer the base. Layers below it are gone: what they would uncover is older than it."""
        for index, (owner, value) in enumerate(self.leased):
            if owner == lease_id:
                self.base = value
                self.leased = self.leased[index + 1 :]
                return

    def holds(self, lease_id: str) -> bool:
        return any(owner == lease_id for owner, _ in self.leased)
