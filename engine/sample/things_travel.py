"""Drawings of what floats, flies and camps; each fills its pen's unit of height, facing right."""

import math

from engine.sample.canvas import Colour, mix, shade
from engine.sample.pen import Pen

_BRIGHT: tuple[Colour, ...] = (
    (214, 50, 48),
    (44, 104, 190),
    (246, 196, 50),
    (90, 170, 90),
    (240, 130, 50),
    (130, 80, 170),
    (244, 240, 232),
)


def boat(pen: Pen) -> None:
    """A sailing boat, a fishing boat or a rowing boat."""
    hull = pen.vary(pen.pick(_BRIGHT), 12)
    kind = pen.pick((0, 0, 0, 1, 1, 2))
    if kind == 0:
        sail: Colour = (248.0, 244.0, 234.0) if pen.chance(0.7) else pen.pick(_BRIGHT)
        pen.line([(0.02, 0.14), (0.02, 1.0)], 0.02, (110, 80, 56))
        pen.poly([(0.0, 0.24), (0.0, 0.98), (-0.18, 0.6), (-0.34, 0.24)], sail)
        pen.poly([(-0.1, 0.24), (0.0, 0.6), (0.0, 0.24)], shade(sail, -0.18))
        pen.poly([(0.05, 0.26), (0.05, 0.9), (0.24, 0.52), (0.38, 0.24)], shade(sail, -0.1))
        pen.poly([(0.02, 1.0), (0.12, 0.965), (0.02, 0.94)], (220, 50, 50))
        pen.poly([(-0.42, 0.19), (0.48, 0.2), (0.34, 0.0), (-0.32, 0.0)], hull)
        pen.poly([(-0.42, 0.19), (0.48, 0.2), (0.46, 0.16), (-0.41, 0.15)], shade(hull, 0.55))
    elif kind == 1:
        pen.line([(-0.1, 0.3), (-0.1, 1.0)], 0.025, (120, 90, 64))
        pen.line([(-0.1, 0.96), (0.7, 0.4)], 0.01, (70, 60, 56))
        pen.line([(-0.1, 0.9), (-0.62, 0.36)], 0.01, (70, 60, 56))
        pen.rect(-0.36, 0.3, 0.06, 0.62, (244, 240, 230))
        pen.rect(-0.42, 0.6, 0.12, 0.66, shade(hull, -0.2))
        pen.pane(-0.3, 0.44, -0.18, 0.56)
        pen.pane(-0.1, 0.44, 0.02, 0.56)
        pen.poly([(-0.7, 0.34), (0.5, 0.32), (0.84, 0.46), (0.62, 0.0), (-0.58, 0.0)], hull)
        pen.poly(
            [(-0.7, 0.34), (0.5, 0.32), (0.84, 0.46), (0.8, 0.38), (0.5, 0.26), (-0.69, 0.28)],
            (246, 244, 238),
        )
        pen.poly([(-0.62, 0.08), (0.66, 0.08), (0.62, 0.0), (-0.58, 0.0)], shade(hull, -0.5))
    else:
        pen.poly([(-0.9, 0.5), (0.9, 0.55), (0.62, 0.0), (-0.6, 0.0)], hull)
        pen.poly([(-0.9, 0.5), (0.9, 0.55), (0.7, 0.42), (-0.74, 0.4)], shade(hull, -0.45))
        pen.mark([(-0.82, 0.32), (0.8, 0.34)], 0.05, shade(hull, 0.4))
        pen.line([(-0.2, 0.5), (0.5, 0.05)], 0.05, (170, 124, 80))
        skin: Colour = (230.0, 180.0, 140.0)
        pen.limb([(0.0, 0.42), (0.0, 0.76)], 0.26, 0.22, pen.pick(_BRIGHT))
        pen.oval(0.02, 0.92, 0.11, 0.12, skin)
        pen.oval(0.0, 0.99, 0.13, 0.06, (70, 50, 40))


def ship(pen: Pen) -> None:
    """A big ship: a liner with funnels or a freighter stacked with containers."""
    hull = pen.vary(
        pen.pick(
            ((40.0, 50.0, 70.0), (150.0, 44.0, 40.0), (240.0, 240.0, 242.0), (50.0, 90.0, 80.0))
        ),
        10,
    )
    if pen.chance(0.5):
        for deck, (left, right) in enumerate(((-1.3, 1.2), (-1.15, 0.9), (-0.9, 0.6))):
            low = 0.34 + deck * 0.14
            pen.rect(left, low, right, low + 0.14, (246, 246, 248))
            for k in range(int((right - left) / 0.16)):
                pen.pane(left + 0.06 + k * 0.16, low + 0.04, left + 0.14 + k * 0.16, low + 0.1, 0.8)
        for u in (-0.5, 0.0):
            pen.poly([(u, 0.74), (u + 0.26, 0.74), (u + 0.2, 1.0), (u - 0.02, 1.0)], (206, 60, 50))
            pen.poly(
                [(u - 0.02, 0.94), (u + 0.21, 0.94), (u + 0.2, 1.0), (u - 0.02, 1.0)], (40, 40, 46)
            )
    else:
        for column in range(8):
            for row in range(int(pen.rng.integers(1, 4))):
                left = -0.82 + column * 0.24
                box = pen.vary(pen.pick(_BRIGHT[:5]))
                pen.rect(left, 0.34 + row * 0.14, left + 0.225, 0.475 + row * 0.14, box)
        pen.rect(-1.28, 0.34, -0.9, 0.92, (244, 242, 238))
        for v in (0.6, 0.76):
            pen.pane(-1.22, v, -0.95, v + 0.07, 0.9)
        pen.rect(-1.18, 0.92, -1.04, 1.06, (206, 60, 50))
    pen.poly([(-1.45, 0.36), (1.2, 0.34), (1.6, 0.44), (1.3, 0.0), (-1.3, 0.0)], hull)
    pen.poly([(-1.36, 0.1), (1.37, 0.1), (1.3, 0.0), (-1.3, 0.0)], (160, 50, 44))
    pen.mark([(-1.44, 0.32), (1.2, 0.3), (1.56, 0.39)], 0.025, shade(hull, 0.6))


def balloon(pen: Pen) -> None:
    """A hot-air balloon in gores of two colours, with its basket."""
    first, second = pen.pick(_BRIGHT), pen.pick(_BRIGHT[1:])
    third = pen.pick(_BRIGHT)
    pen.line([(-0.08, 0.16), (-0.16, 0.36)], 0.01, (80, 64, 52))
    pen.line([(0.08, 0.16), (0.16, 0.36)], 0.01, (80, 64, 52))
    top, low = 1.0, 0.26
    for wide, colour in ((0.36, first), (0.25, second), (0.13, first), (0.05, third)):
        outline = []
        for k in range(25):
            angle = math.pi * k / 24
            bulge = abs(math.sin(angle)) ** 0.85 * (0.75 + 0.25 * math.cos(angle))
            outline.append(
                (wide * (bulge + 0.16 * k / 24), top - (top - low) * (1 - math.cos(angle)) / 2)
            )
        pen.poly(outline + [(-u, v) for u, v in outline[::-1]], colour)
    pen.poly([(-0.09, 0.0), (0.09, 0.0), (0.1, 0.15), (-0.1, 0.15)], (160, 112, 66))
    for v in (0.04, 0.08, 0.12):
        pen.mark([(-0.09, v), (0.09, v)], 0.01, (110, 74, 44))


def plane(pen: Pen) -> None:
    """An airliner or a small propeller plane."""
    trim = pen.pick(_BRIGHT[:6])
    body: Colour = (240.0, 242.0, 246.0)
    pen.poly([(-1.3, 0.56), (-1.62, 1.0), (-1.36, 1.0), (-0.95, 0.6)], trim)
    pen.poly([(0.05, 0.58), (-0.5, 0.86), (-0.72, 0.86), (-0.35, 0.58)], shade(body, -0.3))
    pen.blob(
        [
            (-1.5, 0.56),
            (-1.0, 0.62),
            (0.7, 0.64),
            (1.15, 0.56),
            (1.25, 0.44),
            (1.0, 0.33),
            (-0.6, 0.32),
            (-1.2, 0.44),
        ],
        body,
    )
    pen.mark([(-1.35, 0.48), (0.0, 0.44), (1.2, 0.42)], 0.05, trim)
    for k in range(10):
        pen.oval(-0.7 + k * 0.15, 0.52, 0.03, 0.032, (86, 110, 140))
    pen.poly([(0.92, 0.6), (1.1, 0.55), (1.12, 0.49), (0.9, 0.5)], (80, 104, 134))
    pen.poly([(0.2, 0.42), (-0.75, 0.02), (-1.0, 0.02), (-0.4, 0.42)], shade(body, -0.16))
    pen.limb([(-0.35, 0.18), (-0.05, 0.18)], 0.13, 0.12, shade(trim, -0.2))
    pen.poly([(-1.2, 0.5), (-1.6, 0.38), (-1.72, 0.4), (-1.45, 0.54)], shade(body, -0.2))


def kite(pen: Pen) -> None:
    """A diamond kite with its tail of bows."""
    first, second = pen.pick(_BRIGHT[:3]), pen.pick(_BRIGHT[2:6])
    tail = [(0.0, 0.42), (0.08, 0.32), (-0.06, 0.2), (0.06, 0.1), (-0.02, 0.0)]
    pen.mark(tail, 0.012, (240, 240, 236))
    for u, v in tail[1:]:
        pen.poly([(u - 0.06, v + 0.03), (u, v), (u - 0.06, v - 0.03)], second)
        pen.poly([(u + 0.06, v + 0.03), (u, v), (u + 0.06, v - 0.03)], first)
    pen.poly([(0, 1.0), (-0.24, 0.74), (0, 0.74)], first)
    pen.poly([(0, 1.0), (0.24, 0.74), (0, 0.74)], second)
    pen.poly([(0, 0.42), (-0.24, 0.74), (0, 0.74)], second)
    pen.poly([(0, 0.42), (0.24, 0.74), (0, 0.74)], shade(first, -0.12))


def umbrella(pen: Pen) -> None:
    """A parasol in gores on its pole."""
    first, second = pen.pick(_BRIGHT[:6]), pen.pick(((248.0, 244.0, 236.0), (250.0, 206.0, 80.0)))
    pen.line([(0, 0), (0.02, 0.9)], 0.035, (226, 220, 210))
    outline = [
        (0.56 * math.cos(a), 0.6 + 0.38 * math.sin(a))
        for a in (math.pi * k / 16 for k in range(17))
    ]
    pen.poly(outline, first)
    for left, right in ((-0.36, -0.13), (0.13, 0.36)):
        pen.blob(
            [(left, 0.6), (left * 0.8, 0.84), (0, 0.98), (right * 0.8, 0.84), (right, 0.6)], second
        )
    for k in range(5):
        pen.oval(-0.45 + k * 0.225, 0.6, 0.11, 0.035, shade(first if k % 2 == 0 else second, -0.15))
    pen.oval(0, 0.99, 0.025, 0.03, (200, 190, 180))


def tent(pen: Pen) -> None:
    """A ridge tent or a dome tent."""
    cloth = pen.vary(pen.pick(_BRIGHT[:5]), 12)
    if pen.chance(0.5):
        pen.poly([(-0.3, 1.0), (0.75, 0.95), (1.1, 0.0), (0.2, 0.0)], shade(cloth, -0.22))
        pen.poly([(-0.3, 1.0), (0.3, 0.0), (-0.9, 0.0)], cloth)
        pen.poly([(-0.3, 0.8), (0.0, 0.0), (-0.55, 0.0)], (60, 46, 50))
        pen.poly([(-0.3, 0.8), (-0.42, 0.0), (-0.55, 0.0)], shade(cloth, 0.4))
        pen.line([(-0.3, 1.0), (-1.15, 0.0)], 0.015, (236, 232, 220))
        pen.line([(0.75, 0.95), (1.3, 0.0)], 0.015, (236, 232, 220))
    else:
        outline = [(math.cos(a), 0.98 * math.sin(a)) for a in (math.pi * k / 16 for k in range(17))]
        pen.poly(outline, cloth)
        pen.blob(
            [(-0.5, 0.0), (-0.42, 0.5), (-0.06, 0.98), (0.26, 0.6), (0.3, 0.0)], shade(cloth, 0.22)
        )
        pen.blob([(-0.32, 0.0), (-0.28, 0.4), (-0.1, 0.68), (0.1, 0.4), (0.14, 0.0)], (66, 50, 54))


def rock(pen: Pen) -> None:
    """A boulder or two."""
    stone = pen.vary((140.0, 134.0, 130.0), 18)
    for shift, grow in ((0.45, 0.6), (0.0, 1.0)):
        outline = [
            (shift + u * grow, v * grow)
            for u, v in (
                (-0.75, 0),
                (-0.7, 0.4),
                (-0.35, 0.85 + pen.some(-0.1, 0.1)),
                (0.15, 1.0),
                (0.55, 0.6),
                (0.75, 0.0),
            )
        ]
        pen.poly(outline, stone)
        pen.poly(
            [outline[0], outline[1], outline[2], (shift - 0.25 * grow, 0.3 * grow)],
            shade(stone, -0.18),
        )
        pen.poly(
            [
                outline[2],
                outline[3],
                (shift + 0.1 * grow, 0.5 * grow),
                (shift - 0.25 * grow, 0.3 * grow),
            ],
            shade(stone, 0.22),
        )
        pen.poly(
            [outline[4], outline[5], (shift + 0.2 * grow, 0.0), (shift + 0.1 * grow, 0.5 * grow)],
            shade(stone, -0.35),
        )
        if pen.chance(0.4):
            pen.mark(
                [(shift - 0.3 * grow, 0.7 * grow), (shift, 0.85 * grow)],
                0.09 * grow,
                mix(stone, (110, 140, 70), 0.6),
            )
