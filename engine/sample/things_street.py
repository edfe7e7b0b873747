"""Drawings of vehicles and street furniture; each fills its pen's unit of height, facing right."""

import math

from engine.sample.canvas import Colour, mix, shade
from engine.sample.pen import Pen

_PAINTS: tuple[Colour, ...] = (
    (204, 44, 44),
    (44, 90, 170),
    (240, 196, 50),
    (236, 236, 236),
    (60, 64, 74),
    (80, 150, 110),
    (150, 190, 220),
    (232, 120, 46),
    (170, 172, 180),
)


def _wheel(pen: Pen, u: float, radius: float) -> None:
    pen.oval(u, radius, radius, radius, (32, 30, 34))
    pen.oval(u, radius, radius * 0.58, radius * 0.58, (176, 178, 186))
    pen.oval(u, radius, radius * 0.2, radius * 0.2, (70, 70, 78))


def _lights(pen: Pen, front: float, back: float, v: float, size: float) -> None:
    pen.glow(pen.canvas.dark)
    pen.oval(front, v, size, size * 0.8, (255, 244, 190))
    pen.oval(back, v, size * 0.7, size, (230, 40, 36))
    pen.glow(False)


def car(pen: Pen) -> None:
    """A car from the side: saloon, hatchback, beetle or estate."""
    paint = pen.vary(pen.pick(_PAINTS), 10)
    kind = int(pen.rng.integers(4))
    roofs = (
        [(-0.72, 0.58), (-0.46, 0.96), (0.2, 0.97), (0.58, 0.6)],
        [(-1.0, 0.58), (-0.86, 0.94), (0.16, 0.97), (0.56, 0.6)],
        [(-0.86, 0.5), (-0.6, 0.86), (-0.1, 1.02), (0.34, 0.88), (0.56, 0.56)],
        [(-1.08, 0.58), (-1.02, 0.95), (0.24, 0.97), (0.6, 0.6)],
    )
    roof = roofs[kind]
    (pen.blob if kind == 2 else pen.poly)([*roof, (0.5, 0.4), (-0.8, 0.4)], paint)
    pen.blob(
        [
            (-1.1, 0.3),
            (-1.12, 0.52),
            (-0.8, 0.63),
            (0.0, 0.62),
            (0.62, 0.6),
            (1.06, 0.5),
            (1.14, 0.3),
            (1.0, 0.17),
            (0.0, 0.15),
            (-1.0, 0.17),
        ],
        paint,
    )
    pen.poly([(-1.08, 0.28), (1.1, 0.28), (1.0, 0.15), (-1.0, 0.15)], shade(paint, -0.35))
    low = 0.62
    back, front = roof[0][0] + 0.16, 0.44
    glass = pen.vary((120.0, 160.0, 186.0), 12)
    pen.poly([(back, low), (max(back, roof[1][0]) + 0.08, 0.88), (-0.16, 0.9), (-0.16, low)], glass)
    pen.poly([(-0.08, low), (-0.08, 0.9), (0.18, 0.88), (front, low)], glass)
    pen.poly([(-0.02, low + 0.02), (0.1, 0.88), (0.18, 0.88), (0.1, low + 0.02)], shade(glass, 0.4))
    pen.mark([(-0.12, 0.6), (-0.12, 0.24)], 0.02, shade(paint, -0.4))
    pen.mark([(-0.32, 0.52), (-0.22, 0.52)], 0.03, shade(paint, -0.5))
    pen.mark([(-1.0, 0.55), (0.0, 0.56), (1.0, 0.48)], 0.02, shade(paint, 0.4))
    for u in (-0.66, 0.68):
        pen.oval(u, 0.22, 0.26, 0.26, shade(paint, -0.5))
        _wheel(pen, u, 0.21)
    _lights(pen, 1.06, -1.1, 0.43, 0.06)


def truck(pen: Pen) -> None:
    """A lorry: box or open load behind a cab."""
    paint, box = pen.vary(pen.pick(_PAINTS), 10), pen.vary(pen.pick(_PAINTS), 10)
    pen.rect(-1.05, 0.16, 1.0, 0.26, (56, 54, 60))
    if pen.chance(0.7):
        pen.rect(-1.1, 0.24, 0.34, 1.0, box)
        pen.rect(-1.1, 0.9, 0.34, 1.0, shade(box, 0.25))
        for u in (-0.8, -0.5, -0.2, 0.1):
            pen.mark([(u, 0.26), (u, 0.98)], 0.014, shade(box, -0.2))
        pen.mark([(-1.0, 0.6), (0.24, 0.6)], 0.08, shade(box, 0.5))
    else:
        for k in range(7):
            pen.oval(-0.95 + k * 0.19, 0.6, 0.15, 0.14, shade((150, 108, 64), pen.some(-0.2, 0.2)))
        pen.rect(-1.1, 0.24, 0.34, 0.58, shade(box, -0.1))
    pen.blob(
        [
            (0.4, 0.2),
            (0.4, 0.76),
            (0.48, 0.84),
            (0.8, 0.82),
            (0.98, 0.52),
            (1.08, 0.46),
            (1.08, 0.2),
        ],
        paint,
    )
    pen.poly([(0.62, 0.52), (0.62, 0.75), (0.78, 0.75), (0.93, 0.52)], (128, 168, 192))
    pen.mark([(0.55, 0.74), (0.55, 0.26)], 0.016, shade(paint, -0.4))
    for u in (-0.8, -0.45, 0.72):
        _wheel(pen, u, 0.155)
    _lights(pen, 1.04, -1.08, 0.32, 0.045)


def bus(pen: Pen) -> None:
    """A bus, with one deck or two, with a row of windows."""
    paint = pen.vary(pen.pick(_PAINTS[:3] + _PAINTS[5:8]), 10)
    double = pen.chance(0.35)
    length = 0.95 if double else 1.3
    pen.blob(
        [
            (-length, 0.12),
            (-length, 0.5),
            (-length, 0.97),
            (0, 1.0),
            (length, 0.97),
            (length + 0.03, 0.5),
            (length, 0.12),
            (0, 0.1),
        ],
        paint,
    )
    pen.rect(-length, 0.12, length, 0.24, shade(paint, -0.35))
    pen.rect(
        -length,
        0.42 if not double else 0.52,
        length,
        0.46 if not double else 0.55,
        shade(paint, 0.6),
    )
    decks = ((0.32, 0.49), (0.64, 0.88)) if double else ((0.52, 0.84),)
    count = 5 if double else 7
    for low, high in decks:
        for k in range(count):
            left = -length + 0.08 + k * (2 * length - 0.14) / count
            pen.pane(left, low, left + (2 * length - 0.5) / count, high, 0.85)
    door = length - 0.3
    pen.rect(door, 0.14, door + 0.2, decks[0][1], (70, 90, 104))
    pen.line([(door + 0.1, 0.14), (door + 0.1, decks[0][1])], 0.02, shade(paint, -0.2))
    for u in (-length * 0.6, length * 0.52):
        _wheel(pen, u, 0.145)
    _lights(pen, length, -length, 0.3, 0.045)


def train(pen: Pen) -> None:
    """A train of an engine (steam or modern) and two carriages."""
    paint = pen.vary(pen.pick(_PAINTS[:2] + _PAINTS[4:6]), 10)
    for left in (-4.3, -2.1):
        pen.rect(left, 0.16, left + 2.1, 0.95, paint)
        pen.rect(left - 0.02, 0.9, left + 2.12, 1.0, shade(paint, -0.45))
        pen.rect(left, 0.3, left + 2.1, 0.38, shade(paint, 0.6))
        for k in range(5):
            pen.pane(left + 0.15 + k * 0.39, 0.5, left + 0.41 + k * 0.39, 0.8, 0.9)
        for u in (0.35, 0.7, 1.4, 1.75):
            _wheel(pen, left + u, 0.13)
        pen.rect(left + 2.1, 0.2, left + 2.2, 0.26, (40, 40, 44))
    if pen.chance(0.5):
        pen.rect(0.1, 0.18, 2.0, 0.3, (44, 42, 46))
        pen.rect(0.1, 0.25, 0.75, 1.05, paint)
        pen.rect(0.04, 1.02, 0.82, 1.12, shade(paint, -0.5))
        pen.pane(0.22, 0.64, 0.6, 0.9, 0.9)
        pen.rect(0.7, 0.34, 1.85, 0.82, (52, 56, 62))
        pen.oval(1.85, 0.58, 0.12, 0.24, (40, 42, 48))
        pen.rect(1.5, 0.8, 1.68, 1.16, (44, 44, 50))
        pen.oval(1.1, 0.84, 0.12, 0.09, (214, 170, 70))
        for k in range(4):
            pen.canvas.ellipse(
                pen.x + pen.facing * pen.size * (1.5 - k * 0.4),
                pen.y - pen.size * (1.3 + k * 0.16),
                pen.size * (0.14 + k * 0.07),
                pen.size * (0.12 + k * 0.05),
                (226, 224, 226),
            )
        for u in (0.4, 0.95, 1.45):
            _wheel(pen, u, 0.2)
        pen.poly([(1.9, 0.3), (2.25, 0.05), (1.9, 0.05)], (160, 50, 44))
    else:
        pen.blob(
            [(0.1, 0.16), (0.1, 0.95), (0.9, 1.0), (1.6, 0.9), (2.1, 0.5), (2.2, 0.2), (1.2, 0.14)],
            paint,
        )
        pen.poly([(1.4, 0.6), (1.35, 0.86), (1.62, 0.82), (1.95, 0.56)], (110, 150, 180))
        pen.mark([(0.1, 0.36), (1.2, 0.36), (2.1, 0.32)], 0.08, shade(paint, 0.6))
        for k in range(3):
            pen.pane(0.25 + k * 0.36, 0.55, 0.5 + k * 0.36, 0.8, 0.9)
        for u in (0.5, 0.9, 1.6):
            _wheel(pen, u, 0.13)
        _lights(pen, 2.1, -4.3, 0.3, 0.06)


def bicycle(pen: Pen) -> None:
    """A bicycle."""
    paint = pen.vary(pen.pick(_PAINTS), 10)
    for u in (-0.5, 0.5):
        ring = [
            (u + 0.36 * math.cos(k * math.tau / 20), 0.37 + 0.36 * math.sin(k * math.tau / 20))
            for k in range(21)
        ]
        pen.line(ring, 0.055, (36, 34, 38))
        for k in range(4):
            cos, sin = 0.34 * math.cos(k * 0.785 + 0.3), 0.34 * math.sin(k * 0.785 + 0.3)
            pen.line([(u - cos, 0.37 - sin), (u + cos, 0.37 + sin)], 0.012, (170, 170, 176))
    pen.line([(-0.5, 0.37), (-0.2, 0.78), (0.38, 0.78), (-0.02, 0.35), (-0.5, 0.37)], 0.05, paint)
    pen.line([(-0.02, 0.35), (-0.24, 0.9)], 0.05, paint)
    pen.line([(0.5, 0.37), (0.36, 0.92), (0.26, 0.98)], 0.045, paint)
    pen.line([(0.2, 0.96), (0.44, 1.0)], 0.05, (40, 36, 40))
    pen.limb([(-0.36, 0.92), (-0.12, 0.91)], 0.07, 0.04, (60, 40, 34))
    pen.oval(-0.02, 0.35, 0.06, 0.06, (60, 60, 66))


def tractor(pen: Pen) -> None:
    """A tractor: small wheels before, great ones behind."""
    paint = pen.vary(pen.pick(((190.0, 44.0, 40.0), (50.0, 120.0, 60.0), (50.0, 90.0, 160.0))), 8)
    pen.rect(0.38, 0.62, 0.44, 1.0, (60, 58, 62))
    pen.blob([(-0.1, 0.3), (-0.1, 0.66), (0.62, 0.64), (0.72, 0.5), (0.7, 0.28)], paint)
    pen.rect(-0.6, 0.4, 0.02, 0.96, shade(paint, -0.12))
    pen.poly([(-0.5, 0.58), (-0.5, 0.88), (-0.06, 0.88), (-0.02, 0.58)], (150, 184, 200))
    pen.rect(-0.68, 0.92, 0.08, 1.0, shade(paint, -0.35))
    for v in (0.38, 0.45, 0.52):
        pen.mark([(0.4, v), (0.66, v)], 0.03, shade(paint, -0.45))
    for u, r in ((-0.36, 0.36), (0.5, 0.2)):
        pen.oval(u, r, r, r, (36, 34, 36))
        pen.oval(u, r, r * 0.56, r * 0.56, (240, 200, 70))
        pen.oval(u, r, r * 0.2, r * 0.2, (120, 96, 40))


def street_lamp(pen: Pen) -> None:
    """A lamp-post of the old kind or the new."""
    iron: Colour = (64.0, 70.0, 76.0)
    pen.rect(-0.045, 0, 0.045, 0.06, iron)
    pen.rect(-0.018, 0, 0.018, 0.84, iron)
    if pen.chance(0.5):
        pen.poly([(-0.055, 0.84), (0.055, 0.84), (0.08, 0.96), (-0.08, 0.96)], (210, 214, 206))
        pen.glow(pen.canvas.dark)
        pen.poly([(-0.04, 0.85), (0.04, 0.85), (0.06, 0.95), (-0.06, 0.95)], (255, 236, 170))
        pen.glow(False)
        pen.poly([(-0.1, 0.955), (0.1, 0.955), (0, 1.02)], iron)
        return
    pen.limb([(0, 0.8), (0.02, 0.97), (0.2, 0.97)], 0.035, 0.03, iron)
    pen.oval(0.24, 0.97, 0.08, 0.03, iron)
    pen.glow(pen.canvas.dark)
    pen.oval(0.24, 0.945, 0.06, 0.025, (255, 240, 180))
    pen.glow(False)


def traffic_light(pen: Pen) -> None:
    """A traffic light, at red or green."""
    pen.rect(-0.02, 0, 0.02, 0.64, (70, 72, 78))
    pen.rect(-0.1, 0.6, 0.1, 1.0, (38, 40, 44))
    lit = int(pen.rng.integers(3))
    bright: tuple[Colour, ...] = ((60, 220, 100), (250, 196, 50), (250, 50, 44))
    for k, colour in enumerate(bright):
        pen.glow(k == lit)
        pen.oval(
            0,
            0.67 + k * 0.13,
            0.055,
            0.052,
            colour if k == lit else mix(colour, (40, 40, 44), 0.72),
        )
        pen.glow(False)


def bench(pen: Pen) -> None:
    """A park bench of slats."""
    wood = pen.vary((150.0, 98.0, 56.0), 14)
    for u in (-0.8, 0.8):
        pen.line([(u - 0.06, 0), (u, 0.42), (u + 0.02, 0.98)], 0.08, (56, 58, 62))
        pen.line([(u + 0.18, 0), (u + 0.14, 0.42)], 0.08, (56, 58, 62))
    for v in (0.62, 0.78, 0.94):
        pen.rect(-0.98, v - 0.055, 0.98, v + 0.055, shade(wood, (v - 0.78) * 0.6))
    pen.poly([(-0.95, 0.48), (0.95, 0.48), (1.08, 0.36), (-1.0, 0.36)], shade(wood, 0.15))
    pen.rect(-1.0, 0.32, 1.08, 0.37, shade(wood, -0.3))


def fence(pen: Pen) -> None:
    """A stretch of fence: pickets, or rails on posts."""
    wood: Colour = pen.vary(pen.pick(((244.0, 240.0, 232.0), (150.0, 108.0, 70.0))), 8)
    rails = (0.32, 0.7)
    for v in rails:
        pen.rect(-2.4, v - 0.05, 2.4, v + 0.05, shade(wood, -0.12))
    pickets = pen.chance(0.6)
    step = 0.26 if pickets else 0.95
    for k in range(int(4.8 / step) + 1):
        u = -2.4 + k * step
        high = 0.9 + pen.some(-0.03, 0.03)
        pen.poly(
            [(u - 0.075, 0), (u + 0.075, 0), (u + 0.075, high), (u, high + 0.1), (u - 0.075, high)],
            shade(wood, pen.some(-0.12, 0.06)),
        )
