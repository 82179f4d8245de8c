"""``swarmctl service``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cli.hostflags import host_flags, kept_of, overrides_of
from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, say
from swarmplane.errors import AlreadyExistsError

if TYPE_CHECKING:
    from cli.service.hosting import Hosting

_SYSTEM = click.option(
    "--system/--user",
    "system",
    default=None,
    help="A service of the machine, or of this user alone (Linux). Default: the machine for root.",
)
_RUN_AS = click.option(
    "--run-as", default="", metavar="USER", help="Whom it runs as. Default: who called sudo, or this user."
)


@click.group(cls=Group)
def service() -> None:
    """This host as a service, which runs from boot: systemd, launchd, or the Windows Task Scheduler."""


@service.command("install")
@_SYSTEM
@_RUN_AS
@click.option("--no-start", is_flag=True, help="From the next boot on, not now.")
@click.option(
    "--print", "--dry-run", "print_only", is_flag=True, help="Show what would be written, and do nothing."
)
@host_flags
def install(system: bool | None, run_as: str, no_start: bool, print_only: bool, **given: Any) -> None:  # noqa: ANN401
    """Make this host a service, and run it; once more after a change of flags or version.

    Takes the flags of `up` and keeps those that describe the host in config.toml, as `up` does. A host that
    joins a swarm is enrolled first: `swarmctl join ADDRESS --token-file FILE --enroll-only`.
    """
    from cli.service.hosting import hosting
    from cli.service.installing import Installer, acting_as
    from cli.supervise.lock import holder
    from swarmplane.settings.edit import edit

    overrides, kept = overrides_of(given), kept_of(given)
    here = hosting(invocation().named_data_dir, system=system, run_as=run_as)
    described = here.describe(overrides, [one for one in overrides if one not in kept])
    file, text = here.manager.file(described.name), here.manager.text(described)
    if print_only:
        emit("service", {**_names(here), "text": text}, text.rstrip("\n"))
        return
    installer = Installer(here.manager)
    pid = holder(here.data_dir)
    if pid is not None and not no_start and not installer.standing(here.name).active:
        raise AlreadyExistsError(
            f"this host runs already, not as a service (pid {pid}); stop it first: swarmctl down"
        )
    for name in here.ignored_variables():
        say(f"warning: {name} is set here, and a service does not see it; keep it: swarmctl config set")
    with acting_as(here.account):
        described.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        edit(here.config_file, [*kept, *here.access_log()])
    changed = installer.install(described, start=not no_start)
    emit("service", _standing(here, changed=changed), f"{'installed' if changed else 'unchanged'}: {file}")
    say(f"its log: {here.log_hint}")
    hint = here.lingering_hint()
    if hint:
        say(hint)


@service.command("uninstall")
@_SYSTEM
def uninstall(system: bool | None) -> None:
    """Stop the service and remove it. The host stays in its swarm: `swarmctl up` runs it as before."""
    from cli.running import wait_for
    from cli.service.hosting import installed_hosting
    from cli.service.installing import Installer, acting_as
    from cli.supervise.asking import stop_host
    from swarmplane.settings.edit import edit

    here = installed_hosting(invocation().named_data_dir, system=system)
    if sys.platform == "win32" and Installer(here.manager).standing(here.name).installed:
        wait_for(stop_host(here.data_dir, here.settings().drain_s))
    removed = Installer(here.manager).remove(here.name, here.stop_s())
    if removed:
        with acting_as(here.account):
            edit(here.config_file, (), unset=here.access_log_kept())
    words = f"removed: {here.manager.file(here.name)}" if removed else "there is no such service"
    emit("service", {**_names(here), "installed": False, "removed": removed}, words)


@service.command("status")
@_SYSTEM
def status(system: bool | None) -> None:
    """Show whether this host is a service, and whether it runs."""
    from cli.service.hosting import installed_hosting

    here = installed_hosting(invocation().named_data_dir, system=system)
    document = _standing(here)
    words = "not installed (swarmctl service install)"
    if document["installed"]:
        facts = [
            "enabled" if document["enabled"] else "not enabled",
            "active" if document["active"] else "not active",
            f"pid {document['pid']}" if document["pid"] else "does not run",
        ]
        words = f"{here.name} ({here.manager.title}): {', '.join(facts)}\nlog: {document['log']}"
    emit("service", document, words)


def _names(here: Hosting) -> dict[str, object]:
    return {
        "name": here.name,
        "manager": here.manager.title,
        "file": str(here.manager.file(here.name)),
        "data_dir": str(here.data_dir.root),
    }


def _standing(here: Hosting, **more: object) -> dict[str, object]:
    from cli.service.installing import Installer
    from cli.supervise.lock import holder

    found = Installer(here.manager).standing(here.name)
    return {
        **_names(here),
        "installed": found.installed,
        "enabled": found.enabled,
        "active": found.active,
        "pid": holder(here.data_dir) or 0,
        "log": here.log_hint if found.installed else "",
        **more,
    }
