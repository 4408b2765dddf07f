"""What the pretend models say: the same prompt and seed always give the same words."""

from __future__ import annotations

import hashlib
import random

__all__ = ["count_tokens", "reply_tokens", "vector"]

_OPENINGS = (
    "That is a good question.",
    "Let me think about that.",
    "I was wondering about this myself.",
    "Here is how I see it.",
    "There are two sides to it.",
)
_MIDDLES = (
    "Small things done every day carry further than one large effort.",
    "The weather outside has little to do with it, but it does set the mood.",
    "What you remember of a day is rarely what took the most time.",
    "A walk, a cup of tea and a quiet page often settle more than an argument.",
    "If it can be tried cheaply, try it before you plan it.",
    "The first draft only has to exist; the second one may be good.",
    "You said something similar a while ago, and it turned out well.",
    "Ask what would have to be true, and look for that first.",
)
_CLOSINGS = ("What do you think?", "Shall we go on?", "Tell me more when you like.", "That would be my suggestion.")

# Sentences of the middle, by how much a model has to say.
_LENGTHS = {"talker": (1, 3), "thinker": (5, 10)}


def count_tokens(text: str) -> int:
    """About four characters a token, as English is."""
    return max(1, (len(text) + 3) // 4)


def reply_tokens(model: str, prompt: str, seed: int) -> list[str]:
    """The reply of *model*, as tokens that join to the text."""
    # Bytes, because a lone surrogate of a JSON escape has no encoding.
    dice = random.Random(f"{seed}\n{model}\n{prompt}".encode(errors="replace"))
    few, many = _LENGTHS.get(model, (1, 3))
    middles = [dice.choice(_MIDDLES) for _ in range(dice.randint(few, many))]
    words = " ".join([dice.choice(_OPENINGS), *middles, dice.choice(_CLOSINGS)]).split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def vector(text: str, dimensions: int = 64) -> list[float]:
    """A unit vector that only depends on the text."""
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=dimensions).digest()
    raw = [byte - 127.5 for byte in digest]
    length = sum(value * value for value in raw) ** 0.5
    return [value / length for value in raw]
