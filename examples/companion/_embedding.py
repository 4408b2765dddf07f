"""What a text is about, as numbers: its words' letter groups, hashed into few places. No model, no network."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping

__all__ = ["Embedding", "embed", "similarity", "words_of"]

Embedding = Mapping[int, float]

_PLACES = 4096
_GROUP = 3
_WORD = re.compile(r"[^\W_]{2,}")
_CHARACTERS = 2000


def words_of(text: str) -> list[str]:
    """The words of *text*, in small letters; of a long one, of its beginning."""
    return _WORD.findall(text[:_CHARACTERS].casefold())


def embed(text: str) -> Embedding:
    """A sparse vector of length 1, or none for a text without words."""
    places: Counter[int] = Counter()
    for word in words_of(text):
        padded = f" {word} "
        for start in range(len(padded) - _GROUP + 1):
            places[zlib.crc32(padded[start : start + _GROUP].encode()) % _PLACES] += 1
    length = math.sqrt(sum(count * count for count in places.values()))
    return {place: count / length for place, count in places.items()}


def similarity(one: Embedding, other: Embedding) -> float:
    """From 0 to 1: the cosine of the angle between the two."""
    small, large = sorted((one, other), key=len)
    return min(sum(weight * large.get(place, 0.0) for place, weight in small.items()), 1.0)
