"""Speech, simulated: a text as the loudness of samples, with a voice's noise on top; and back again, if it can be.

It is no speech, but it fails as speech does: silence, noise that drowns the words, words that are not what was said.
"""

from __future__ import annotations

import array
import random
import zlib

__all__ = ["NotUnderstoodError", "SilenceError", "hear", "speak"]

_LEVELS = 16
_STEP = 4000
_LOWEST = -30_000
_SAMPLES = 4
_PILOT = bytes((0x0F, 0xF0, 0x5A))
_SILENCE = 500
MOST_BYTES = 4000


class SilenceError(Exception):
    """There is nothing to be heard."""


class NotUnderstoodError(Exception):
    """There is something to be heard, but no words."""


def speak(text: str, *, noise: float = 0.0, dice: random.Random | None = None) -> bytes:
    """The sound of *text*: samples of 16 bits. *noise* 0.5 is as loud as the difference between two sounds."""
    words = text.encode()[:MOST_BYTES]
    sent = _PILOT + words + zlib.crc32(words).to_bytes(4, "big")
    levels = [level for byte in sent for level in (byte >> 4, byte & 15)]
    samples = array.array("h", [_LOWEST + level * _STEP for level in levels for _ in range(_SAMPLES)])
    if noise:
        roll = dice or random.Random()
        for place, sample in enumerate(samples):
            samples[place] = max(-32_768, min(32_767, round(sample + roll.gauss(0, noise * _STEP * 2))))
    return samples.tobytes()


def hear(sound: bytes, *, noise: float = 0.0) -> tuple[str, float]:
    """The words in *sound*, and how clear they were, from 0 to 1; *noise* is the microphone's own.

    Raises SilenceError or NotUnderstoodError.
    """
    samples = array.array("h", sound[: len(sound) // 2 * 2])
    if not samples or max(samples) - min(samples) < _SILENCE:
        raise SilenceError("nothing was heard")
    heard: list[int] = []
    off = 0.0
    for start in range(0, len(samples) - _SAMPLES + 1, _SAMPLES):
        loudness = sum(samples[start : start + _SAMPLES]) / _SAMPLES
        if noise:
            loudness += random.gauss(0, noise * _STEP * 2 / _SAMPLES**0.5)
        level = min(max(round((loudness - _LOWEST) / _STEP), 0), _LEVELS - 1)
        off += abs(loudness - _LOWEST - level * _STEP) / _STEP
        heard.append(level)
    said = bytes(high << 4 | low for high, low in zip(heard[::2], heard[1::2], strict=False))
    words, check = said[len(_PILOT) : -4], said[-4:]
    if not said.startswith(_PILOT) or zlib.crc32(words).to_bytes(4, "big") != check:
        raise NotUnderstoodError("something was said, but not understood")
    # Half a step off is as bad as it gets: then it is a guess.
    return words.decode(errors="replace"), max(0.0, 1 - 2 * off / len(heard))
