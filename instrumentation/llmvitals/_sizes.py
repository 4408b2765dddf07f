import gc
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

# More would make a scrape wait.
_LOOKED_AT = 20


def size_of_entries(entries: Mapping[Any, object]) -> float:
    """Bytes of keys and values, with what they directly refer to; of many, estimated from a few."""
    sizes = [_size(key) + _size(value) for key, value in islice(entries.items(), _LOOKED_AT)]
    return sum(sizes) / len(sizes) * len(entries) if sizes else 0.0


def _size(thing: object) -> int:
    return sys.getsizeof(thing) + sum(
        sys.getsizeof(part) for part in gc.get_referents(thing)[:_LOOKED_AT] if not isinstance(part, type)
    )
