"""Templates and static files, read once. Every value is escaped by Jinja; no template marks anything as safe.

The only HTML that is no template's is a runbook's: see `runbooks`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from llmvitals_remediation.web import words

_FOLDER = files("llmvitals_remediation.web").joinpath("static")
STATIC: Mapping[str, tuple[bytes, str]] = {
    "console.css": (_FOLDER.joinpath("console.css").read_bytes(), "text/css"),
    "mark.svg": (_FOLDER.joinpath("mark.svg").read_bytes(), "image/svg+xml"),
}


class Pages:
    def __init__(self, *, dashboards_url: str | None = None) -> None:
        self._environment = Environment(
            loader=PackageLoader("llmvitals_remediation.web"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.globals["dashboards_url"] = dashboards_url
        self._environment.filters["clock"] = words.clock
        self._environment.filters["ago"] = words.ago

    def show(
        self, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
    ) -> Response:
        return HTMLResponse(self._environment.get_template(template).render(**context), status, headers)

    def error(self, _request: Request, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
        title = HTTPStatus(status).phrase
        return self.show("error.html", status, headers, title=title, text="" if text == title else text)
