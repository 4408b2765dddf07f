"""The console: pages for people, behind a session; every change is a form with a reason and a CSRF token.

Runbooks are for everybody who reaches the service: they hold no secret, and whoever is woken should not look for a
token first.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from llmvitals_remediation.web import asks, overview, signin, views
from llmvitals_remediation.web.bodies import BodyReader, read_form
from llmvitals_remediation.web.controls import MODES, Controls
from llmvitals_remediation.web.pages import STATIC, Pages
from llmvitals_remediation.web.services import Services
from llmvitals_remediation.web.sessions import Session, same
from llmvitals_remediation.web.signin import SignIn

# Seconds after which a page loads itself again; pages with a form never do.
REFRESH_SECONDS = 5

Page = Callable[[Request, Session], Awaitable[Response]]
Form = Callable[[Request, Session, dict[str, str]], Awaitable[Response]]


class Console:
    def __init__(self, services: Services, controls: Controls) -> None:
        self._services = services
        self._controls = controls
        self._forms = BodyReader(65_536)
        self._pages = Pages(dashboards_url=services.dashboards_url)
        self._signin = SignIn(services.tokens.admin, self._pages)

    def routes(self) -> list[BaseRoute]:
        page, form = self._page, self._form
        return [
            Route("/", page(self._incidents)),
            Route("/alerts/{fingerprint}", page(self._alert)),
            Route("/incidents/{id}", page(self._incident)),
            Route("/incidents/{id}/{decision}", page(self._ask_decision)),
            Route("/incidents/{id}/{decision}", form(self._decide), methods=["POST"]),
            Route("/handlers", page(self._handlers)),
            Route("/handlers/{name}/mode", page(self._ask_mode)),
            Route("/handlers/{name}/mode", form(self._set_mode), methods=["POST"]),
            Route("/audit", page(self._audit)),
            Route("/runbooks", self._runbooks),
            Route("/runbooks/", self._runbooks),
            Route("/runbooks/{name}", self._runbook),
            Route("/stop", page(self._ask_stop)),
            Route("/stop", form(self._stop), methods=["POST"]),
            Route("/login", self._signin.ask),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", form(self._logout), methods=["POST"]),
            Route("/static/{name}", _static),
        ]

    def error(self, request: Request, status: int, text: str, headers: Any = None) -> Response:
        """An error as a page."""
        return self._pages.error(request, status, text, headers)

    # --- who may ------------------------------------------------------------------------------------------------------

    def _page(self, show: Page) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            session = self._signin.session(request)
            if session is None:
                return self._signin.lead_there(request)
            return await show(request, session)

        return endpoint

    def _form(self, act: Form) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            session = self._signin.session(request)
            if session is None:
                raise HTTPException(403, "You are not signed in, or no longer. Nothing was changed.")
            signin.require_same_origin(request)
            fields = await read_form(request, self._forms)
            if not same(fields.get("csrf", ""), session.csrf):
                raise HTTPException(403, "The form is not from this session. Nothing was changed; load the page again.")
            return await act(request, session, fields)

        return endpoint

    async def _login(self, request: Request) -> Response:
        signin.require_same_origin(request)
        return await self._signin.enter(request, await read_form(request, self._forms))

    async def _logout(self, _request: Request, session: Session, _fields: dict[str, str]) -> Response:
        return self._signin.leave(session)

    # --- pages --------------------------------------------------------------------------------------------------------

    async def _incidents(self, request: Request, session: Session) -> Response:
        chosen, handler = request.query_params.get("show", ""), request.query_params.get("handler") or None
        state = next((state for name, _, state in overview.FILTERS if name == chosen), None)
        store = self._services.store

        def look() -> tuple[list[dict[str, Any]], dict[str, Any]]:
            # Two questions, so that a hundred closed incidents cannot push an open one off the page.
            active = store.incidents(state="active", handler=handler, limit=200)
            shown = store.incidents(state=state, handler=handler, limit=100)
            known = {row["id"] for row in shown}
            late = [row for row in active if row["id"] not in known] if state is None else []
            others = [row for row in shown if row["state"] == "closed"]
            return [*late, *shown], {"headline": overview.headline([*active, *others])}

        told, context = await self._blocking(look)
        return await self._show(
            session,
            "incidents.html",
            page="Incidents",
            refresh=REFRESH_SECONDS,
            shown_waiting=sum(row["state"] == "awaiting_approval" for row in told),
            sections=overview.sections(told),
            chips=overview.chips(chosen, handler),
            filtered=bool(chosen or handler),
            **context,
        )

    async def _incident(self, request: Request, session: Session) -> Response:
        told = await self._find(request)
        shown = views.incident(told)
        return await self._show(
            session,
            "incident.html",
            page="Incidents",
            refresh=REFRESH_SECONDS if shown["active"] else None,
            shown_waiting=int(shown["decidable"]),
            incident=shown,
            figures=views.figures(told),
            steps=views.steps(told),
            attempts=views.attempts(told),
            alerts=views.alerts(told, self._services.runbooks.href),
            runbook=self._services.runbooks.href(told.get("alertname")),
            audit=views.audit(told.get("timeline") or []),
        )

    async def _alert(self, request: Request, _session: Session) -> Response:
        """Where a notification's link leads: Alertmanager knows the alert, and not what became of it."""
        told = request.path_params["fingerprint"]
        incident_id = await self._blocking(lambda: self._services.store.incident_of_alert(told))
        if incident_id is None:
            raise HTTPException(
                404, "No incident has this alert: no handler answers it, or not yet. Load this page again in a minute."
            )
        return _see(f"/incidents/{incident_id}")

    async def _handlers(self, _request: Request, session: Session) -> Response:
        told = await self._blocking(self._services.engine.handlers)
        shown = [overview.handler(row) for row in told]
        return await self._show(session, "handlers.html", page="Handlers", refresh=REFRESH_SECONDS, handlers=shown)

    async def _audit(self, _request: Request, session: Session) -> Response:
        rows = views.audit(await self._blocking(lambda: self._services.store.audit(200)))
        return await self._show(session, "audit.html", page="Audit", rows=rows)

    async def _runbooks(self, request: Request) -> Response:
        return await self._open(request, "runbooks.html", groups=self._services.runbooks.groups)

    async def _runbook(self, request: Request) -> Response:
        name = request.path_params["name"]
        text = self._services.runbooks.page(name)
        if text is None:
            raise HTTPException(404, "There is no runbook of that name.")
        return await self._open(request, "runbook.html", name=name, text=text)

    # --- changes ------------------------------------------------------------------------------------------------------

    async def _ask_decision(self, request: Request, session: Session) -> Response:
        decision = request.path_params["decision"]
        if decision not in ("approve", "veto"):
            raise HTTPException(404, "An incident can be approved or vetoed.")
        told = await self._find(request)
        handlers = await self._blocking(self._services.engine.handlers)
        handler = next((row for row in handlers if row["name"] == told["handler"]), None)
        does = overview.does(handler) if handler is not None else "nothing: the policy has no such handler any more"
        return await self._show(
            session, "confirm.html", page="Incidents", shown_waiting=1, **asks.decision(told, decision, does=does)
        )

    async def _decide(self, request: Request, session: Session, fields: dict[str, str]) -> Response:
        incident_id, decision = request.path_params["id"], request.path_params["decision"]
        await self._controls.decide(incident_id, decision, who=session.who, why=fields.get("why"))
        return _see(f"/incidents/{incident_id}")

    async def _ask_mode(self, request: Request, session: Session) -> Response:
        name, mode = request.path_params["name"], request.query_params.get("to", "")
        told = await self._blocking(self._services.engine.handlers)
        if mode not in MODES or name not in [row.get("name") for row in told]:
            raise HTTPException(404, "There is no such handler, or no such mode.")
        return await self._show(session, "confirm.html", page="Handlers", **asks.mode(name, mode))

    async def _set_mode(self, request: Request, session: Session, fields: dict[str, str]) -> Response:
        name = request.path_params["name"]
        await self._controls.set_mode(name, fields.get("mode"), who=session.who, why=fields.get("why"))
        return _see("/handlers")

    async def _ask_stop(self, _request: Request, session: Session) -> Response:
        status = await self._blocking(self._services.engine.status)
        return await self._show(session, "confirm.html", page="Stop", **asks.stop(engaged=overview.is_stopped(status)))

    async def _stop(self, _request: Request, session: Session, fields: dict[str, str]) -> Response:
        # Said in the form, not toggled: two people who press at once must mean the same thing.
        wanted = {"stop": True, "resume": False}.get(fields.get("wanted", ""))
        if wanted is None:
            raise HTTPException(400, "The form must say whether to stop or to resume.")
        await self._controls.set_kill_switch(wanted, who=session.who, why=fields.get("why"))
        return _see("/")

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _find(self, request: Request) -> dict[str, Any]:
        incident_id = request.path_params["id"]
        told: dict[str, Any] | None = await self._blocking(lambda: self._services.store.incident(incident_id))
        if told is None:
            raise HTTPException(404, "There is no incident of that id.")
        return told

    async def _open(self, request: Request, template: str, **context: Any) -> Response:
        """A page that needs no session; who has one sees it in the same frame as the others."""
        session = self._signin.session(request)
        if session is None:
            return self._pages.show(template, page="Runbooks", path=request.url.path, **context)
        return await self._show(session, template, page="Runbooks", **context)

    async def _show(self, session: Session, template: str, *, shown_waiting: int = 0, **context: Any) -> Response:
        """A page in its frame; *shown_waiting* of the incidents that wait are on the page itself."""
        status = await self._blocking(self._services.engine.status)
        waiting = await self._blocking(lambda: self._services.store.incidents(state="awaiting_approval", limit=100))
        reasons = await self._blocking(
            lambda: {name: reason for name, ask in self._services.sources.items() if (reason := ask()) is not None}
        )
        return self._pages.show(
            template,
            who=session.who,
            csrf=session.csrf,
            stopped=overview.is_stopped(status),
            banners=overview.banners(status, waiting=len(waiting) - shown_waiting, reasons=reasons),
            **context,
        )

    async def _blocking(self, call: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(call, limiter=self._services.threads.rest)


async def _static(request: Request) -> Response:
    found = STATIC.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such file.")
    text, kind = found
    return Response(text, media_type=kind, headers={"Cache-Control": "private, max-age=300"})


def _see(path: str) -> Response:
    """303: after a change, so that a reload of the page does not send the form again."""
    return RedirectResponse(path, 303)
