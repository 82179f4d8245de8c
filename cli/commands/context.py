"""``swarmctl context``."""

from __future__ import annotations

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list


@click.group(cls=Group)
def context() -> None:
    """Credentials of swarms; --context names one for a single command."""


@context.command("list")
def list_contexts() -> None:
    """List contexts; the one in use is marked."""
    from swarmplane.contexts import context_names, current_name, read_context

    data_dir = invocation().data_dir
    current = current_name(data_dir)
    items = []
    for name in context_names(data_dir):
        one = read_context(data_dir, name)
        items.append(
            {
                "name": name,
                "current": name == current,
                "swarm": one.swarm,
                "swarm_name": one.swarm_name,
                "subject": one.subject,
                "addresses": list(one.addresses),
            }
        )
    emit_list(
        "contexts", items, ("name", "current", "swarm_name", "subject", "addresses"),
        none="no contexts: `swarmctl up` makes one where it founds a swarm, `swarmctl login` elsewhere",
    )  # fmt: skip


@context.command("use")
@click.argument("name")
def use(name: str) -> None:
    """Act with the context NAME from now on."""
    from swarmplane.contexts import use_context

    use_context(invocation().data_dir, name)
    emit("context", {"name": name, "current": True}, f"using {name}")
