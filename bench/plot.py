"""Small line plots as SVG, the same bytes for the same figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 40, 48
COLOURS = ("#3f51b5", "#e65100", "#00897b", "#8e24aa")
INK = "#808080"
"""Legible on light and dark pages."""
TICKS = 5


def lines(
    path: Path, title: str, axes: tuple[str, str], series: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    """Write a plot of ``series`` to ``path``; both axes begin at 0.

    Args:
        path: Where the file goes.
        title: Above the plot, and for those who don't see it.
        axes: Words for x and y.
        series: Points by the name of their line, x ascending.
    """
    points = [point for line in series.values() for point in line]
    most_x, most_y = (_round_up(max(point[axis] for point in points)) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / most_x,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / most_y,
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        ' font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        _text(LEFT, 20, title, size=14),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axes[0], anchor="middle"),
        _text(LEFT - 8, TOP - 8, axes[1], anchor="end"),
    ]
    for tick in range(TICKS + 1):
        x, y = most_x * tick / TICKS, most_y * tick / TICKS
        across, up = place(x, 0), place(0, y)
        parts.append(_text(across[0], HEIGHT - BOTTOM + 18, f"{x:g}", anchor="middle"))
        parts.append(_text(LEFT - 8, up[1] + 4, f"{y:g}", anchor="end"))
        parts.append(
            f'<path d="M{LEFT} {up[1]:.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-opacity=".3" fill="none"/>'
        )
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        where = [place(x, y) for x, y in line]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in where]
        parts.append(_text(LEFT + 12, TOP + 14 + 16 * number, name, colour=colour))
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
        f"{escape(words)}</text>"
    )


def _round_up(most: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= most)
