"""Prometheus text exposition format 0.0.4, from plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_UNITS: Final = ("seconds", "bytes", "ratio")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value; ``labels`` in the order they are written."""

    value: float
    labels: Mapping[str, str]
    suffix: str = ""
    """What stands behind the family's name: ``_bucket``, ``_sum`` and ``_count`` of a histogram."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, its one-line help, and its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]

    @property
    def unit(self) -> str:
        """The base unit that the name ends in; empty for plain counts."""
        word = self.name.removesuffix("_total").rpartition("_")[2]
        return word if word in _UNITS else ""


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


def histogram(
    name: str,
    help_text: str,
    bounds: Sequence[float],
    rows: Iterable[tuple[Mapping[str, str], Sequence[int], float]],
) -> Family:
    """A family of histograms.

    Args:
        name: Its unit stands at the end.
        help_text: One line.
        bounds: Upper bounds of the buckets, ascending; one more without bound follows them.
        rows: Labels, observations per bucket (not cumulated, one more than ``bounds``), and their sum.
    """
    edges = [*(_number(bound) for bound in bounds), "+Inf"]
    samples: list[Sample] = []
    for labels, counts, total in rows:
        reached = list(accumulate(counts))
        samples += (
            Sample(count, {**labels, "le": edge}, "_bucket")
            for edge, count in zip(edges, reached, strict=True)
        )
        samples += (Sample(round(total, 9), labels, "_sum"), Sample(reached[-1], labels, "_count"))
    return Family(name, "histogram", help_text, tuple(samples))


def render(families: Iterable[Family]) -> str:
    """The text that Prometheus scrapes. HELP and TYPE stand before each family's samples, empty ones too.

    UNIT is OpenMetrics' line; readers of this format take it for a comment.
    """
    lines: list[str] = []
    for one in families:
        lines.append(f"# HELP {one.name} {_escaped(one.help, quotes=False)}")
        lines.append(f"# TYPE {one.name} {one.kind}")
        if one.unit:
            lines.append(f"# UNIT {one.name} {one.unit}")
        lines.extend(f"{one.name}{s.suffix}{_labels(s.labels)} {_number(s.value)}" for s in one.samples)
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
