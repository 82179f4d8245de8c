"""Where a backend is, as the data plane needs to know to call it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from swarmplane.addresses import Address
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import BackendName
from swarmplane.providers import PROVIDERS
from swarmplane.settings.backend import BackendSettings

_PORTS: Final = {"http": 80, "https": 443}
CLOUD_EVERY_S: Final = 300.0
"""Between two looks at a provider that is well: its list changes seldom, and requests show how it is."""
OPENAI_ONLY: Final = frozenset({"openai"})
_UNSAFE: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Target:
    """One backend. ``host`` is as written; the connection pool resolves it."""

    name: BackendName
    kind: str
    host: str
    """A name or an IP, without brackets."""
    port: int
    tls: bool = False
    base_path: str = ""
    """Stands before ``/v1``: empty, or begins with a slash and ends without one."""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    """Sent with every request: credentials, so never shown."""
    slots: int = 0
    defaults: tuple[tuple[bytes, bytes], ...] = ()
    """Sent with requests that say nothing of the name."""
    ca_file: Path | None = None
    """Authorities trusted besides the machine's own."""
    dialects: frozenset[str] = OPENAI_ONLY
    """Which it speaks itself: of ``openai``, ``ollama`` and ``anthropic``."""

    @property
    def url(self) -> str:
        """What requests' paths are appended to."""
        return f"{'https' if self.tls else 'http'}://{Address(self.host, self.port)}{self.base_path}"


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend as an operator names it."""

    name: BackendName
    host: str
    port: int
    tls: bool = False
    base_path: str = ""
    key_file: Path | None = None
    slots: int = 0
    """Requests served at a time; 0: as the backend tells."""
    found: str = ""
    """How it was found without being named, for people; forgotten when it is gone. Empty: it was named."""
    owner: str = ""
    """The user whose program it is, where that is not to be used without being named: it is shown alone."""
    every_s: float = 0.0
    """Between two looks at it while it is well; 0: as usual."""
    provider: str = ""
    """Of models in the cloud; empty: it is a server of one's own."""
    use: str = ""
    """When the provider may be asked, see :mod:`swarmplane.providers`."""
    models: tuple[str, ...] = ()
    """Names, or patterns, of those of the provider's models that are offered; empty: all."""
    ca_file: Path | None = None

    @property
    def place(self) -> tuple[str, int]:
        """Where it listens: one place for all spellings of this machine's loopback."""
        return place_of(self.host, self.port)

    @property
    def url(self) -> str:
        """As people write it."""
        return f"{'https' if self.tls else 'http'}://{Address(self.host, self.port)}{self.base_path}"

    @classmethod
    def from_settings(cls, settings: BackendSettings) -> BackendSpec:
        """Read one ``[[backends]]`` table.

        Raises:
            InvalidRequestError: Its URL is none that can be called, or would take a provider's key in clear;
                or its name can't be used.
        """
        provider = PROVIDERS.get(settings.provider)
        found = cls.from_url(
            settings.url,
            name=settings.name or (settings.provider if provider is not None and provider.url else ""),
            key_file=settings.key_file,
            slots=settings.slots,
        )
        found = replace(found, ca_file=settings.ca_file)
        if provider is None:
            return found
        if ":" in found.name:
            raise InvalidRequestError(
                f"{found.name!r} can't name a provider: its models are called NAME:MODEL"
            )
        if not found.tls and not Address(found.host, found.port).loopback:
            raise InvalidRequestError(
                f"{found.url} would take the key in clear: a provider is asked over https"
            )
        return replace(
            found, provider=provider.name, use=settings.use, models=settings.models, every_s=CLOUD_EVERY_S
        )

    @classmethod
    def from_url(
        cls, url: str, *, name: str = "", key_file: Path | None = None, slots: int = 0
    ) -> BackendSpec:
        """Read ``http://host:port[/base]``, with or without ``/v1`` at its end.

        Raises:
            InvalidRequestError: It is no such URL, carries credentials, or ``name`` can't be used.
        """
        parts, port = _split(url)
        host = parts.hostname or ""
        if name and (len(name) > 64 or "/" in name or not name.isprintable() or not name.isascii()):  # noqa: PLR2004
            raise InvalidRequestError(f"{name!r} can't name a backend: at most 64 ASCII characters, no slash")
        return cls(
            name=BackendName(name or _derived_name(host, port)),
            host=host,
            port=port,
            tls=parts.scheme == "https",
            base_path=parts.path.rstrip("/").removesuffix("/v1").rstrip("/"),
            key_file=key_file,
            slots=slots,
        )


def place_of(host: str, port: int) -> tuple[str, int]:
    """``host`` and ``port``, the same for all spellings of this machine's loopback."""
    address = Address(host.lower(), port)
    return ("", port) if address.loopback or address.unspecified else (address.host, port)


def _split(url: str) -> tuple[SplitResult, int]:
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise InvalidRequestError(f"{url!r} is no URL: {error}") from error
    if parts.username is not None:
        raise InvalidRequestError("a backend's URL must not carry credentials; put its key into a key file")
    if parts.scheme not in _PORTS or not port or not parts.hostname or parts.query or parts.fragment:
        raise InvalidRequestError(f"{url!r} is no backend; write http://HOST:PORT, as http://127.0.0.1:8080")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise InvalidRequestError(f"{url!r} is no URL: it has characters that need escaping")
    return parts, port


def _derived_name(host: str, port: int) -> str:
    """A name that tells people where it is without being an address: clients see it."""
    if Address(host, port).loopback:
        return f"local-{port}"
    return f"{_UNSAFE.sub('-', host.lower()).strip('-')}-{port}"
