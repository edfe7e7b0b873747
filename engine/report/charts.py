"""Charts as inline SVG: their colours come from the page's style, their words can be read out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 10, 40

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A range of values with its ticks (value, label); `title` says what is measured."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def shares(cls, title: str, high: float = 1.0) -> "Axis":
        """From 0 to at most 1, in per cent."""
        step = next((s for s in (0.02, 0.05, 0.1, 0.2) if high / s <= 6), 0.2)
        count = int(np.ceil(round(high / step, 6)))
        ticks = tuple((i * step, f"{100 * i * step:.0f}%") for i in range(count + 1))
        return cls(title, 0.0, max(count * step, step), ticks)

    @classmethod
    def whole(cls, title: str, low: int, high: int) -> "Axis":
        """Whole numbers, each with a tick, or about five of them at round ones."""
        step = 1
        if high - low > 12:
            decade = 10 ** int(np.log10((high - low) / 5))
            step = next(f * decade for f in (1, 2, 5, 10) if f * decade * 6 > high - low)
        ticks = tuple((float(v), f"{v:,}") for v in range(low, high + 1, step))
        return cls(title, float(low), float(max(high, low + 1)), ticks)

    @classmethod
    def counts(cls, title: str, high: int) -> "Axis":
        """From 0 on, evenly in log(1 + count); see `log_count`."""
        powers = [0, *(10**power for power in range(len(str(max(high, 1)))))]
        ticks = tuple((log_count(value), f"{value:,}") for value in powers)
        return cls(title, 0.0, max(log_count(high), log_count(1)) * 1.04, ticks)

    def share(self, value: float) -> float:
        """Where a value lies between low and high."""
        return (value - self.low) / (self.high - self.low)


def log_count(count: float) -> float:
    """Where a count stands on `Axis.counts`."""
    return float(np.log1p(count))


@dataclass(frozen=True)
class Series:
    """Points of one colour, joined by a line or dots alone.

    Attributes:
        hue: number of the colour, from 0.
        labels: what a dot says of itself, one for each point.
        radii: of the dots.
        joined: by a line.
        faint: many dots, which may cover each other.
    """

    name: str
    hue: int
    points: Sequence[Point]
    labels: Sequence[str] = ()
    radii: Sequence[float] = ()
    joined: bool = True
    faint: bool = False


def chart(
    name: str, title: str, description: str, x: Axis, y: Axis, series: Iterable[Series],
    diagonal: bool = False,
) -> Markup:  # fmt: skip
    """Draw series over two axes.

    Args:
        name: of the chart in the page, for its parts' ids.
        title, description: read out in place of the picture.
        diagonal: draw the line on which both are equal.
    """
    parts = [_axes(x, y)]
    if diagonal:
        start, end = _place(x, y, (x.low, y.low)), _place(x, y, (x.high, y.high))
        parts.append(_segment(start, end, "diagonal"))
    parts += [_series(x, y, one) for one in series]
    return _svg(name, title, description, WIDTH, HEIGHT, parts)


def _svg(
    name: str, title: str, description: str, width: float, height: float, parts: Iterable[str]
) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-text">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>{}</svg>'
    ).format(
        f"{width:g}", f"{height:g}", name, name, name, title, name, description,
        Markup("".join(parts)),
    )  # fmt: skip


def _place(x: Axis, y: Axis, point: Point) -> Point:
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + across * x.share(point[0]), TOP + up * (1 - y.share(point[1]))


def _segment(start: Point, end: Point, kind: str) -> str:
    return (
        f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" '
        f'x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
    )


def _text(at: Point, text: str, kind: str, turned: int = 0) -> str:
    turn = f' transform="rotate({turned} {at[0]:.1f} {at[1]:.1f})"' if turned else ""
    return f'<text class="{kind}" x="{at[0]:.1f}" y="{at[1]:.1f}"{turn}>{escape(text)}</text>'


def _axes(x: Axis, y: Axis) -> str:
    floor, side = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, label in y.ticks:
        _, at = _place(x, y, (x.low, value))
        parts.append(_segment((LEFT, at), (side, at), "guide"))
        parts.append(_text((LEFT - 6, at + 4), label, "tick end"))
    for value, label in x.ticks:
        at, _ = _place(x, y, (value, y.low))
        parts.append(_segment((at, floor), (at, floor + 4), "axis"))
        parts.append(_text((at, floor + 17), label, "tick middle"))
    parts.append(_segment((LEFT, floor), (side, floor), "axis"))
    parts.append(_text(((LEFT + side) / 2, HEIGHT - 4), x.title, "name middle"))
    parts.append(_text((11, (TOP + floor) / 2), y.title, "name middle", -90))
    return "".join(parts)


def _series(x: Axis, y: Axis, one: Series) -> str:
    places = [_place(x, y, point) for point in one.points]
    parts = []
    if one.joined and len(places) > 1:
        way = " ".join(f"{at[0]:.1f},{at[1]:.1f}" for at in places)
        parts.append(f'<polyline class="joined" points="{way}"/>')
    for number, (across, down) in enumerate(places):
        radius = one.radii[number] if one.radii else 3.0
        if radius <= 0:
            continue
        told = f"<title>{escape(one.labels[number])}</title>" if one.labels else ""
        parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{radius:.1f}">{told}</circle>')
    faint = " faint" if one.faint else ""
    return f'<g class="series hue-{one.hue}{faint}">{"".join(parts)}</g>'


CELL, NAMES = 24, 92


def matrix(
    name: str, title: str, description: str, rows: Sequence[str], columns: Sequence[str],
    counts: Sequence[Sequence[int]],
) -> Markup:  # fmt: skip
    """Counts of rows by columns, the darker the more; those above zero are written in."""
    most = max((max(row, default=0) for row in counts), default=0)
    width, height = NAMES + CELL * len(columns) + NAMES / 2, NAMES + CELL * len(rows) + 6
    parts = []
    for place, column in enumerate(columns):
        at = NAMES + CELL * (place + 0.5) + 4
        parts.append(_text((at, NAMES - 6), _short(column), "tick start", -60))
    for down, (row, line) in enumerate(zip(rows, counts, strict=True)):
        top = NAMES + CELL * down
        parts.append(_text((NAMES - 6, top + CELL / 2 + 4), _short(row), "tick end"))
        for across, count in enumerate(line):
            left = NAMES + CELL * across
            # Never so dark that the count in it could not be read.
            shade = count / most / 2 if most else 0.0
            told = f"{row} missed, {columns[across]} given: {count:,}"
            parts.append(
                f'<g class="cell"><title>{escape(told)}</title>'
                f'<rect x="{left + 1}" y="{top + 1}" width="{CELL - 2}" height="{CELL - 2}" '
                f'rx="3" fill-opacity="{shade:.2f}"/>'
                + (_text((left + CELL / 2, top + CELL / 2 + 4), str(count), "tick middle"))
                * (count > 0)
                + "</g>"
            )
    return _svg(name, title, description, width, height, parts)


def _short(word: str) -> str:
    return word if len(word) <= 14 else f"{word[:13]}…"
