import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llmvitals import _work_families as families
from llmvitals._recording import Recorder, error_type

_TURNS = 200


class Voice:
    """How reliable a voice is: its recognition, its synthesis, or the whole of it. Thread-safe. Made by `Vitals.voice`.

    *target* is the share of turns that should succeed.
    """

    def __init__(
        self, recorder: Recorder, name: str, *, target: float = 0.99, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if not 0 < target <= 1:
            raise ValueError(f"target of voice {name!r} must be a share above 0 and up to 1, not {target}")
        self.name = name
        self.target = target
        self._recorder = recorder
        self._clock = clock
        self._turns: deque[bool] = deque(maxlen=_TURNS)
        self._succeeded = self._failed = 0
        self._lock = threading.Lock()
        recorder.child(families.VOICE_TARGET, name).set(target)
        # From zero, so that the first failure is already an increase.
        for outcome in ("success", "failure"):
            recorder.child(families.VOICE_TURNS, name, outcome)

    def succeeded(self, quality: float | None = None) -> None:
        """A turn went well; *quality* from 0 to 1, where something judges it. What is beyond counts as the nearest."""
        self._count(ended_well=True)
        if quality is not None:
            self._quality(quality)

    def failed(self, kind: str = "error") -> None:
        """A turn failed; *kind* is one of few words: ``no_audio``, ``not_understood``, ``timeout``, ..."""
        self._count(ended_well=False)
        self._recorder.child(families.VOICE_FAILURES, self.name, kind).inc()

    @contextmanager
    def turn(self) -> Iterator["VoiceTurn"]:
        """Around one turn, sync or async: timed; a success when it ends, a failure, by its error, when it raises.

        What is cancelled is neither.
        """
        turn = VoiceTurn()
        started = self._clock()
        error: BaseException | None = None
        try:
            yield turn
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(turn, self._clock() - started, error)

    def summary(self) -> dict[str, Any]:
        """Turns that succeeded and failed so far, the share of the last 200 that succeeded, and the one wanted."""
        with self._lock:
            ratio = round(sum(self._turns) / len(self._turns), 4) if self._turns else None
            return {
                "succeeded": self._succeeded,
                "failed": self._failed,
                "recent": len(self._turns),
                "success_ratio": ratio,
                "target_ratio": self.target,
            }

    def _end(self, turn: "VoiceTurn", seconds: float, error: BaseException | None) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return
        with self._recorder.guard("voice"):
            self._recorder.child(families.VOICE_DURATION, self.name).observe(seconds)
            if error is not None or turn.failure is not None:
                self.failed(turn.failure or error_type(error))
            else:
                self.succeeded(turn.score)

    def _quality(self, quality: float) -> None:
        with self._recorder.guard("voice"):
            score = float(quality)
            if score == score:  # noqa: PLR0124 -- not NaN
                self._recorder.child(families.VOICE_QUALITY, self.name).observe(min(max(score, 0.0), 1.0))

    def _count(self, *, ended_well: bool) -> None:
        with self._lock:
            self._turns.append(ended_well)
            self._succeeded += ended_well
            self._failed += not ended_well
        self._recorder.child(families.VOICE_TURNS, self.name, "success" if ended_well else "failure").inc()


class VoiceTurn:
    """What is said of one turn while it goes on."""

    __slots__ = ("failure", "score")

    def __init__(self) -> None:
        self.failure: str | None = None
        self.score: float | None = None

    def quality(self, score: float) -> None:
        """How good it was, from 0 to 1."""
        self.score = score

    def fail(self, kind: str) -> None:
        """It failed, though nothing is raised: nothing was understood, for one."""
        self.failure = kind


class Voices:
    """The voices of an application, by name. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._voices: dict[str, Voice] = {}
        self._lock = threading.Lock()

    def voice(self, name: str, *, target: float = 0.99) -> Voice:
        """The voice of this name; the target of the first time counts."""
        with self._lock:
            if name not in self._voices:
                self._voices[name] = Voice(self._recorder, name, target=target)
            return self._voices[name]

    def summary(self) -> dict[str, Any]:
        with self._lock:
            voices = list(self._voices.values())
        return {voice.name: voice.summary() for voice in voices}
