"""A pen in a thing's own measure: units of its height, the ground at 0, y upward, facing right."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.sample.canvas import Canvas, Colour, Points, shade, smooth

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pen:
    """Draws on `canvas` with the foot of the thing at (x, y) px and `size` px to its unit."""

    canvas: Canvas
    x: float
    y: float
    size: float
    facing: float = 1.0

    @property
    def rng(self) -> np.random.Generator:
        """The picture's generator."""
        return self.canvas.rng

    def pick(self, options: tuple[Item, ...]) -> Item:
        """One of the options, all alike in chance."""
        return options[int(self.rng.integers(len(options)))]

    def some(self, low: float, high: float) -> float:
        """A number between the two."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """True in that share of the cases."""
        return bool(self.rng.random() < share)

    def vary(self, colour: Colour, spread: float = 14.0) -> Colour:
        """The colour moved a little at random."""
        shift = self.rng.uniform(-spread, spread, 4)
        moved = [
            min(255.0, max(0.0, c + shift[3] + 0.5 * s))
            for c, s in zip(colour, shift[:3], strict=True)
        ]
        return (moved[0], moved[1], moved[2])

    def at(self, points: Points) -> npt.NDArray[np.float64]:
        """Own units to canvas pixels, (N, 2) to (N, 2)."""
        given = np.asarray(points, dtype=np.float64)
        step = np.array([self.size * self.facing, -self.size])
        return np.asarray(given * step + (self.x, self.y), np.float64)

    def poly(self, points: Points, colour: Colour) -> None:
        """A filled polygon with corners."""
        self.canvas.polygon(self.at(points), colour)

    def blob(self, points: Points, colour: Colour) -> None:
        """A filled shape whose outline runs smoothly through the points."""
        self.canvas.polygon(smooth(self.at(points)), colour)

    def rect(self, left: float, low: float, right: float, high: float, colour: Colour) -> None:
        """An upright rectangle."""
        self.poly([(left, low), (right, low), (right, high), (left, high)], colour)

    def oval(
        self, u: float, v: float, ru: float, rv: float, colour: Colour, turn: float = 0.0
    ) -> None:
        """An ellipse; `turn` in degrees lifts its right end."""
        where = self.at([(u, v)])[0]
        self.canvas.ellipse(
            float(where[0]),
            float(where[1]),
            ru * self.size,
            rv * self.size,
            colour,
            -turn * self.facing,
        )

    def line(self, points: Points, width: float, colour: Colour) -> None:
        """A line of even width through the points."""
        self.canvas.line(self.at(points), width * self.size, colour)

    def mark(self, points: Points, width: float, colour: Colour) -> None:
        """A curve on the surface of things that belongs to whatever lies beneath."""
        self.canvas.line(smooth(self.at(points), False), width * self.size, colour, own=False)

    def limb(self, points: Points, start: float, end: float, colour: Colour) -> None:
        """A tapering limb along a smooth line: `start` and `end` are its widths."""
        spine = smooth(self.at(points), closed=False, steps=5)
        along = np.gradient(spine, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
        half = np.linspace(start, end, len(spine))[:, None] * self.size / 2
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) * half
        self.canvas.polygon(np.concatenate([spine + across, (spine - across)[::-1]]), colour)
        tip = spine[-1]
        self.canvas.ellipse(
            float(tip[0]), float(tip[1]), float(half[-1, 0]), float(half[-1, 0]), colour
        )

    def glow(self, on: bool) -> None:
        """Let the parts drawn next shine by themselves, or stop that."""
        self.canvas.glow(on)

    def pane(self, left: float, low: float, right: float, high: float, lit: float = 0.55) -> None:
        """A window pane: glass by day, and lit from inside at night in that share of cases."""
        if self.canvas.dark and self.chance(lit):
            self.glow(True)
            self.rect(left, low, right, high, self.vary((255.0, 214.0, 120.0), 22.0))
            self.glow(False)
            return
        glass = self.vary((104.0, 136.0, 160.0), 16.0)
        self.rect(left, low, right, high, glass)
        if (right - left) * self.size > 3:
            middle = (left + right) / 2
            self.poly([(left, high), (middle, high), (left, (low + high) / 2)], shade(glass, 0.35))
