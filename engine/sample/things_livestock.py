"""Drawings of farm animals; each fills its pen's unit of height, facing right."""

import math

from engine.sample.canvas import Colour, shade
from engine.sample.legs import legs
from engine.sample.pen import Pen

_HORSES: tuple[Colour, ...] = (
    (140, 80, 44),
    (96, 58, 40),
    (70, 62, 62),
    (226, 220, 210),
    (190, 130, 74),
)


def horse(pen: Pen) -> None:
    """A horse, standing, its neck up or grazing."""
    coat = pen.vary(pen.pick(_HORSES))
    mane = shade(coat, -0.55) if pen.chance(0.7) else (236.0, 214.0, 170.0)
    legs(pen, (-0.36, -0.29, 0.27, 0.2), 0.42, 0.052, coat, (40, 32, 30))
    pen.limb([(-0.42, 0.62), (-0.52, 0.5), (-0.52, 0.24)], 0.07, 0.12, mane)
    pen.blob(
        [
            (-0.44, 0.6),
            (-0.26, 0.69),
            (0.0, 0.63),
            (0.26, 0.69),
            (0.37, 0.55),
            (0.26, 0.37),
            (-0.05, 0.37),
            (-0.24, 0.41),
            (-0.43, 0.42),
        ],
        coat,
    )
    if pen.chance(0.3):
        crest, poll, nose = (0.3, 0.6), (0.52, 0.3), (0.56, 0.06)
    else:
        crest, poll, nose = (0.26, 0.6), (0.47, 0.9), (0.68, 0.72)
    pen.limb(
        [crest, ((crest[0] + poll[0]) / 2 - 0.01, (crest[1] + poll[1]) / 2), poll], 0.28, 0.14, coat
    )
    for step in range(7):
        along = step / 6
        u = crest[0] * (1 - along) + poll[0] * along - 0.07
        v = crest[1] * (1 - along) + poll[1] * along + 0.08
        pen.limb([(u + 0.02, v + 0.02), (u - 0.04, v - 0.1)], 0.05, 0.02, mane)
    pen.limb(
        [poll, ((poll[0] + nose[0]) / 2, (poll[1] + nose[1]) / 2 + 0.005), nose], 0.15, 0.085, coat
    )
    pen.oval(nose[0], nose[1], 0.05, 0.045, shade(coat, -0.35))
    if pen.chance(0.5):
        pen.mark([poll, nose], 0.03, (244, 240, 232))
    pen.oval(poll[0] + 0.06, poll[1] - 0.02, 0.016, 0.018, (16, 12, 14))
    pen.poly(
        [
            (poll[0] - 0.04, poll[1] + 0.04),
            (poll[0] - 0.02, poll[1] + 0.14),
            (poll[0] + 0.03, poll[1] + 0.05),
        ],
        coat,
    )


def cow(pen: Pen) -> None:
    """A cow: a heavy box of a body, patched or brown, with horns and udder."""
    brown = pen.chance(0.35)
    coat: Colour = (150.0, 92.0, 56.0) if brown else (240.0, 236.0, 228.0)
    patch: Colour = (226.0, 206.0, 182.0) if brown else (48.0, 42.0, 44.0)
    legs(pen, (-0.46, -0.38, 0.34, 0.26), 0.42, 0.085, coat, (50, 42, 40))
    pen.limb([(-0.55, 0.8), (-0.63, 0.6), (-0.62, 0.3)], 0.03, 0.03, coat)
    pen.oval(-0.62, 0.26, 0.035, 0.07, patch)
    pen.oval(-0.24, 0.34, 0.11, 0.08, (232, 170, 166))
    pen.blob(
        [
            (-0.55, 0.8),
            (-0.3, 0.85),
            (0.1, 0.83),
            (0.4, 0.87),
            (0.48, 0.62),
            (0.36, 0.36),
            (0.0, 0.31),
            (-0.35, 0.37),
            (-0.55, 0.44),
        ],
        coat,
    )
    for _ in range(int(pen.rng.integers(3, 6))):
        u, v = pen.some(-0.42, 0.28), pen.some(0.5, 0.72)
        pen.oval(u, v, pen.some(0.06, 0.15), pen.some(0.06, 0.11), patch, pen.some(-40, 40))
    head, brow = 0.58, pen.some(0.72, 0.86)
    pen.limb([(0.36, 0.7), (0.56, brow)], 0.34, 0.22, coat)
    pen.limb(
        [(head, brow + 0.08), (head + 0.09, brow - 0.05), (head + 0.14, brow - 0.18)],
        0.22,
        0.15,
        patch,
    )
    pen.oval(head + 0.155, brow - 0.2, 0.1, 0.075, (232, 178, 170))
    pen.oval(head + 0.2, brow - 0.19, 0.016, 0.02, (110, 60, 60))
    pen.oval(head + 0.07, brow + 0.03, 0.022, 0.026, (14, 12, 14))
    pen.oval(head - 0.12, brow + 0.06, 0.1, 0.04, shade(patch, -0.1), 20)
    pen.limb(
        [(head - 0.04, brow + 0.15), (head - 0.07, brow + 0.22), (head - 0.01, brow + 0.28)],
        0.05,
        0.018,
        (232, 222, 196),
    )
    pen.limb(
        [(head + 0.08, brow + 0.15), (head + 0.13, brow + 0.21), (head + 0.1, brow + 0.28)],
        0.05,
        0.018,
        (232, 222, 196),
    )


def sheep(pen: Pen) -> None:
    """A sheep: a cloud of wool on thin dark legs."""
    wool = pen.vary((236.0, 230.0, 216.0), 10)
    face: Colour = pen.pick(((58.0, 50.0, 52.0), (224.0, 206.0, 186.0)))
    legs(pen, (-0.32, -0.24, 0.28, 0.2), 0.35, 0.06, shade(face, -0.1), (30, 26, 28))
    for turn in range(14):
        angle = turn * math.tau / 14
        colour = shade(wool, 0.12 * math.sin(angle) - 0.12)
        pen.oval(0.48 * math.cos(angle) * 0.8, 0.58 + 0.22 * math.sin(angle), 0.14, 0.13, colour)
    pen.oval(0.0, 0.58, 0.42, 0.27, wool)
    for _ in range(9):
        u, v = pen.some(-0.36, 0.34), pen.some(0.45, 0.76)
        pen.mark([(u - 0.05, v), (u, v + 0.035), (u + 0.05, v)], 0.02, shade(wool, -0.2))
    brow = pen.some(0.62, 0.8)
    pen.oval(0.38, brow - 0.02, 0.11, 0.05, shade(face, -0.15), 18)
    pen.limb([(0.48, brow + 0.04), (0.6, brow - 0.12)], 0.22, 0.15, face)
    pen.oval(0.46, brow + 0.09, 0.13, 0.08, wool, -20)
    pen.oval(0.55, brow, 0.022, 0.026, (250, 250, 245))
    pen.oval(0.555, brow, 0.013, 0.018, (10, 10, 12))
