"""``swarmctl backend``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list, say
from cli.providers import add_provider, forget_key, provider_flags

if TYPE_CHECKING:
    from cli.backends import Item

FAILED: Final = 1
_COLUMNS = ("name", "kind", "state", "models", "slots", "running", "source", "url", "reason")
_FINE: Final = frozenset({"ok", "another user's"})
"""States of what answers as it should, or is not used."""
_REFUSED: Final = frozenset({"is a node", "not a backend"})
"""States of what is never written into the settings."""


@click.group(cls=Group)
def backend() -> None:
    """Inference servers of this host: those it found by itself, and those that are named."""


@backend.command("list")
def list_backends() -> None:
    """List inference servers of this host, ordered by name, and how each was found.

    Asks the running host; where none runs, looks around itself.
    """
    from cli.backends import known

    items = known(invocation().data_dir, _admin())
    if invocation().as_json:
        emit_list("backends", items, _COLUMNS)
        return
    rows = [{**item, "models": len(item["models"])} for item in items]
    shown = [name for name in _COLUMNS if name != "reason" or any(row["reason"] for row in rows)]
    emit_list("backends", rows, shown, none="no inference server is found here, and none is named")


@backend.command("add")
@click.argument("url", default="")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="File with its API key.")
@click.option("--name", default="", help="Name on this host; default: from the URL, or the provider.")
@provider_flags
def add(url: str, key_file: Path | None, name: str, **cloud: Any) -> None:  # noqa: ANN401 - provider_flags
    """Use the inference server at URL, from now on and after restarts.

    It is looked at first. A node of a swarm, and what is no inference server, are refused; one that can't be
    reached now, or wants a key, is kept and used once it answers. The same URL again changes name and key.

    With --provider (openai, anthropic, openrouter, …; with a URL: openai-compatible, anthropic-compatible) it
    is a provider in the cloud. It is kept once it took the key, which is sealed; its models are called
    NAME:MODEL.
    """
    from cli.backends import look_at, save
    from swarmplane.errors import InvalidRequestError
    from swarmplane.settings.backend import BackendSettings

    data_dir = invocation().data_dir
    if cloud["provider"]:
        item = add_provider(data_dir, url, name=name, key_file=key_file, **cloud)
        _reload(str(item["name"]))
        emit("backend", {**item, "saved": True}, _words(item))
        return
    if not url:
        raise click.UsageError("which? swarmctl backend add URL, or --provider PROVIDER")
    if key_file is not None:
        key_file = key_file.expanduser().absolute()
        if not key_file.is_file():
            raise InvalidRequestError(f"there is no key file {key_file}")
    item = look_at(data_dir, url, name=name, key_file=key_file)
    if item["state"] in _REFUSED:
        raise InvalidRequestError(_refusal(item))
    ca_file = cloud["ca_file"]
    save(data_dir, BackendSettings(url=item["url"], name=item["name"], key_file=key_file, ca_file=ca_file))
    _reload(str(item["name"]))
    emit("backend", {**item, "saved": True}, _words(item))
    _advise(item, url)


@backend.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Use the inference server NAME (or its URL) no longer; one that was found by itself is left out."""
    from cli.backends import found_in, ignore, known, saved
    from cli.backends import remove as take_out

    data_dir = invocation().data_dir
    ignored = False
    for entry in saved(data_dir):
        if name in {entry.name, entry.url}:
            forget_key(data_dir, entry.name)
    if not take_out(data_dir, name):
        item = found_in(known(data_dir, _admin()), name)
        if item["source"] == "engine":
            raise click.UsageError(f"{item['name']} is an engine of this host: take its model out of --model")
        name, ignored = str(item["name"]), item["source"] != "settings"
        if ignored:
            ignore(data_dir, name)
        elif not take_out(data_dir, str(item["url"])):
            raise click.UsageError(f"{name} is not named in config.toml: see `swarmctl config show backends`")
    _reload("")
    words = f"{name} is left out from now on" if ignored else f"removed {name}"
    emit("backend", {"name": name, "removed": True, "ignored": ignored}, words)
    if ignored:
        say("it was found by itself; to have it again: swarmctl backend add URL")


@backend.command("test")
@click.argument("name", metavar="NAME|URL", default="")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="File with its API key.")
def test(name: str, key_file: Path | None) -> None:
    """Look at one inference server now, or at all; 1 if one does not answer as it should."""
    from cli.backends import known, look_at, look_at_entry, saved

    data_dir = invocation().data_dir
    entry = next((one for one in saved(data_dir) if name and name in {one.name, one.url}), None)
    if not name:
        items = known(data_dir, "")
    elif entry is not None:
        items = [look_at_entry(data_dir, entry.model_copy(update={"key_file": key_file or entry.key_file}))]
    else:
        items = [look_at(data_dir, _url_of(name), key_file=key_file)]
    if invocation().as_json:
        emit_list("backends", items, _COLUMNS)
    else:
        for item in items:
            click.echo(_refusal(item) if item["state"] in _REFUSED else _words(item))
        if not items:
            say("no inference server is found here, and none is named")
    if not items or any(item["state"] not in _FINE for item in items):
        click.get_current_context().exit(FAILED)


def _url_of(name: str) -> str:
    """The URL of the one that the running host calls ``name``, else ``name`` itself."""
    from cli.backends import found_in, known

    if "://" in name or ":" in name:
        return name
    return str(found_in(known(invocation().data_dir, _admin()), name)["url"])


def _admin() -> str:
    """URL of the admin listener of this host's sidecar; empty: it does not run."""
    from swarmplane.runtime import read_runtime

    running = read_runtime(invocation().data_dir)
    return running.urls.get("admin", "") if running is not None else ""


def _reload(name: str) -> None:
    """Have a running host take it into use."""
    from cli.backends import known
    from cli.client.local import post_json

    admin = _admin()
    if not admin:
        return
    post_json(admin, "/reload")
    if name and name not in {item["name"] for item in known(invocation().data_dir, admin)}:
        say(
            "this host was started with --backend or SWARMPLANE_BACKENDS, which stand above config.toml: "
            "it is used once the host is started without"
        )


def _words(item: Item) -> str:
    models = [str(model["name"]) for model in item["models"]]
    told = f"{item['name']}  {item['kind']}  {item['state']}  {item['url']}"
    if item["reason"]:
        told += f"  ({item['reason']})"
    return "\n".join([told, *(f"  {model}" for model in models)])


def _refusal(item: Item) -> str:
    node: Any = item.get("node")
    if item["state"] != "is a node" or not isinstance(node, dict):
        return f"{item['url']} is no inference server: {item['reason']}"
    words = f"{item['url']} is a node of a swarm, not a backend"
    addresses = node.get("join")
    if not isinstance(addresses, list) or not addresses:
        return f"{words}; to have its models here: `swarmctl up --lan` there, then swarmctl join"
    token = "" if node.get("open") else " --token-file FILE"
    return f"{words}; to have its models here: swarmctl join {addresses[0]}{token}"


def _advise(item: Item, url: str) -> None:
    if item["state"] == "needs key":
        say(f"it needs a key: swarmctl backend add {url} --key-file FILE")
    elif item["state"] != "ok":
        say(f"it is {item['state']} now; it is used once it answers")
