"""What the demo does, in order, and how it cleans up whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from cli.client.connection import connected_to
from cli.client.local import get_json
from cli.demo.node import DemoNode
from cli.demo.question import Answer, ask
from cli.output import print_document, say
from swarmplane import models
from swarmplane.client.targets import chosen_target
from swarmplane.contexts import DEFAULT
from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import SwarmError, UnavailableError

MODEL: Final = "tiny-trained-q8"
QUESTION: Final = "What does the lion eat?"
_LISTED_S: Final = 90.0
_POLL_S: Final = 0.1
_TOKEN_S: Final = 600


class Play:
    """One demo."""

    def __init__(self, *, as_json: bool, verbose: bool) -> None:
        self._as_json = as_json
        self._verbose = verbose
        self._began_s = time.monotonic()

    async def run(self, *, once: bool) -> dict[str, object]:
        """Found, join, ask; what came of it. Unless ``once``, it stays until interrupted.

        Raises:
            SwarmError: A step failed; everything is stopped and removed.
        """
        async with _directory() as directory, _interruptible():
            a, b = DemoNode("a", directory), DemoNode("b", directory)
            try:
                document = await self._ask_through(a, b, directory)
                if not once:
                    await self._stay(document)
            except SwarmError:
                if self._verbose:
                    say(f"--- node a\n{a.tail()}\n--- node b\n{b.tail()}")
                raise
            finally:
                # Members first: they take their leave of the control plane.
                await b.stop()
                await a.stop()
        return document

    async def _ask_through(self, a: DemoNode, b: DemoNode, directory: Path) -> dict[str, object]:
        self._step("node A founds a swarm; it has no model")
        founder = await a.start(["up"])
        token = await _join_token(a.data_dir)
        token_file = directory / "join-token"
        await asyncio.to_thread(write_atomically, token_file, token.encode())
        self._step(f"node B joins with a token and starts llama.cpp with {MODEL}")
        member = await b.start(
            ["join", founder.urls["join"], "--token-file", str(token_file)],
            "--model",
            str(models.path(MODEL)),
        )
        url = founder.urls["client"]
        self._step("waiting until A knows B's model")
        await _listed(url, b)
        self._step(f"asking A at {url}")
        if not self._as_json:
            print(f"question: {QUESTION}\nanswer:  ", end="", flush=True)
        answer = await asyncio.to_thread(ask, url, MODEL, QUESTION, self._show)
        if not self._as_json:
            print(
                f"\nserved by node {answer.node}, backend {answer.backend}; asked at node {founder.node_name}"
            )
        self._step("answered")
        return {
            "question": QUESTION,
            "answer": answer.text,
            "model": MODEL,
            "asked": founder.node_name,
            **_served(answer),
            "url": f"{url}/v1",
            "curl": _curl(url),
            "nodes": [{"name": one.node_name, "id": one.node_id} for one in (founder, member)],
            "took_s": round(time.monotonic() - self._began_s, 3),
        }

    async def _stay(self, document: dict[str, object]) -> None:
        if self._as_json:
            print_document("demo", document)
            sys.stdout.flush()
        else:
            print(f"\nUse it: {document['url']} (any API key)\n\n  {document['curl']}\n", flush=True)
        say("Ctrl-C ends the demo and removes everything.")
        await asyncio.Event().wait()

    def _show(self, piece: str) -> None:
        if not self._as_json:
            print(piece, end="", flush=True)

    def _step(self, text: str) -> None:
        say(f"[{time.monotonic() - self._began_s:5.1f} s] {text}")


async def _join_token(data_dir: DataDir) -> str:
    async with connected_to(chosen_target(data_dir, DEFAULT)) as client:
        return str((await client.create_token("node", 1, _TOKEN_S))["join_token"])


async def _listed(url: str, b: DemoNode) -> None:
    try:
        async with asyncio.timeout(_LISTED_S):
            while not await asyncio.to_thread(_is_listed, url):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise UnavailableError(
            f"A does not list {MODEL} after {_LISTED_S:g} s; node B says:\n{b.tail()}"
        ) from None


def _is_listed(url: str) -> bool:
    with contextlib.suppress(SwarmError):
        entries = get_json(url, "/v1/models").get("data")
        for entry in entries if isinstance(entries, list) else ():
            if entry.get("id") == MODEL:
                return bool(entry.get("swarm", {}).get("loaded", True))
    return False


def _served(answer: Answer) -> dict[str, str]:
    return {"node": answer.node, "backend": answer.backend, "served_model": answer.model}


def _curl(url: str) -> str:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]})
    return f"curl --noproxy '*' {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"


@contextlib.asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="swarmplane-demo-"))
    try:
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def _interruptible() -> AsyncIterator[None]:
    """Within it SIGTERM ends the demo as Ctrl-C does."""
    if os.name == "nt":
        yield
        return
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    loop.add_signal_handler(signal.SIGTERM, task.cancel if task is not None else loop.stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
