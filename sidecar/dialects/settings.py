"""Values that every dialect writes in its own place but means alike: how often, how long, how random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from sidecar.dialects.failures import refused

_T = TypeVar("_T")

OPENAI: Final = "openai"
OLLAMA: Final = "ollama"
ANTHROPIC: Final = "anthropic"
COUNTS: Final = "count_tokens"
"""Not every backend that speaks Anthropic's dialect counts LLM tokens in it."""
RESPONSES: Final = "responses"
"""OpenAI's newer surface, a dialect of its own: `/v1/responses`."""


def _number(raw: msgspec.Raw, name: str) -> float:
    return decoded(raw, _NUMBER, name)


def _integer(raw: msgspec.Raw, name: str) -> int:
    value = decoded(raw, _NUMBER, name)
    if not value.is_integer():
        raise refused(name, "must be an integer")
    return int(value)  # JavaScript writes 1.0 now and then


def _flag(raw: msgspec.Raw, name: str) -> bool:
    return decoded(raw, FLAG, name)


def _texts(raw: msgspec.Raw, name: str) -> list[str]:
    value = decoded(raw, _TEXTS, name)
    return [value] if isinstance(value, str) else value


_NUMBER: Final = msgspec.json.Decoder(float)
FLAG: Final = msgspec.json.Decoder(bool)
TEXT: Final = msgspec.json.Decoder(str)
_TEXTS: Final = msgspec.json.Decoder(str | list[str])


ABSENT: Final = msgspec.Raw()
"""The default of members that are kept undecoded: msgspec has no "Raw or null"."""


def given(raw: msgspec.Raw) -> msgspec.Raw | None:
    """A member that was kept undecoded; None where it was left out or is ``null``."""
    return None if len(raw) in {0, 4} and bytes(raw) in {b"", b"null"} else raw


def one_line(raw: msgspec.Raw | bytes) -> msgspec.Raw:
    """JSON, known to be valid, without line ends: fit for a line of a stream."""
    return msgspec.Raw(msgspec.json.format(bytes(raw), indent=-1))


def starts_text(raw: msgspec.Raw) -> bool:
    """Whether a member that was kept undecoded is a string."""
    return bytes(memoryview(raw)[:1]) == b'"'


def decoded(raw: msgspec.Raw | bytes | bytearray, decoder: msgspec.json.Decoder[_T], name: str) -> _T:
    """The value of the member ``name``.

    Raises:
        InvalidRequestError: It has the wrong type; the path within it is named.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise refused(name + where.rstrip("`"), what) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refused(name, "is not valid JSON") from error
    except RecursionError as error:
        raise refused(name, "is nested too deeply") from error


@dataclass(frozen=True, slots=True)
class Setting:
    """One such value, and its spellings. The first spelling is written; all are read, later ones win."""

    name: str
    read: Callable[[msgspec.Raw, str], object]
    openai: tuple[str, ...] = ()
    ollama: tuple[str, ...] = ()
    """A dot leads into ``options``."""
    anthropic: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()
    all_written: bool = False
    """Whether every spelling is written: servers that know one ignore the other."""

    def spellings(self, dialect: str) -> tuple[str, ...]:
        """How ``dialect`` writes it; empty where it can't."""
        found: tuple[str, ...] = getattr(self, dialect)
        return found


SETTINGS: Final = (
    Setting(
        "max_tokens",
        _integer,
        ("max_tokens", "max_completion_tokens"),
        ("options.num_predict",),
        ("max_tokens",),
        ("max_output_tokens",),
    ),
    Setting(
        "temperature",
        _number,
        ("temperature",),
        ("options.temperature",),
        ("temperature",),
        ("temperature",),
    ),
    Setting("top_p", _number, ("top_p",), ("options.top_p",), ("top_p",), ("top_p",)),
    Setting("top_k", _integer, ("top_k",), ("options.top_k",), ("top_k",)),
    Setting("min_p", _number, ("min_p",), ("options.min_p",)),
    Setting("typical_p", _number, ("typical_p",), ("options.typical_p",)),
    Setting("seed", _integer, ("seed",), ("options.seed",)),
    Setting("stop", _texts, ("stop",), ("options.stop",), ("stop_sequences",)),
    Setting("presence_penalty", _number, ("presence_penalty",), ("options.presence_penalty",)),
    Setting("frequency_penalty", _number, ("frequency_penalty",), ("options.frequency_penalty",)),
    Setting(
        "repeat_penalty",
        _number,
        ("repeat_penalty", "repetition_penalty"),
        ("options.repeat_penalty",),
        all_written=True,
    ),
    Setting("repeat_last_n", _integer, ("repeat_last_n",), ("options.repeat_last_n",)),
    Setting("mirostat", _integer, ("mirostat",), ("options.mirostat",)),
    Setting("mirostat_tau", _number, ("mirostat_tau",), ("options.mirostat_tau",)),
    Setting("mirostat_eta", _number, ("mirostat_eta",), ("options.mirostat_eta",)),
    Setting("logprobs", _flag, ("logprobs",), ("logprobs",)),
    Setting("top_logprobs", _integer, ("top_logprobs",), ("top_logprobs",)),
)

BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}


def spelled(dialect: str) -> dict[str, Setting]:
    """What ``dialect`` can say, by its own spelling."""
    return {spelling: setting for setting in SETTINGS for spelling in setting.spellings(dialect)}


def write(
    settings: Mapping[str, object], dialect: str, called: Callable[[str], str]
) -> tuple[dict[str, object], dict[str, object]]:
    """``settings`` as ``dialect`` writes them: top-level members, and members of ``options``.

    Raises:
        InvalidRequestError: The dialect has no word for one of them.
    """
    top: dict[str, object] = {}
    options: dict[str, object] = {}
    for name, value in settings.items():
        setting = BY_NAME[name]
        spellings = setting.spellings(dialect)
        if not spellings:
            raise refused(called(name), "this model's backend has no such setting")
        for spelling in spellings if setting.all_written else spellings[:1]:
            where, _, key = spelling.rpartition(".")
            (options if where else top)[key] = value
    return top, options
