"""``swarmctl config``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, print_document, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarmplane.settings.load import Loaded


@click.group(cls=Group)
def config() -> None:
    """Settings of this host."""


@config.command("show")
@click.option("--all", "everything", is_flag=True, help="Also what nobody set.")
@click.argument("prefix", default="")
def show(everything: bool, prefix: str) -> None:
    """Show settings in force and where each came from; only those below PREFIX if given.

    Text shows what somebody set, unless --all or PREFIX is given. JSON has all of it.
    """
    from swarmplane.settings.keys import known_keys

    loaded = _loaded()
    settings = loaded.settings.model_dump(mode="json")
    items = []
    for path in known_keys():
        origin = loaded.origin(path)
        if prefix and path != prefix and not path.startswith(f"{prefix}."):
            continue
        items.append(
            {"name": path, "value": _at(settings, path), "origin": origin.kind, "from": origin.where}
        )
    document = {"file": str(loaded.file), "settings": settings, "items": items}
    rows = [
        {**item, "value": json.dumps(item["value"]), "from": item["from"] or item["origin"]}
        for item in items
        if everything or prefix or item["origin"] != "default"
    ]
    text = table(rows, ("name", "value", "from")) if rows else f"all settings are defaults ({loaded.file})"
    emit("config", document, text)


@config.command("schema")
def schema() -> None:
    """Print the JSON Schema of config.toml."""
    from swarmplane.settings.schema import Settings

    document = Settings.model_json_schema()
    if invocation().as_json:
        print_document("config-schema", {"json_schema": document})
    else:
        click.echo(json.dumps(document, indent=2))


@config.command("check")
def check() -> None:
    """Say whether the settings are valid; 2 if not."""
    loaded = _loaded()
    emit(
        "config-check",
        {
            "ok": True,
            "file": str(loaded.file),
            "exists": loaded.file.exists(),
            "warnings": list(loaded.warnings),
        },
        f"{loaded.file} is valid"
        if loaded.file.exists()
        else f"there is no {loaded.file}; defaults are valid",
    )


@config.command("set")
@click.argument("assignments", nargs=-1, metavar="KEY=VALUE...")
@click.option("--unset", multiple=True, metavar="KEY", help="Take a key out; repeatable.")
def set_values(assignments: tuple[str, ...], unset: tuple[str, ...]) -> None:
    """Write settings into config.toml, if they are valid. Comments stay.

    Lists are written with commas or as JSON: client.listen=127.0.0.1:8080,:8081
    """
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.edit import edit

    if not assignments and not unset:
        raise click.UsageError("nothing to set; write KEY=VALUE, as client.listen=127.0.0.1:8080")
    if len(assignments) == 2 and "=" not in assignments[0]:  # noqa: PLR2004 - KEY VALUE, as git has it
        assignments = ("=".join(assignments),)
    data_dir = invocation().data_dir
    file = config_file(data_dir.root)
    changed = edit(file, assignments, unset=unset)
    emit("config-set", {"file": str(file), "changed": list(changed)}, f"{', '.join(changed)} in {file}")
    say("a running host takes what it can by `swarmctl config reload`, all of it by `swarmctl restart`")


@config.command("reload")
def reload() -> None:
    """Have this host read its settings again; say what was applied and what needs a restart."""
    from cli.client.local import post_json
    from swarmplane.errors import UnavailableError
    from swarmplane.runtime import read_runtime

    _loaded()
    running = read_runtime(invocation().data_dir)
    admin = running.urls.get("admin", "") if running is not None else ""
    if not admin:
        raise UnavailableError("this host does not run; it reads its settings at its start: swarmctl up")
    console = running.urls.get("console", "") if running is not None else ""
    document = _merged(post_json(admin, "/reload"), post_json(console, "/reload") if console else {})
    lines = [
        f"{words}: {', '.join(keys)}"
        for words, name in (("applied", "applied"), ("need a restart (swarmctl restart)", "restart_needed"))
        if (keys := document[name])
    ]
    emit("config-reload", document, "\n".join(lines) or "nothing changed")


def _merged(sidecar: Mapping[str, object], control: Mapping[str, object]) -> dict[str, list[str]]:
    """What both processes of a host did; the control plane, where it runs, speaks for its own sections."""

    def keys(answer: Mapping[str, object], name: str) -> list[str]:
        found = answer.get(name)
        return [str(key) for key in found] if isinstance(found, list) else []

    own = ("control.", "etcd.", "swarm.") if control else ()
    restart = [key for key in keys(sidecar, "restart_needed") if not key.startswith(own)]
    restart += [key for key in keys(control, "restart_needed") if key not in restart]
    applied = dict.fromkeys([*keys(sidecar, "applied"), *keys(control, "applied")])
    return {"applied": [key for key in applied if key not in restart], "restart_needed": restart}


def _loaded() -> Loaded:
    from swarmplane.settings.load import load_with_origins

    loaded = load_with_origins(invocation().data_dir.root)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return loaded


def _at(settings: dict[str, object], path: str) -> object:
    value: object = settings
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
