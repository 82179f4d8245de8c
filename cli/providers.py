"""Providers in the cloud as backends of this host: kept once they took the key, which is sealed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swarmplane.errors import FailedPreconditionError, InvalidRequestError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

if TYPE_CHECKING:
    from cli.backends import Item
    from swarmplane.datadir import DataDir
    from swarmplane.settings.backend import BackendSettings


def provider_flags(command: Decorated) -> Decorated:
    """Add the flags of providers; the command takes them as keywords for :func:`add_provider`."""
    path = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option("--ca-file", type=path, help="Authorities to trust besides the machine's own."),
        click.option(
            "--model", "models", multiple=True, metavar="NAME", help="Of a provider: only these; repeatable."
        ),
        click.option(
            "--use",
            type=click.Choice(["never", "last", "named"]),
            default="named",
            help="Ask a provider never, when nobody else can answer, or for models named so only.",
        ),
        click.option("--provider", default="", metavar="PROVIDER", help="One in the cloud, as openai."),
    ):
        command = option(command)
    return command


def add_provider(
    data_dir: DataDir,
    url: str,
    *,
    provider: str,
    name: str,
    key_file: Path | None,
    use: str,
    models: Sequence[str],
    ca_file: Path | None,
) -> Item:
    """Show the provider the key in ``key_file``; once it took it, keep provider and key. It blocks.

    Raises:
        click.UsageError: The URL or the key is missing.
        InvalidRequestError: A value is wrong.
        FailedPreconditionError: The provider can't be reached, or does not take the key; nothing was kept.
    """
    from cli.backends import look_at_entry, save
    from swarmplane.providers import PROVIDERS
    from swarmplane.sealed_keys import read_key, seal, sealed_file

    known = PROVIDERS.get(provider)
    if not url and not (known is not None and known.url):
        raise click.UsageError(f"where is it? swarmctl backend add URL --provider {provider} --key-file FILE")
    if key_file is None:
        raise click.UsageError("a provider wants a key: --key-file FILE")
    entry = _entry(
        url=url or (known.url if known is not None else ""),
        name=name or (provider if known is not None and known.url else ""),
        provider=provider,
        key_file=key_file.expanduser().absolute(),
        # Whoever is never to be asked is asked this once: the key would turn out wrong when it is needed.
        use="named" if use == "never" else use,
        models=tuple(models),
        ca_file=ca_file.expanduser().absolute() if ca_file is not None else None,
    )
    item = look_at_entry(data_dir, entry)
    if item["state"] != "ok":
        raise FailedPreconditionError(f"{item['name']} was not kept: {item['reason'] or item['state']}")
    found = {"name": str(item["name"]), "url": str(item["url"])}
    file = sealed_file(data_dir, found["name"])
    seal(file, read_key(entry.key_file or file, **found), **found)
    save(data_dir, entry.model_copy(update={**found, "key_file": file, "use": use}))
    return item


def forget_key(data_dir: DataDir, name: str) -> None:
    """Delete the sealed key of the backend called ``name``, if it has one."""
    from swarmplane.sealed_keys import sealed_file

    if name:
        sealed_file(data_dir, name).unlink(missing_ok=True)


def _entry(**fields: Any) -> BackendSettings:  # noqa: ANN401 - of the settings
    from pydantic import ValidationError

    from swarmplane.settings.backend import BackendSettings

    try:
        return BackendSettings(**fields)
    except ValidationError as error:
        words = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise InvalidRequestError(words) from None
