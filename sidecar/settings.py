"""What the sidecar process itself takes from the settings, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from swarmplane.addresses import Address, parse_address
from swarmplane.ports import METRICS_PORT, PEER_PORT
from swarmplane.settings.schema import Settings

_SECRET_WORDS = ("secret", "password", "token", "api_key")
_REDACTED = "***"


@dataclass(frozen=True, slots=True)
class ListenPolicy:
    """Where the process listens, but for the peer listener's host, which depends on the control plane."""

    client: tuple[Address, ...]
    admin: Address
    peer: Address | None
    """None: the address that reaches the control plane, at :data:`PEER_PORT`."""
    metrics: Address | None = None
    """None: metrics have no listener of their own."""

    @classmethod
    def of(cls, settings: Settings) -> ListenPolicy:
        """The listeners that ``settings`` describe.

        Raises:
            InvalidRequestError: An address cannot be read.
        """
        peer = settings.peer.listen
        metrics = settings.telemetry.metrics_listen
        return cls(
            tuple(parse_address(text) for text in settings.client_listeners()),
            parse_address(settings.admin.listen),
            parse_address(peer, default_port=PEER_PORT) if peer else None,
            parse_address(metrics, default_port=METRICS_PORT) if metrics else None,
        )


def redacted(settings: Settings) -> Mapping[str, Any]:
    """All settings as JSON values, without secrets and without credentials inside URLs.

    Paths of secrets' files stay: they say where to look, not what is in there.
    """
    cleaned = _cleaned("", settings.model_dump(mode="json"))
    if not isinstance(cleaned, dict):
        raise TypeError("settings are a table")
    return cleaned


def _cleaned(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: _cleaned(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(name, inner) for inner in value]
    if isinstance(value, str) and value:
        secret = any(word in name for word in _SECRET_WORDS) and not name.endswith(("_file", "_dir"))
        return _REDACTED if secret else _without_userinfo(value)
    return value


def _without_userinfo(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    return urlunsplit(parts._replace(netloc=f"{_REDACTED}@{parts.netloc.rpartition('@')[2]}"))
