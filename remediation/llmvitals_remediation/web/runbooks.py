"""Runbooks as pages: a folder of Markdown, read once, made into HTML in which nothing can run."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

# An alert's name as rules spell it. What is called otherwise (README) is no runbook.
_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_RUNBOOK = re.compile(r"(\w+)\.md(?:#[\w-]*)?")
# In the repository a dashboard is a file; the console leads to what draws it.
_DASHBOARD = re.compile(r"(?:\.\./)+grafana/dashboards/([\w-]+)\.json")
_FIRST_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]+")
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


class Runbooks:
    """Runbooks by their alert's name. A name that is asked for is looked up here, and never becomes a path."""

    def __init__(self, texts: Mapping[str, str] | None = None, *, dashboards_url: str | None = None) -> None:
        self._texts = dict(sorted((texts or {}).items()))
        self._dashboards_url = dashboards_url

    @classmethod
    def read(cls, folder: Path | None, *, dashboards_url: str | None = None) -> "Runbooks":
        """Those of a *folder*; none without one."""
        files = sorted(folder.glob("*.md")) if folder is not None else []
        texts = {file.stem: file.read_text(encoding="utf-8") for file in files if _NAME.fullmatch(file.stem)}
        texts.pop("README", None)
        return cls(texts, dashboards_url=dashboards_url)

    def href(self, alertname: object) -> str | None:
        """Where the runbook of an alert is, if there is one."""
        return f"/runbooks/{alertname}" if alertname in self._texts else None

    def page(self, name: str) -> Markup | None:
        """A runbook as HTML; None where there is none of that name."""
        if name not in self._texts:
            return None
        tokens = _MARKDOWN.parse(self._texts[name])
        self._tame(tokens)
        html: str = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
        return Markup(html)  # noqa: S704 -- markdown-it escapes all text, takes no HTML, and its links were looked at

    @cached_property
    def groups(self) -> list[dict[str, Any]]:
        """All of them with the first sentence of their meaning, by the first word of their names."""
        found: dict[str, list[dict[str, str]]] = {}
        for name, text in self._texts.items():
            word = _FIRST_WORD.match(name)
            row = {"name": name, "href": f"/runbooks/{name}", "meaning": _meaning(text)}
            found.setdefault(word[0] if word else name, []).append(row)
        return [{"name": name, "runbooks": rows} for name, rows in found.items()]

    def _tame(self, tokens: Sequence[Token]) -> None:
        for token in _all(tokens):
            # How a column is aligned would be a style of its own, which the pages' policy forbids.
            token.attrs.pop("style", None)
        for token in tokens:
            self._lead(token.children or [])

    def _lead(self, tokens: Sequence[Token]) -> None:
        """Make links lead from the console; one that leads nowhere from here stays as text."""
        hidden = False
        for token in tokens:
            if token.type == "link_open":
                href = self._target(str(token.attrs.get("href", "")))
                hidden = token.hidden = href is None
                token.attrs = {"href": href or "", "rel": "noreferrer"}
            elif token.type == "link_close":
                token.hidden = hidden

    def _target(self, href: str) -> str | None:
        if named := _RUNBOOK.fullmatch(href):
            return self.href(named[1])
        if drawn := _DASHBOARD.fullmatch(href):
            return f"{self._dashboards_url}/d/{drawn[1]}" if self._dashboards_url else None
        return href if re.match(r"https?://", href) else None


def _all(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


def _meaning(text: str) -> str:
    """The first sentence below the first heading of the second level, without marks."""
    _, _, below = text.partition("\n## ")
    paragraph = below.partition("\n")[2].strip().partition("\n\n")[0]
    words = "".join(" " if token.type == "softbreak" else token.content for token in _all(_inline(paragraph)))
    return re.split(r"(?<=\.) ", words)[0].removesuffix(":")


def _inline(paragraph: str) -> Sequence[Token]:
    return _MARKDOWN.parseInline(paragraph)[0].children or []
