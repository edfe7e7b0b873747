"""Drawings of flowers, one or a clump; each fills its pen's unit of height."""

import math

from engine.sample.canvas import Colour, mix, shade
from engine.sample.pen import Pen

PETALS: tuple[Colour, ...] = (
    (222, 54, 62),
    (244, 196, 52),
    (240, 130, 176),
    (150, 96, 200),
    (250, 248, 240),
    (244, 132, 50),
    (96, 130, 220),
)


def flower(pen: Pen) -> None:
    """One flower on its stem: a daisy, a tulip, a sunflower or a poppy."""
    stem = pen.vary((76.0, 132.0, 58.0), 10)
    bow = pen.some(-0.07, 0.07)
    pen.limb([(0, 0), (bow, 0.4), (0, 0.74)], 0.05, 0.035, stem)
    for side in (-1, 1):
        v = pen.some(0.15, 0.35)
        pen.blob(
            [
                (bow / 2, v),
                (side * 0.12, v + 0.15),
                (side * 0.26, v + 0.2),
                (side * 0.16, v + 0.04),
            ],
            shade(stem, 0.1 * side),
        )
    bloom(pen, 0.0, 0.76, 0.24)


def bloom(pen: Pen, u: float, v: float, radius: float) -> None:
    """The head of a flower around (u, v)."""
    kind = int(pen.rng.integers(4))
    petal = pen.vary(pen.pick(PETALS), 10)
    if kind == 0:
        for side, tint in ((-0.5, -0.2), (0.5, -0.12), (0.0, 0.08)):
            pen.blob(
                [
                    (u + side * radius, v - radius * 0.9),
                    (u + side * radius * 1.6 - radius * 0.4, v + radius * 0.2),
                    (u + side * radius * 1.3, v + radius),
                    (u + side * radius * 1.6 + radius * 0.4, v + radius * 0.2),
                ],
                shade(petal, tint),
            )
        return
    if kind == 1:
        petal = pen.vary((246.0, 190.0, 40.0), 10)
    heart: Colour = (92.0, 58.0, 34.0) if kind == 1 else (246.0, 204.0, 70.0)
    count, wide = (16, 0.16) if kind == 1 else (8, 0.3) if kind == 2 else (5, 0.46)
    for ring, tint in ((1.0, -0.16), (0.82, 0.08)):
        for k in range(count):
            angle = (k + (0.5 if tint > 0 else 0.0)) * math.tau / count
            far = radius * 0.6 * ring
            pen.oval(
                u + far * math.cos(angle),
                v + far * math.sin(angle) * 0.92,
                radius * 0.46,
                radius * wide,
                shade(petal, tint),
                math.degrees(angle),
            )
    core = 0.42 if kind == 1 else 0.28
    pen.oval(u, v, radius * core, radius * core * 0.92, shade(heart, -0.15))
    pen.oval(u - radius * 0.05, v + radius * 0.05, radius * core * 0.75, radius * core * 0.7, heart)
    for _ in range(10):
        turn, far = pen.some(0, math.tau), pen.some(0, radius * core * 0.7)
        pen.oval(
            u + far * math.cos(turn),
            v + far * math.sin(turn),
            radius * 0.035,
            radius * 0.035,
            mix(heart, (255, 236, 150), 0.5),
        )


def flowers(pen: Pen) -> None:
    """A clump of flowers of one sort in leaves."""
    green = pen.vary((80.0, 136.0, 60.0), 12)
    petal = pen.pick(PETALS)
    for _ in range(16):
        u = pen.some(-0.9, 0.9)
        pen.limb(
            [(u, 0.0), (u * 1.05, 0.3), (u * 1.15, pen.some(0.4, 0.75))],
            0.08,
            0.02,
            shade(green, pen.some(-0.3, 0.15)),
        )
    for k in range(9):
        u, v = -0.85 + 0.21 * k, pen.some(0.5, 0.95)
        pen.line([(u * 0.9, 0), (u, v)], 0.04, shade(green, -0.1))
        for turn in range(5):
            angle = turn * math.tau / 5 + u
            pen.oval(
                u + 0.1 * math.cos(angle),
                v + 0.1 * math.sin(angle),
                0.09,
                0.08,
                shade(petal, 0.1 * math.sin(angle)),
            )
        pen.oval(u, v, 0.055, 0.055, (250, 220, 110))
