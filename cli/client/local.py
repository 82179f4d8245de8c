"""Requests to this host's own HTTP listeners. Proxy variables play no part."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import TYPE_CHECKING, Final

from swarmplane.errors import InvalidRequestError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarmplane.settings.schema import Settings

_TIMEOUT_S: Final = 5.0


def get_json(url: str, path: str, *, timeout_s: float = _TIMEOUT_S, key: str = "") -> dict[str, object]:
    """The JSON document at ``path`` of the listener at ``url``, where ``key`` is shown. It blocks.

    Raises:
        UnavailableError: Nobody answers there, or not with a document.
    """
    return _ask("GET", url, path, timeout_s, {"x-api-key": key} if key else {})[1]


def settings_in_force(url: str, *, timeout_s: float = _TIMEOUT_S) -> Settings:
    """What the sidecar whose admin listener is at ``url`` goes by; credentials in it are left out. It blocks.

    Raises:
        UnavailableError: It does not answer, or another version of it does.
    """
    from swarmplane.settings.schema import Settings

    document = get_json(url, "/config", timeout_s=timeout_s)
    try:
        return Settings.model_validate(document.get("settings"))
    except ValueError:
        raise UnavailableError(f"{url}/config shows settings that this version does not know") from None


def post_json(url: str, path: str, *, timeout_s: float = _TIMEOUT_S) -> dict[str, object]:
    """The JSON document that a POST to ``path`` of the listener at ``url`` answers. It blocks.

    Raises:
        UnavailableError: Nobody answers there, or not with a document.
        InvalidRequestError: It refuses; in its own words.
    """
    status, document = _ask("POST", url, path, timeout_s, {})
    if status >= http.HTTPStatus.BAD_REQUEST:
        error = document.get("error")
        raise InvalidRequestError(str(error["message"]) if isinstance(error, dict) else str(document))
    return document


def _ask(
    method: str, url: str, path: str, timeout_s: float, headers: Mapping[str, str]
) -> tuple[int, dict[str, object]]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"{url}{path} does not answer: {error}") from None
    finally:
        connection.close()
    if not isinstance(document, dict):
        raise UnavailableError(f"{url}{path} does not answer with a document")
    return answer.status, document
