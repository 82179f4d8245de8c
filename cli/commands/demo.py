"""``swarmctl demo``."""

from __future__ import annotations

import click

from cli.invocation import Everywhere, invocation
from cli.output import print_document


@click.command(cls=Everywhere)
@click.option("--once", is_flag=True, help="End after the answer.")
def demo(once: bool) -> None:
    """Found a swarm of two nodes on this machine and ask a tiny model through both.

    Node A has no model. Node B runs one with llama.cpp and joins with a token. The question goes to A over
    the OpenAI API, B answers. Everything is in a temporary directory and on loopback.
    """
    import asyncio

    from cli.demo.play import Play

    called = invocation()
    play = Play(as_json=called.as_json, verbose=called.verbose)
    try:
        document = asyncio.run(play.run(once=once))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return
    if called.as_json and once:
        print_document("demo", document)
