"""The summary as a page: JSON for programs, HTML for people who look with a browser."""

import html
import json
import time
from collections.abc import Mapping
from typing import Any

from llmvitals.exposition import Page

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d2330;
       background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; text-transform: capitalize }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .8rem .2rem 0;
       border-bottom: 1px solid #e3e6ec; font-variant-numeric: tabular-nums; font-weight: normal }
th { color: #667085 } .dot { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em }
.green { background: #1a7f4b } .yellow { background: #d69e00 } .red { background: #c62f2f }
@media (prefers-color-scheme: dark) { body { background: #14171f; color: #e6e9f0 } td, th { border-color: #2b3140 } }
"""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def page(summary: Mapping[str, Any], accept: str = "") -> Page:
    """HTML where *accept* names it, else JSON. 503 while a health check fails, and 200 for lesser concerns: an open
    breaker is no reason to take the application out of service.
    """
    status = "503 Service Unavailable" if summary["status"] == "red" else "200 OK"
    if "text/html" in accept.lower():
        return Page(_html(summary), kind="text/html; charset=utf-8", status=status, headers=HEADERS)
    text = json.dumps(summary, indent=2, default=str) + "\n"
    return Page(text, kind="application/json", status=status, headers=HEADERS)


def _html(summary: Mapping[str, Any]) -> str:
    title = html.escape(f"{summary['service']} is {summary['status']}")
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10">',
        f"<title>{title}</title><style>{_STYLE}</style>",
        f'<h1><span class="dot {summary["status"]}"></span>{title}</h1>',
    ]
    if summary["concerns"]:
        parts.append("<ul>")
        parts += [
            f'<li><span class="dot {concern["colour"]}"></span>{html.escape(concern["part"])} '
            f"<b>{html.escape(concern['name'])}</b>: {html.escape(concern['why'])}</li>"
            for concern in summary["concerns"]
        ]
        parts.append("</ul>")
    parts += [
        f"<h2>{html.escape(name)}</h2>{_table(part)}" for name, part in summary.items() if isinstance(part, Mapping)
    ]
    if summary["history"]:
        parts.append("<h2>history</h2><table>")
        parts += [
            f"<tr><td>{_cell(float(event['at']), '_at')}</td><td>{html.escape(event['level'])}</td>"
            f"<td>{html.escape(event['event'])} {html.escape(event['name'])}</td></tr>"
            for event in reversed(summary["history"])
        ]
        parts.append("</table>")
    return "".join(parts) + "</html>\n"


def _table(part: Mapping[str, Any]) -> str:
    """A row for each name; with columns, where what is said of it is more than one thing."""
    listed = all(isinstance(row, Mapping) for row in part.values())
    rows = part if listed else {name: {"": row} for name, row in part.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = "".join(f"<th>{html.escape(column.replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        f"<tr><td>{html.escape(str(name))}</td>"
        + "".join(f"<td>{_cell(row.get(column), column or name)}</td>" for column in columns)
        + "</tr>"
        for name, row in rows.items()
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>" if any(columns) else f"<table>{body}</table>"


def _cell(value: object, name: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        inner = ", " if not any(isinstance(each, Mapping) for each in value.values()) else "<br>"
        return inner.join(f"{html.escape(str(key))}: {_cell(each, key)}" for key, each in value.items()) or "-"
    if name.endswith("_at") and isinstance(value, float):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))
