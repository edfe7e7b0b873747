"""The stage of one picture: its camera, its mood, and how things are set on it in depth."""

from dataclasses import dataclass

import numpy as np

from engine.sample.canvas import Canvas, Colour
from engine.sample.catalogue import THINGS
from engine.sample.pen import Pen


@dataclass(frozen=True)
class Mood:
    """Time and weather: sky colours from the zenith to the horizon, and the light they give."""

    name: str
    zenith: Colour
    middle: Colour
    low: Colour
    tint: Colour
    dark: bool = False


MOODS: dict[str, tuple[Mood, ...]] = {
    "day": (
        Mood("day", (62, 130, 214), (126, 184, 238), (208, 230, 244), (255, 255, 255)),
        Mood("day", (84, 158, 222), (150, 204, 236), (226, 236, 232), (255, 250, 238)),
        Mood("day", (96, 172, 206), (170, 216, 220), (244, 238, 214), (255, 246, 226)),
    ),
    "sunset": (
        Mood("sunset", (84, 84, 150), (236, 134, 96), (254, 204, 120), (255, 214, 180)),
        Mood("sunset", (64, 60, 124), (214, 96, 120), (252, 168, 104), (248, 200, 190)),
        Mood("sunset", (120, 128, 184), (250, 176, 110), (255, 226, 150), (255, 226, 190)),
    ),
    "night": (
        Mood("night", (12, 16, 44), (24, 34, 76), (52, 64, 112), (116, 130, 188), True),
        Mood("night", (10, 18, 36), (22, 44, 70), (48, 84, 104), (112, 140, 176), True),
    ),
    "grey": (
        Mood("grey", (142, 154, 168), (176, 186, 196), (206, 212, 214), (224, 230, 238)),
        Mood("grey", (160, 164, 170), (190, 194, 196), (216, 216, 212), (232, 232, 232)),
    ),
    "evening": (
        Mood("evening", (12, 16, 44), (24, 34, 76), (52, 64, 112), (232, 184, 138), True),
        Mood("evening", (12, 16, 44), (24, 34, 76), (52, 64, 112), (196, 160, 140), True),
    ),
    "fog": (Mood("fog", (190, 198, 204), (204, 210, 214), (218, 222, 222), (236, 240, 244)),),
}


@dataclass(frozen=True)
class _Part:
    name: str
    x: float
    y: float
    size: float
    facing: float


class Stage:
    """A canvas seen through a camera `camera` metres above flat ground that ends at `horizon`.

    Things `cast` are kept until `perform` draws them, those farther off first.
    """

    def __init__(self, canvas: Canvas, mood: Mood, horizon: float, camera: float) -> None:
        self.canvas, self.mood, self.camera = canvas, mood, camera
        self.horizon = horizon * canvas.height
        self.wide, self.high = float(canvas.width), float(canvas.height)
        self.rng = canvas.rng
        self.pen = Pen(canvas, 0.0, 0.0, 1.0)
        self._parts: list[_Part] = []
        canvas.dark = mood.dark
        canvas.haze = mood.low
        side = self.pen.pick((-1.0, 1.0))
        canvas.light = (side * float(self.rng.uniform(0.3, 0.75)), -0.8)

    def chance(self, share: float) -> bool:
        """True in that share of the cases."""
        return bool(self.rng.random() < share)

    def some(self, low: float, high: float) -> float:
        """A number between the two."""
        return float(self.rng.uniform(low, high))

    def scale(self, y: float) -> float:
        """Pixels to the metre on the ground at the height y px of the picture."""
        return max(0.4, (y - self.horizon) / self.camera)

    def ground(self, depth: float) -> float:
        """The y px of the ground at a depth from 0 (the horizon) to 1 (the lower edge)."""
        return self.horizon + (self.high - self.horizon) * depth

    def put(self, name: str, x: float, y: float, size: float, facing: float | None = None) -> None:
        """Draw a thing now, its foot at (x, y) px, `size` px high."""
        thing = THINGS[name]
        canvas = self.canvas
        turned = self.pen.pick((-1.0, 1.0)) if facing is None else facing
        if thing.shadow > 0 and not canvas.dark:
            reach = thing.reach * size * 0.85
            lean = -canvas.light[0] * reach * 0.5
            canvas.shadow(x + lean, y, reach * 1.05, max(1.0, size * 0.055), thing.shadow)
        canvas.begin(thing.tag)
        thing.draw(Pen(canvas, x, y, size, turned))
        canvas.end(thing.relief, thing.texture, thing.amount)

    def cast(
        self,
        name: str,
        chance: float = 1.0,
        count: tuple[int, int] = (1, 1),
        depth: tuple[float, float] = (0.15, 0.9),
        across: tuple[float, float] = (0.06, 0.94),
        grow: float = 1.0,
    ) -> None:
        """Maybe give a thing parts to play: how many, at what depths, between which sides."""
        if not self.chance(chance):
            return
        thing = THINGS[name]
        for _ in range(int(self.rng.integers(count[0], count[1] + 1))):
            y = self.ground(self.some(*depth))
            size = thing.metres * grow * self.scale(y) * self.some(0.85, 1.15)
            size = min(size, self.high * 0.86)
            x = self._free_place(across, y, thing.reach * size)
            self._parts.append(_Part(name, x, y, size, self.pen.pick((-1.0, 1.0))))

    def _free_place(self, across: tuple[float, float], y: float, reach: float) -> float:
        """Of a few places the one least crowded by things at about the same depth."""
        best, best_room = 0.0, -np.inf
        for _ in range(4):
            x = self.some(*across) * self.wide
            room = self.some(0.0, 8.0)
            for part in self._parts:
                near = abs(part.y - y) < 0.2 * self.high
                gap = abs(part.x - x) - reach - THINGS[part.name].reach * part.size
                if near and gap < 0:
                    room += gap
            if room > best_room:
                best, best_room = x, room
        return best

    def fly(
        self,
        name: str,
        chance: float,
        count: tuple[int, int] = (1, 1),
        size: tuple[float, float] = (0.08, 0.2),
        height: tuple[float, float] = (0.1, 0.8),
    ) -> None:
        """Maybe draw things in the air now: their size and place as shares of the picture's
        height and of the sky's."""
        if not self.chance(chance):
            return
        for _ in range(int(self.rng.integers(count[0], count[1] + 1))):
            tall = self.high * self.some(*size)
            y = max(tall, self.horizon * self.some(*height) + tall / 2)
            self.put(name, self.wide * self.some(0.12, 0.88), y, tall)

    def hero(self, names: tuple[str, ...], low: float = 0.4, high: float = 0.7) -> None:
        """One thing large and not far from the middle."""
        name = self.pen.pick(names)
        thing = THINGS[name]
        size = min(self.some(low, high) * self.high, self.wide * 0.46 / thing.reach)
        margin = thing.reach * size
        x = min(max(self.wide * self.some(0.3, 0.7), margin), self.wide - margin)
        y = self.high * self.some(0.84, 0.95)
        self._parts.append(_Part(name, x, y, size, self.pen.pick((-1.0, 1.0))))

    def perform(self) -> None:
        """Draw what was cast, from far to near, the far paler."""
        strength = 0.85 if self.mood.name == "fog" else 0.3
        for part in sorted(self._parts, key=lambda one: one.y):
            near = (part.y - self.horizon) / max(1.0, self.high - self.horizon)
            self.canvas.fade = strength * max(0.0, 1.0 - near * 1.6) ** 2
            self.put(part.name, part.x, part.y, part.size, part.facing)
        self.canvas.fade = 0.0
        self._parts.clear()
