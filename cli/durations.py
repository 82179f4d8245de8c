"""Lengths of time as people write them: ``90``, ``30s``, ``5m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART: Final = re.compile(r"(\d+)([smhdw]?)")


class Duration(click.ParamType[int]):
    """An option's value in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Seconds that ``value`` stands for."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is no length of time; write 30s, 5m, 24h or 7d", param, ctx)
        return sum(int(number) * _UNITS_S[unit] for number, unit in parts)
