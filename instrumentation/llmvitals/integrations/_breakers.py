"""What other people's circuit breakers have in common, told in the words of ours."""

import threading
import weakref

from llmvitals import catalogue
from llmvitals._breaker import STATES
from llmvitals._recording import Recorder
from llmvitals.integrations._session import Session


class Breakers:
    """Counts the calls and changes of one library's breakers, by their names."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shown: weakref.WeakKeyDictionary[Recorder, dict[str, str]] = weakref.WeakKeyDictionary()
        self._thread = threading.local()

    def called(self, name: str, outcome: str, state: str) -> None:
        """A call through breaker *name* ended in *outcome*, and left it in *state*. Never raises."""
        vitals = self._session.vitals
        if vitals is None:
            return
        with vitals.recorder.guard(self._session.library):
            vitals.recorder.child(catalogue.BREAKER_CALLS, name, outcome).inc()
            self._show(vitals.recorder, name, state)

    def entered(self, name: str, state: str) -> None:
        """Breaker *name* has changed to *state*. Never raises."""
        vitals = self._session.vitals
        if vitals is None:
            return
        with vitals.recorder.guard(self._session.library):
            vitals.recorder.child(catalogue.BREAKER_TRANSITIONS, name, state).inc()
            self._show(vitals.recorder, name, state)

    @property
    def judging(self) -> bool:
        """Whether the library judges an error in this thread: a success that it then finds is an ignored error."""
        return getattr(self._thread, "judging", False)

    @judging.setter
    def judging(self, judging: bool) -> None:
        self._thread.judging = judging

    def _show(self, recorder: Recorder, name: str, state: str) -> None:
        shown = self._shown.setdefault(recorder, {})
        if shown.get(name) != state:
            shown[name] = state
            for each in STATES:
                recorder.child(catalogue.BREAKER_STATE, name, each).set(1 if each == state else 0)
