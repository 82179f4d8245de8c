"""The admin listener's page for people: who could serve each model at what cost, and who is left out why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from sidecar.admin.documents import explain_document
from sidecar.core.cost import TERMS
from sidecar.routing.current import CurrentRoutes

MOST_MODELS: Final = 100
MOST_ENDPOINTS: Final = 64
"""Of one model, the cheapest first; the page says how many more there are."""
_STYLE: Final = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}"
    "table{border-collapse:collapse;margin:.5em 0 2em}th,td{padding:.2em .7em;text-align:right;"
    "border-bottom:1px solid #ddd}th:nth-child(-n+3),td:nth-child(-n+3){text-align:left}"
    "tr.out{color:#888}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}"
    "th,td{border-color:#444}}"
)
_LEFT: Final = "td:nth-child(4),th:nth-child(4){text-align:left}"
_COLUMNS: Final = ("place", "node", "backend", "left out", "phase", "load", "cost s", *TERMS)


def page(routes: CurrentRoutes, now_s: float) -> str:
    """The whole page; no script, nothing from elsewhere. O(endpoints)."""
    names = sorted(routes.view.models)
    models = [_model(explain_document(routes, name, now_s)) for name in names[:MOST_MODELS]]
    more = f"<p>{len(names) - MOST_MODELS} more models</p>" if len(names) > MOST_MODELS else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Swarmplane sidecar</title>"
        f"<style>{_STYLE}</style><h1>Whom this host would ask</h1>"
        "<p>Costs are expected seconds until an answer's first token, for a prompt of 256 tokens. "
        "The same as JSON: <a href=/endpoints>/endpoints</a>, /explain?model=NAME. "
        "<a href=/doctor>Examine this host</a>.</p>"
        f"{''.join(models) or '<p>No model is known yet.</p>'}{more}</html>\n"
    )


def doctor_page(found: Mapping[str, Any] | None) -> str:
    """What the doctor found, worst first, and a button to ask it; no script, nothing from elsewhere.

    None: it was not asked yet.
    """
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Swarmplane doctor</title>"
        f"<style>{_STYLE}{_LEFT}</style><h1>What is wrong with this host</h1>"
        "<form method=post action=/doctor><button>Examine this host now</button></form>"
        f"{_doctor_rows(found) if found is not None else ''}"
        "<p>The same as JSON: <code>swarmctl doctor --json</code>. "
        "<a href=/>Whom this host would ask</a>.</p></html>\n"
    )


def _doctor_rows(found: Mapping[str, Any]) -> str:
    marks = {"failed": 0, "unknown": 1, "ok": 2, "skipped": 3}
    rows = sorted(found["items"], key=lambda row: (marks.get(row["state"], 1), row["severity"]))
    return (
        f"<p>{found['errors']} errors, {found['warnings']} warnings, {found['unknown']} unknown.</p>"
        "<table><tr><th>state</th><th>check</th><th>found</th><th>to mend it</th></tr>"
        f"{''.join(map(_doctor_row, rows))}</table>"
    )


def _doctor_row(row: Mapping[str, Any]) -> str:
    state = row["severity"] if row["state"] == "failed" else row["state"]
    cells = (state, row["id"], f"{row['title']}: {row['detail']}", row["fix"])
    out = " class=out" if row["state"] == "skipped" else ""
    return f"<tr{out}>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"


def _model(document: Mapping[str, Any]) -> str:
    items = document["items"]
    rows = "".join(_row(item) for item in items[:MOST_ENDPOINTS])
    more = f"<p>{len(items) - MOST_ENDPOINTS} more endpoints</p>" if len(items) > MOST_ENDPOINTS else ""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    return (
        f"<h2>{escape(document['model'])}</h2><p>strategy {escape(document['strategy'])}</p>"
        f"<table><tr>{head}</tr>{rows}</table>{more}"
    )


def _row(item: Mapping[str, Any]) -> str:
    cost = item["cost"]
    queued = f"+{item['queued']}" if item["queued"] else ""
    slots = f"/{item['slots']}" if item["slots"] else ""
    cells: Iterable[object] = (
        item["place"] or "",
        item["node"],
        item["backend"],
        item["excluded"] or "",
        item["phase"],
        f"{item['in_flight']}{queued}{slots}",
        f"{cost['total_s']:.3f}",
        *(f"{cost[term]:.3f}" if cost[term] else "" for term in TERMS),
    )
    out = " class=out" if item["excluded"] else ""
    return f"<tr{out}>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"
