"""Drawings of what stands on a table; each fills its pen's unit of height."""

import math

from engine.sample.canvas import Colour, shade
from engine.sample.pen import Pen
from engine.sample.things_flowers import bloom

_BINDINGS: tuple[Colour, ...] = (
    (176, 70, 66),
    (70, 110, 150),
    (120, 146, 110),
    (226, 190, 110),
    (150, 110, 140),
    (210, 140, 96),
    (96, 100, 116),
)


_WARES: tuple[Colour, ...] = (
    (240, 236, 228),
    (80, 130, 170),
    (206, 90, 70),
    (244, 200, 90),
    (120, 160, 130),
    (70, 72, 90),
)


def vase(pen: Pen) -> None:
    """A vase with a bunch of flowers."""
    ware = pen.vary(pen.pick(_WARES), 10)
    heads = [(pen.some(-0.3, 0.3), pen.some(0.62, 0.9)) for _ in range(5)]
    for u, v in heads:
        pen.line([(u * 0.2, 0.38), (u, v)], 0.02, (86, 130, 66))
        pen.blob(
            [(u * 0.5, 0.5), (u * 0.9 + 0.08, 0.6), (u * 1.2, 0.68), (u * 0.8, 0.6)], (76, 124, 60)
        )
    for u, v in heads:
        bloom(pen, u, v, 0.14)
    pen.blob(
        [
            (-0.08, 0.44),
            (-0.07, 0.37),
            (-0.17, 0.22),
            (-0.13, 0.04),
            (0.0, 0.0),
            (0.13, 0.04),
            (0.17, 0.22),
            (0.07, 0.37),
            (0.08, 0.44),
        ],
        ware,
    )
    pen.mark([(-0.15, 0.2), (0, 0.17), (0.15, 0.2)], 0.03, shade(ware, -0.3))
    pen.mark([(-0.09, 0.3), (-0.12, 0.2), (-0.1, 0.1)], 0.03, shade(ware, 0.6))


def cup(pen: Pen) -> None:
    """A cup on its saucer, steam rising."""
    ware = pen.vary(pen.pick(_WARES), 10)
    pen.oval(0.0, 0.05, 0.62, 0.075, shade(ware, -0.18))
    pen.oval(0.0, 0.07, 0.56, 0.06, shade(ware, 0.12))
    ring = [
        (0.36 + 0.17 * math.cos(a), 0.4 + 0.15 * math.sin(a))
        for a in (-1.8 + k * 0.4 for k in range(10))
    ]
    pen.line(ring, 0.065, shade(ware, -0.15))
    pen.blob(
        [(-0.4, 0.66), (-0.38, 0.34), (-0.2, 0.1), (0.2, 0.1), (0.38, 0.34), (0.4, 0.66)], ware
    )
    pen.oval(0, 0.66, 0.4, 0.085, shade(ware, 0.3))
    pen.oval(0, 0.65, 0.35, 0.066, (96, 60, 38))
    pen.oval(-0.08, 0.655, 0.14, 0.025, (176, 128, 84))
    if pen.chance(0.5):
        pen.mark([(-0.36, 0.4), (0, 0.34), (0.36, 0.4)], 0.05, shade(ware, -0.4))
    for u in (-0.12, 0.08):
        pen.mark(
            [(u, 0.72), (u + 0.07, 0.82), (u - 0.03, 0.9), (u + 0.05, 1.0)], 0.03, (236, 234, 236)
        )


def fruit(pen: Pen) -> None:
    """A bowl of apples, oranges, bananas and grapes."""
    ware = pen.vary(pen.pick(_WARES), 10)
    for u in (-0.34, 0.0, 0.34):
        _one_fruit(pen, u, 0.56)
    pen.limb([(-0.55, 0.66), (-0.2, 0.9), (0.28, 0.86)], 0.15, 0.05, (246, 210, 70))
    for u in (-0.18, 0.2):
        _one_fruit(pen, u, 0.72)
    pen.blob(
        [
            (-0.72, 0.48),
            (-0.5, 0.14),
            (-0.2, 0.0),
            (0.2, 0.0),
            (0.5, 0.14),
            (0.72, 0.48),
            (0.3, 0.42),
            (-0.3, 0.42),
        ],
        ware,
    )
    pen.mark([(-0.62, 0.34), (0, 0.26), (0.62, 0.34)], 0.045, shade(ware, -0.35))


def _one_fruit(pen: Pen, u: float, v: float) -> None:
    skin: Colour = pen.vary(
        pen.pick(
            ((206.0, 46.0, 44.0), (240.0, 148.0, 40.0), (140.0, 184.0, 66.0), (226.0, 190.0, 80.0))
        )
    )
    pen.oval(u, v, 0.2, 0.19, shade(skin, -0.22))
    pen.oval(u - 0.02, v + 0.02, 0.17, 0.16, skin)
    pen.oval(u - 0.07, v + 0.08, 0.05, 0.04, shade(skin, 0.6))
    pen.line([(u, v + 0.16), (u + 0.03, v + 0.24)], 0.025, (90, 62, 40))
    pen.blob(
        [(u + 0.02, v + 0.2), (u + 0.08, v + 0.26), (u + 0.14, v + 0.22), (u + 0.08, v + 0.19)],
        (96, 144, 66),
    )


def apple(pen: Pen) -> None:
    """One piece of fruit, large: an apple or a pear."""
    skin = pen.vary(pen.pick(((200.0, 44.0, 44.0), (150.0, 186.0, 66.0), (232.0, 150.0, 60.0))))
    if pen.chance(0.6):
        outline = [
            (0, 0.78),
            (-0.26, 0.86),
            (-0.46, 0.6),
            (-0.4, 0.22),
            (-0.16, 0.0),
            (0, 0.05),
            (0.16, 0.0),
            (0.4, 0.22),
            (0.46, 0.6),
            (0.26, 0.86),
        ]
    else:
        outline = [
            (-0.1, 0.86),
            (-0.2, 0.58),
            (-0.4, 0.3),
            (-0.24, 0.02),
            (0.0, 0.0),
            (0.24, 0.02),
            (0.4, 0.3),
            (0.2, 0.58),
            (0.1, 0.86),
        ]
    pen.blob(outline, skin)
    pen.blob([(u * 0.8 - 0.03, 0.06 + v * 0.88) for u, v in outline], shade(skin, 0.12))
    pen.oval(-0.2, 0.56, 0.06, 0.1, shade(skin, 0.6), -20)
    pen.limb([(0, 0.78), (0.03, 0.9), (0.1, 1.0)], 0.05, 0.035, (92, 64, 42))
    pen.blob([(0.04, 0.86), (0.16, 1.0), (0.34, 0.98), (0.2, 0.86)], (90, 146, 66))


def book(pen: Pen) -> None:
    """Books: a pile of them, lying."""
    low = 0.0
    for _ in range(4):
        cover = pen.vary(pen.pick(_BINDINGS), 24)
        half, shift = pen.some(0.55, 0.75), pen.some(-0.08, 0.08)
        pen.rect(shift - half, low, shift + half, low + 0.25, cover)
        pen.rect(
            shift - half + 0.04, low + 0.045, shift + half + 0.01, low + 0.205, (246, 240, 224)
        )
        pen.rect(shift - half, low, shift - half + 0.16, low + 0.25, shade(cover, -0.15))
        for v in (0.09, 0.16):
            pen.mark(
                [(shift - half + 0.18, low + v), (shift + half, low + v)], 0.015, (214, 204, 184)
            )
        low += 0.25


def candle(pen: Pen) -> None:
    """A candle that burns in its holder."""
    wax: Colour = pen.pick(((248.0, 242.0, 226.0), (200.0, 60.0, 56.0), (240.0, 214.0, 150.0)))
    pen.oval(0, 0.05, 0.26, 0.05, (170, 130, 70))
    pen.rect(-0.1, 0.06, 0.1, 0.7, wax)
    pen.rect(0.03, 0.06, 0.1, 0.7, shade(wax, -0.18))
    pen.oval(0, 0.7, 0.1, 0.03, shade(wax, 0.4))
    pen.line([(0, 0.7), (0, 0.76)], 0.02, (50, 40, 40))
    pen.glow(True)
    pen.blob(
        [(0, 0.74), (-0.055, 0.82), (-0.02, 0.92), (0.0, 1.0), (0.03, 0.92), (0.055, 0.82)],
        (255, 176, 60),
    )
    pen.blob([(0, 0.75), (-0.03, 0.82), (0.0, 0.9), (0.03, 0.82)], (255, 244, 190))
    pen.glow(False)
