"""``swarmctl login`` and ``logout``."""

from __future__ import annotations

import click

from cli.invocation import Everywhere, invocation
from cli.output import emit, say
from cli.running import wait_for
from cli.tokenflags import token_flags, token_text
from swarmplane.errors import InvalidRequestError


@click.command(cls=Everywhere)
@click.argument("address")
@token_flags
@click.option("--name", metavar="NAME", help="Your name in the swarm; default: your user name here.")
def login(address: str, token_file: str | None, token: str | None, name: str | None) -> None:
    """Get a person's certificate for the swarm at ADDRESS, and use it from now on.

    The token's role decides what you may do. With --context the credential is kept under that name; else
    under the swarm's. It is renewed when it is used.
    """
    import getpass

    from cli.supervise.founding import label_of
    from swarmplane.contexts import Context, use_context, write_context
    from swarmplane.credentials.join_token import parse_join_token
    from swarmplane.enrollment import enroll

    called = invocation()
    join_token = parse_join_token(token_text(token_file, token))
    enrolled = wait_for(
        enroll(address, join_token, name=label_of(name or getpass.getuser()) or "person", profile="person")
    )
    if not enrolled.subject_id.startswith("user:"):
        raise InvalidRequestError(
            f"this token makes a {enrolled.role}, not a person; one use of it is spent. "
            "A token for people: swarmctl token create --role operator"
        )
    context = Context(
        name=called.context or label_of(enrolled.swarm_name) or enrolled.swarm_id,
        swarm=enrolled.swarm_id,
        swarm_name=enrolled.swarm_name,
        addresses=enrolled.control_addresses,
        subject=enrolled.subject_id,
        join_addresses=enrolled.join_addresses,
    )
    write_context(called.data_dir, context, enrolled.credential)
    use_context(called.data_dir, context.name)
    document = {
        "name": context.name,
        "swarm": context.swarm,
        "swarm_name": context.swarm_name,
        "subject": context.subject,
        "role": enrolled.role,
        "directory": str(called.data_dir.context(context.name)),
    }
    emit(
        "login", document, f"{enrolled.name} ({enrolled.role}) in swarm {context.swarm_name}: {context.name}"
    )


@click.command(cls=Everywhere)
def logout() -> None:
    """Delete the certificate in use, or that of --context."""
    from swarmplane.contexts import current_name, remove_context

    called = invocation()
    name = called.context or current_name(called.data_dir)
    if not name:
        say("nobody is logged in here")
        return
    remove_context(called.data_dir, name)
    if called.data_dir.store.exists():
        say("this host founded the swarm: its admin credential is made again at the next start")
    emit("logout", {"name": name}, f"deleted {name}")
