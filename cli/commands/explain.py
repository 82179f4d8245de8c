"""``swarmctl explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import click

from cli.invocation import Everywhere, invocation
from cli.output import emit, table
from cli.running import wait_for
from swarmplane.errors import Code, NotFoundError, SwarmError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.client.documents import Document

_COLUMNS: Final = ("place", "node", "backend", "cost_s", "terms", "phase", "load", "ttft_s", "excluded")


@click.command(cls=Everywhere)
@click.argument("model")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(0, 10**8),
    default=256,
    show_default=True,
    metavar="N",
    help="Size of the prompt to price.",
)
@click.option("--node", default="", metavar="NODE", help="As NODE sees it, by name or id.")
def explain(model: str, prompt_tokens: int, node: str) -> None:
    """Show whom this host would ask for MODEL, in which order, and why not the others.

    Costs are expected seconds until an answer's first token; their terms are named in the reference. Where
    this host does not run, and with --node, the control plane asks a node that does.
    """
    own = None if node else _of_this_host(model, prompt_tokens)
    document = _of_the_swarm(model, prompt_tokens, node) if own is None else own
    emit("explain", document, _words(document))


def _of_this_host(model: str, prompt_tokens: int) -> dict[str, object] | None:
    """What this host's sidecar would do; None where it does not run."""
    from cli.client.local import get_json
    from swarmplane.runtime import read_runtime

    runtime = read_runtime(invocation().data_dir)
    if runtime is None or not runtime.urls.get("admin"):
        return None
    query = urlencode({"model": model, "prompt_tokens": prompt_tokens})
    document = get_json(runtime.urls["admin"], f"/explain?{query}")
    error = document.get("error")
    if isinstance(error, dict):
        code = next((one for one in Code if one.slug == error.get("code")), Code.INTERNAL)
        raise SwarmError(str(error.get("message", "")), code=code)
    document.pop("schema", None)
    return document


def _of_the_swarm(model: str, prompt_tokens: int, node: str) -> dict[str, object]:
    """What another node would do, as the control plane hears from it."""
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.explain(model, prompt_tokens, node)

    try:
        return wait_for(ask())
    except NotFoundError as error:
        if node or error.code is Code.MODEL_NOT_FOUND:
            raise
        # In no swarm: then this host is all there is.
        raise UnavailableError("this host does not run; run it: swarmctl up") from None


def _words(document: Mapping[str, Any]) -> str:
    asked = f", as {document['asked_node']} sees it" if document.get("asked_node") else ""
    lines = [
        f"{document['model']}, {document['prompt_tokens']} prompt tokens: {document['strategy']}{asked}",
        "",
    ]
    rows = [_row(item) for item in document["items"]]
    lines.append(table(rows, [c for c in _COLUMNS if c == "place" or any(row[c] for row in rows)]))
    last = document["last"]
    if last["items"]:
        lines += ["", f"the last request ({last['strategy']}) saw"]
        lines += [
            f"  {one['name']}  {one['cost']['total_s']:.3f}  {_terms(one['cost'])}"
            + (f"  left out: {one['excluded']}" if one["excluded"] else "")
            for one in last["items"]
        ]
    return "\n".join(lines)


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    slots = f"/{item['slots']}" if item["slots"] else ""
    queued = f"+{item['queued']}" if item["queued"] else ""
    return {
        "place": item["place"],
        "node": item["node"],
        "backend": item["backend"],
        "cost_s": f"{item['cost']['total_s']:.3f}",
        "terms": _terms(item["cost"]),
        "phase": item["phase"],
        "load": f"{item['in_flight']}{queued}{slots}",
        "ttft_s": item["ewma_ttft_s"],
        "excluded": item["excluded"],
    }


def _terms(cost: Mapping[str, float]) -> str:
    shown = [
        f"{name}={value:.3f}" for name, value in cost.items() if value and name not in {"load", "total_s"}
    ]
    return " ".join(shown)
