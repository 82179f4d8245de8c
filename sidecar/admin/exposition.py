"""Prometheus text exposition format 0.0.4, from plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value; ``labels`` in the order they are written."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, its one-line help, and its samples."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[Sample, ...]


def family(
    name: str,
    kind: Literal["counter", "gauge"],
    help_text: str,
    samples: float | Iterable[tuple[Mapping[str, str], float]],
) -> Family:
    """A family of one sample without labels, or of labelled ones."""
    if isinstance(samples, int | float):
        return Family(name, kind, help_text, (Sample(samples, {}),))
    return Family(name, kind, help_text, tuple(Sample(value, labels) for labels, value in samples))


def render(families: Iterable[Family]) -> str:
    """The text that Prometheus scrapes. HELP and TYPE stand before each family's samples, empty ones too."""
    lines: list[str] = []
    for one in families:
        lines.append(f"# HELP {one.name} {_escaped(one.help, quotes=False)}")
        lines.append(f"# TYPE {one.name} {one.kind}")
        lines.extend(f"{one.name}{_labels(s.labels)} {_number(s.value)}" for s in one.samples)
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
