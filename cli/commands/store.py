"""``swarmctl store``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.hostflags import etcd_flags, overrides_of
from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, say
from cli.running import wait_for
from swarmplane.errors import FailedPreconditionError, InvalidRequestError, reason_of

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir


@click.group(cls=Group)
def store() -> None:
    """What a founder keeps of its swarm: backups, another host, etcd."""


@store.command("backup")
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="FILE", help="Where, instead.")
@click.option("--show-key", is_flag=True, help="Print the recovery key that opens this host's backups.")
def backup(target: Path | None, show_key: bool) -> None:
    """Back up this founder's swarm, also while it runs: the store, its secret and its own credentials.

    The file is sealed. What opens it is the recovery key: keep a copy of it away from this host. A running
    founder makes a backup every day and keeps seven (control.backups_kept).
    """
    from cli.storekeeping import keep

    data_dir = invocation().data_dir
    if show_key:
        key = str(wait_for(keep(data_dir, "key"))["key"])
        emit("recovery-key", {"key": key}, key)
        return
    made = wait_for(keep(data_dir, "backup", file=target and target.absolute()))
    emit("backup", made, str(made["path"]))
    say("it opens with this host's recovery key; keep that elsewhere: swarmctl store backup --show-key")


@store.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key-file", required=True, metavar="FILE", help="The recovery key; - for stdin.")
def restore(file: Path, key_file: str) -> None:
    """Make this host the founder that FILE is a backup of.

    Nodes keep their certificates and need no token. Those that know the old address only learn the new one
    with: swarmctl join ADDRESS. The old founder must not run any longer.
    """
    from cli.storekeeping import keep

    data_dir = _stopped("restore into a new --data-dir")
    made = wait_for(keep(data_dir, "restore", file=file.absolute(), key=_key(key_file)))
    emit("restore", made, f"restored swarm {made['swarm_name']} as of revision {made['revision']}")
    if not made["moved"]:
        say("the old founder must never run again: two copies of a swarm are two truths")
    say("run it: swarmctl up (with the flags it had)")


@store.command("move")
@click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path), metavar="FILE",
    help="The backup to make, and to restore on the other host.",
)  # fmt: skip
def move(target: Path) -> None:
    """Give this founder's swarm up to another host: a last backup, and never served here again.

    On the other host: swarmctl store restore FILE --key-file KEY, and swarmctl up.
    """
    from cli.storekeeping import keep

    data_dir = _stopped("stop it first: swarmctl down")
    made = wait_for(keep(data_dir, "move", file=target.absolute()))
    emit("move", made, str(made["path"]))
    say(f"this host serves swarm {made['swarm_name']} no longer; the other needs the file and the key")


@store.command("migrate")
@etcd_flags
def migrate(**flags: str | None) -> None:
    """Move this founder's swarm into etcd, so that several control planes can keep it.

    Nodes keep their certificates, tokens stay good, the audit stays. etcd must be empty below its prefix
    (etcd.prefix). From then on this host keeps the swarm there; what it had is never served again. What was
    interrupted is done again.
    """
    from cli.storekeeping import keep
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.edit import edit

    data_dir = _stopped("stop it first: swarmctl down")
    overrides = overrides_of(flags)
    done = wait_for(keep(data_dir, "migrate", *(f"--set={one}" for one in overrides)))
    edit(config_file(data_dir.root), overrides)
    said = "is in etcd already" if done["again"] else f"is in etcd now: {done['keys']} keys"
    emit("migrate", done, f"swarm {done['swarm_name']} {said}")
    say("run it: swarmctl up; further control planes: swarmctl token create --role instance")


def _stopped(what: str) -> DataDir:
    from cli.supervise.lock import holder

    data_dir = invocation().data_dir
    pid = holder(data_dir)
    if pid is not None:
        raise FailedPreconditionError(f"a host runs in {data_dir.root} (pid {pid}); {what}")
    return data_dir


def _key(key_file: str) -> str:
    import sys

    try:
        text = sys.stdin.readline() if key_file == "-" else Path(key_file).read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{key_file} holds no recovery key") from None
    except OSError as error:
        raise InvalidRequestError(
            f"the recovery key in {key_file} can't be read: {reason_of(error)}"
        ) from None
    return text.strip()
