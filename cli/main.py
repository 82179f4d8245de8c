"""Entry point of ``swarmctl``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from cli.invocation import Invocation
from cli.lazy import LazyGroup
from swarmplane.errors import SwarmError

_COMMANDS: Final = {
    "up": ("cli.commands.up:up", "Run this host: found a swarm, or go on in the one it is in."),
    "join": ("cli.commands.join:join", "Enrol this host in a swarm, then run it."),
    "status": ("cli.commands.status:status", "Show this host and its swarm."),
    "doctor": (
        "cli.commands.doctor:doctor",
        "Examine this host and its swarm, and say what to do.",
    ),
    "down": ("cli.commands.down:down", "Stop this host."),
    "restart": ("cli.commands.down:restart", "Stop this host and run it again."),
    "leave": ("cli.commands.leave:leave", "Stop this host and delete it from the swarm."),
    "logs": ("cli.commands.logs:logs", "Show logs of this host or of an engine."),
    "demo": ("cli.commands.demo:demo", "Show it all at work on this machine, with a tiny model."),
    "node": ("cli.commands.node:node", "Hosts of the swarm."),
    "model": ("cli.commands.model:model", "Language models of the swarm."),
    "backend": ("cli.commands.backend:backend", "Inference servers of this host."),
    "alias": ("cli.commands.alias:alias", "Further names of models."),
    "route": ("cli.commands.route:route", "Where requests go."),
    "election": ("cli.commands.election:election", "Who decides, of several control planes."),
    "event": ("cli.commands.event:event", "What happens in the swarm."),
    "policy": ("cli.commands.policy:policy", "What is wanted of balancing."),
    "peers": ("cli.commands.peers:peers", "Show who else is on the local network."),
    "gateway": ("cli.commands.gateway:gateway", "This host as the URL for clients."),
    "explain": ("cli.commands.explain:explain", "Show whom this host would ask for a model, and why."),
    "token": ("cli.commands.token:token", "Join tokens."),
    "key": ("cli.commands.key:key", "API keys of clients."),
    "enrolment": ("cli.commands.enrolment:enrolment", "How hosts get into the swarm."),
    "login": ("cli.commands.login:login", "Get a person's certificate for a swarm."),
    "logout": ("cli.commands.login:logout", "Delete a person's certificate."),
    "context": ("cli.commands.context:context", "Credentials of swarms, to choose from."),
    "connect": ("cli.commands.connect:connect", "Point another program to this host."),
    "store": ("cli.commands.store:store", "What a founder keeps of its swarm: backups, another host, etcd."),
    "config": ("cli.commands.config:config", "Settings of this host."),
    "service": (
        "cli.commands.service:service",
        "This host as a service, which runs from boot: systemd, launchd, or the Windows Task Scheduler.",
    ),
    "version": ("cli.commands.version:version", "Show the version."),
    "completion": ("cli.commands.completion:completion", "Print a completion script for a shell."),
}

cli = LazyGroup(
    "swarmctl",
    lazy=_COMMANDS,
    help="One OpenAI-compatible endpoint for every machine that runs language models.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


click.version_option(package_name="swarmplane", message="swarmplane %(version)s")(cli)


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit status: 0 done, 1 failed, 2 usage, 75 try again, 130 interrupted."""
    called = Invocation()
    try:
        outcome = cli.main(
            list(arguments),
            prog_name="swarmctl",
            standalone_mode=False,
            obj=called,
            color=False if os.environ.get("NO_COLOR") else None,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SwarmError, OSError, ExceptionGroup) as error:
        from cli.failures import report

        return report(error, verbose=called.verbose)
    return outcome if isinstance(outcome, int) else 0


def run() -> None:
    """As the console script ``swarmctl``."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
