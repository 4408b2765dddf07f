from dataclasses import dataclass
from typing import Literal

# Holds every usual target (2 s, 5 s, 90 s) as a bound, so that "share below target" is exact.
OPERATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0,
)  # fmt: skip

# 0.01 s, and then double, 14 bounds: what OTel recommends for operations, chunks and tools.
OTEL_DURATION_BUCKETS = tuple(round(0.01 * 2**n, 2) for n in range(14))


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family as it appears on ``/metrics``."""

    name: str
    """The full exposed name; counters end in ``_total``."""

    type: Literal["counter", "gauge", "histogram"]

    help: str

    labels: tuple[str, ...] = ()

    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, without ``+Inf``."""

    since: str = "0.1.0"

    across: Literal["sum", "max", "min"] = "sum"
    """How the values of a gauge in the workers of one service become one; all else adds up."""
