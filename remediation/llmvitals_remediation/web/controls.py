"""What a person may change, checked once for the API and the console: reasons, modes, decisions, and their errors."""

from collections.abc import Callable

import anyio.to_thread
from starlette.exceptions import HTTPException

from llmvitals_remediation.errors import ConflictError, NotFoundError, StoreUnavailableError
from llmvitals_remediation.web.services import Services

# `policy` takes a person's override back: the policy file decides again.
MODES = ("off", "observe", "approve", "auto", "policy")
_MAX_WHY = 500


class Controls:
    """Runs each change off the event loop, and turns the engine's refusals into answers with a status."""

    def __init__(self, services: Services) -> None:
        self._engine = services.engine
        self._limiter = services.threads.rest

    async def set_kill_switch(self, engaged: bool, *, who: str, why: object) -> None:
        reason = _reason(why)
        await self._run(lambda: self._engine.set_kill_switch(engaged, who=who, why=reason))

    async def set_mode(self, handler: str, mode: object, *, who: str, why: object) -> None:
        if mode not in MODES:
            raise HTTPException(400, f"mode: must be one of {', '.join(MODES)}")
        reason = _reason(why)
        await self._run(lambda: self._engine.set_mode(handler, str(mode), who=who, why=reason))

    async def decide(self, incident_id: str, decision: str, *, who: str, why: object) -> None:
        reason = _reason(why)
        if decision == "approve":
            await self._run(lambda: self._engine.approve(incident_id, who=who, why=reason))
        elif decision == "veto":
            await self._run(lambda: self._engine.veto(incident_id, who=who, why=reason))
        else:
            raise HTTPException(404, "an incident can be approved or vetoed")

    async def _run(self, change: Callable[[], None]) -> None:
        try:
            await anyio.to_thread.run_sync(change, limiter=self._limiter)
        except NotFoundError as error:
            raise HTTPException(404, str(error)) from error
        except ConflictError as error:
            raise HTTPException(409, str(error)) from error
        except StoreUnavailableError as error:
            raise HTTPException(503, f"the store cannot take this now: {error}"[:300]) from error


def _reason(why: object) -> str:
    text = " ".join(why.split()) if isinstance(why, str) else ""
    if not text or len(text) > _MAX_WHY or not text.isprintable():
        raise HTTPException(400, f"why: say the reason, in 1 to {_MAX_WHY} characters; the audit log keeps it")
    return text
