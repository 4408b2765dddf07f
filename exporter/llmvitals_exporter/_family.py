"""What a metric family is, and what a collector hands over: readings."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric family as it is exposed; compared by identity, because each is declared once.

    Attributes:
        name: The full exposed name, counters with ``_total``.
        type: ``untyped`` only where node_exporter says so for the same name.
        help: Meaning and unit, one sentence.
        labels: Label names, in the order in which a reading gives their values.
        buckets: Always empty here; the attribute is shared by the catalogues of all our packages.
        since: The first version that emits it.
    """

    name: str
    type: Literal["counter", "gauge", "histogram", "untyped"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    since: str = "0.1.0"


#: A family, its label values in the family's order, and a finite number.
Reading = tuple[Family, tuple[str, ...], float]
