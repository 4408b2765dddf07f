"""Signing in to the console: the admin token once, then a session cookie."""

import logging
import re
import secrets
from urllib.parse import quote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from llmvitals_remediation.web.pages import Pages
from llmvitals_remediation.web.sessions import SESSION_SECONDS, Brake, Session, Sessions, same
from llmvitals_remediation.web.tokens import TokenError, TokenFile

_log = logging.getLogger(__name__)

SESSION_COOKIE = "llmvitals_session"
# Carries the login form's CSRF token, which has no session to live in.
LOGIN_COOKIE = "llmvitals_login"
_LOGIN_SECONDS = 3600
# A path of ours: no host, no scheme, no second slash that a browser would read as a host.
_NEXT = re.compile(r"/(?:[A-Za-z0-9_.~-]+(?:/[A-Za-z0-9_.~-]+)*/?)?")


class SignIn:
    def __init__(self, admin: TokenFile, pages: Pages) -> None:
        self._admin = admin
        self._pages = pages
        self._sessions = Sessions()
        self._brake = Brake()

    def session(self, request: Request) -> Session | None:
        return self._sessions.find(request.cookies.get(SESSION_COOKIE))

    def lead_there(self, request: Request) -> Response:
        """Where a page sends who is not signed in."""
        if request.headers.get("sec-fetch-site") == "cross-site" and SESSION_COOKIE not in request.cookies:
            # A link from a mail or a chat: the browser keeps back SameSite=Strict cookies this once. A page of ours
            # that loads the same address again is asked with them.
            return self._pages.show("again.html")
        return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)

    async def ask(self, request: Request) -> Response:
        next_path = request.query_params.get("next", "/")
        if self.session(request) is not None:
            return RedirectResponse(_ours(next_path), 303)
        return self._form(request, next_path=next_path)

    async def enter(self, request: Request, fields: dict[str, str]) -> Response:
        next_path = fields.get("next", "/")
        if not same(fields.get("csrf", ""), request.cookies.get(LOGIN_COOKIE, "")):
            raise HTTPException(403, "The form is not from this browser. Load the sign-in page again.")
        address = request.client.host if request.client is not None else ""
        if (wait := self._brake.wait_seconds(address)) > 0:
            problem = f"Too many wrong tokens. Try again in {wait:.0f} s."
            return self._form(request, next_path=next_path, problem=problem, status=429)
        try:
            admitted = self._admin.admits(fields.get("token", "").strip())
        except TokenError as error:
            raise HTTPException(503, str(error)) from error
        if not admitted:
            self._brake.failed(address)
            _log.warning("console: a wrong admin token was tried from %s", address)
            return self._form(request, next_path=next_path, problem="That is not the admin token.", status=401)
        session = self._sessions.start(_who(fields.get("name", "")))
        answer = RedirectResponse(_ours(next_path), 303)
        _set_cookie(request, answer, SESSION_COOKIE, session.key, seconds=int(SESSION_SECONDS))
        answer.delete_cookie(LOGIN_COOKIE, path="/login", httponly=True, samesite="strict")
        return answer

    def leave(self, session: Session) -> Response:
        self._sessions.end(session)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    def _form(self, request: Request, *, next_path: str, problem: str | None = None, status: int = 200) -> Response:
        csrf = request.cookies.get(LOGIN_COOKIE) or secrets.token_urlsafe(32)
        answer = self._pages.show("login.html", status, csrf=csrf, next=next_path, problem=problem)
        _set_cookie(request, answer, LOGIN_COOKIE, csrf, seconds=_LOGIN_SECONDS, path="/login")
        return answer


def require_same_origin(request: Request) -> None:
    """Refuse a form that another site sends. Browsers say the origin on every POST; curl says none."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "The form was sent from another site. Nothing was changed.")


def _ours(path: str) -> str:
    return path if _NEXT.fullmatch(path) else "/"


def _who(name: str) -> str:
    """The name that the audit log shows: printable, short, and marked as what a person typed."""
    text = "".join(character for character in " ".join(name.split())[:64] if character.isprintable())
    return f"{text} (console)" if text else "admin (console)"


def _set_cookie(request: Request, answer: Response, name: str, value: str, *, seconds: int, path: str = "/") -> None:
    is_https = request.url.scheme == "https"
    answer.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="strict", secure=is_https)
