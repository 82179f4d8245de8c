"""The members of a client's body: which are known, where they go, and what becomes of the others.

A surface is declared as data. Its reader gets the members that need reading; what has no place at the backend
is refused by name, unless leaving it out changes nothing about the answer. docs/reference/dialects.md is
written from the same declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from sidecar.dialects.failures import refused
from sidecar.dialects.settings import OLLAMA, SETTINGS, Setting, decoded
from swarmplane.errors import InvalidRequestError

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LONGEST_INERT: Final = 64
"""Longer values, which may be megabytes, ask for something."""
_INERT: Final = frozenset({b"null", b"[]", b"{}", b'""', b"false"})


@dataclass(frozen=True, slots=True)
class Coded:
    """A member that the reader reads. Words say where it goes at each backend; empty: no such way."""

    openai: str = ""
    ollama: str = ""
    name: str = ""
    """Neutral name, where a writer may have to refuse it."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A member that is left out, because the answer is the same without it."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A member that the backend can't honour. Values in ``inert`` (JSON) ask for nothing and pass."""

    why: str
    inert: frozenset[bytes] = frozenset()


Fate = Setting | Coded | Ignored | Refused


@dataclass(frozen=True, slots=True)
class Surface:
    """Everything a body sent to one path may hold."""

    dialect: str
    fields: Mapping[str, Fate]
    backends: tuple[str, ...]
    """Dialects of backends it is put into."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Neutral name → the client's, for what stands deeper than the top level."""

    @property
    def names(self) -> dict[str, str]:
        """Neutral name → the client's own."""
        found = dict(self.renamed)
        for name, fate in self.fields.items():
            if isinstance(fate, Setting | Coded) and fate.name:
                found.setdefault(fate.name, name)
        return found


def setting_fields(dialect: str, *names: str) -> dict[str, Fate]:
    """The settings called ``names``, or all that ``dialect`` can say at the top level of a body."""
    return {
        spelling: setting
        for setting in SETTINGS
        if not names or setting.name in names
        for spelling in setting.spellings(dialect)
        if "." not in spelling
    }


def option_fields() -> dict[str, Fate]:
    """The settings that Ollama has in ``options``."""
    return {
        spelling.partition(".")[2]: setting
        for setting in SETTINGS
        for spelling in setting.spellings(OLLAMA)
        if "." in spelling
    }


def members_of(body: bytes | bytearray | msgspec.Raw, name: str = "") -> dict[str, msgspec.Raw]:
    """The members of a JSON object, undecoded.

    Raises:
        InvalidRequestError: It is none.
    """
    if name:
        found: dict[str, msgspec.Raw] = decoded(body, _MEMBERS, name)
        return found
    try:
        return _MEMBERS.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequestError("the body must be a JSON object") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError("the body is not valid JSON") from error
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply") from error


def sort_out(
    members: Mapping[str, msgspec.Raw], fields: Mapping[str, Fate], within: str = ""
) -> tuple[dict[str, msgspec.Raw], dict[str, object]]:
    """Members that the reader reads, and settings by their neutral names. ``null`` counts as left out.

    Raises:
        InvalidRequestError: A member has the wrong type, can't be honoured, or is not known.
    """
    coded: dict[str, msgspec.Raw] = {}
    settings: dict[str, object] = {}
    for key, raw in members.items():
        value = bytes(raw) if len(raw) <= _LONGEST_INERT else b"."
        if value == b"null":
            continue
        name = f"{within}.{key}" if within else key
        match fields.get(key):
            case Setting() as setting:
                settings[setting.name] = setting.read(raw, name)
            case Coded():
                coded[key] = raw
            case Ignored():
                pass
            case Refused(why, inert):
                if value not in _INERT and value not in inert:
                    raise refused(name, why)
            case _:
                if value not in _INERT:
                    raise refused(
                        name[:256], "is not known here and can't be passed on to this model's backend"
                    )
    return coded, settings
