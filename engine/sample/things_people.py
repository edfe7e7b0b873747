"""Drawings of people, alone and in what they do, and of the snowman they built."""

from engine.sample.canvas import Colour, shade
from engine.sample.pen import Pen

_SKINS: tuple[Colour, ...] = (
    (246, 206, 172),
    (226, 172, 130),
    (176, 116, 78),
    (112, 72, 52),
    (236, 188, 150),
)
_HAIRS: tuple[Colour, ...] = (
    (44, 32, 28),
    (96, 60, 36),
    (214, 170, 90),
    (160, 80, 40),
    (180, 178, 176),
)
_CLOTHES: tuple[Colour, ...] = (
    (206, 54, 52),
    (46, 96, 176),
    (240, 190, 60),
    (60, 140, 90),
    (236, 236, 232),
    (120, 70, 140),
    (232, 120, 150),
    (50, 56, 74),
    (240, 130, 60),
)


def person(pen: Pen) -> None:
    """A person who stands, walks or waves; trousers, shorts, skirt or dress, hat or none."""
    skin, hair = pen.vary(pen.pick(_SKINS), 8), pen.pick(_HAIRS)
    top, bottom = pen.vary(pen.pick(_CLOTHES)), pen.vary(pen.pick(_CLOTHES))
    stride = pen.some(0.0, 0.12)
    style = int(pen.rng.integers(4))
    leg = skin if style >= 2 else bottom
    shoe: Colour = pen.pick(((50.0, 40.0, 40.0), (230.0, 230.0, 230.0), (150.0, 40.0, 40.0)))
    far = [(0.05, 0.74), (0.1 + stride * 0.4, 0.6), (0.12 + stride, 0.46)]
    pen.limb(far, 0.07, 0.05, shade(top, -0.3))
    pen.oval(far[-1][0], far[-1][1], 0.03, 0.03, shade(skin, -0.15))
    for foot, tint in ((stride, -0.25), (-stride, 0.0)):
        hip = 0.03 if tint else -0.03
        pen.limb(
            [(hip, 0.46), (hip + foot * 0.4, 0.24), (hip + foot, 0.04)],
            0.11,
            0.06,
            shade(leg, tint),
        )
        if style == 2:
            pen.limb([(hip, 0.46), (hip + foot * 0.4, 0.27)], 0.13, 0.11, shade(bottom, tint))
        pen.oval(hip + foot + 0.03, 0.025, 0.065, 0.028, shoe)
    if style == 3:
        pen.poly([(-0.07, 0.52), (0.07, 0.52), (0.16, 0.24), (-0.16, 0.24)], bottom)
    pen.blob(
        [
            (-0.1, 0.44),
            (-0.09, 0.6),
            (-0.13, 0.74),
            (-0.06, 0.81),
            (0.06, 0.81),
            (0.12, 0.74),
            (0.09, 0.6),
            (0.1, 0.44),
        ],
        top,
    )
    long_hair = pen.chance(0.45)
    if long_hair:
        pen.blob([(-0.11, 0.94), (-0.13, 0.8), (-0.1, 0.7), (0.02, 0.72), (0.04, 0.9)], hair)
    pen.limb([(0.0, 0.78), (0.01, 0.85)], 0.06, 0.06, shade(skin, -0.12))
    pen.oval(0.015, 0.905, 0.082, 0.092, skin)
    pen.oval(0.05, 0.91, 0.012, 0.015, (30, 24, 26))
    pen.blob(
        [
            (-0.07, 0.88),
            (-0.085, 0.95),
            (-0.03, 1.0),
            (0.06, 0.995),
            (0.09, 0.945),
            (0.02, 0.955),
            (-0.03, 0.92),
        ],
        hair,
    )
    hat = pen.some(0, 1)
    if hat < 0.16:
        straw: Colour = (234.0, 206.0, 140.0)
        pen.oval(0.01, 0.97, 0.17, 0.025, shade(straw, -0.15))
        pen.blob([(-0.08, 0.97), (-0.07, 1.04), (0.07, 1.04), (0.09, 0.97)], straw)
    elif hat < 0.3:
        pen.blob([(-0.085, 0.95), (-0.07, 1.02), (0.03, 1.03), (0.09, 0.96)], bottom)
        pen.limb([(0.06, 0.965), (0.16, 0.955)], 0.025, 0.02, shade(bottom, -0.2))
    near = [(-0.08, 0.74), (-0.14, 0.6), (-0.1 - stride, 0.46)]
    if pen.chance(0.22):
        near = [(-0.08, 0.74), (-0.2, 0.82), (-0.22, 0.98)]
    pen.limb(near, 0.075, 0.05, shade(top, -0.12))
    pen.oval(near[-1][0], near[-1][1], 0.032, 0.032, skin)
    if pen.chance(0.25):
        pen.blob(
            [(-0.12, 0.54), (-0.2, 0.6), (-0.2, 0.74), (-0.1, 0.76)],
            shade(pen.pick(_CLOTHES), -0.1),
        )


def sitter(pen: Pen) -> None:
    """A person who sits on the ground, the knees drawn up."""
    skin, hair = pen.vary(pen.pick(_SKINS), 8), pen.pick(_HAIRS)
    top, bottom = pen.vary(pen.pick(_CLOTHES)), pen.vary(pen.pick(_CLOTHES))
    pen.limb([(-0.14, 0.12), (0.2, 0.4), (0.34, 0.06)], 0.2, 0.11, shade(bottom, -0.2))
    pen.blob(
        [(-0.28, 0.02), (-0.26, 0.34), (-0.2, 0.58), (0.0, 0.6), (0.06, 0.34), (0.06, 0.04)], top
    )
    pen.limb([(-0.1, 0.12), (0.26, 0.4), (0.44, 0.06)], 0.2, 0.11, bottom)
    pen.oval(0.5, 0.04, 0.1, 0.045, (60, 44, 44))
    pen.oval(-0.06, 0.78, 0.16, 0.18, skin)
    pen.oval(0.02, 0.8, 0.02, 0.026, (30, 24, 26))
    pen.blob(
        [
            (-0.22, 0.7),
            (-0.24, 0.9),
            (-0.1, 1.0),
            (0.08, 0.95),
            (0.08, 0.87),
            (-0.06, 0.88),
            (-0.12, 0.74),
        ],
        hair,
    )
    pen.limb([(-0.14, 0.52), (0.04, 0.36), (0.24, 0.42)], 0.12, 0.08, shade(top, -0.18))
    pen.oval(0.26, 0.43, 0.05, 0.05, skin)


def cyclist(pen: Pen) -> None:
    """Somebody's upper body and leg, to be drawn over a bicycle."""
    skin, hair = pen.vary(pen.pick(_SKINS), 8), pen.pick(_HAIRS)
    top, bottom = pen.vary(pen.pick(_CLOTHES)), pen.vary(pen.pick(_CLOTHES))
    pen.limb([(-0.14, 0.6), (0.06, 0.48), (0.0, 0.22)], 0.1, 0.06, bottom)
    pen.oval(0.04, 0.2, 0.06, 0.025, (40, 36, 40))
    pen.limb([(-0.14, 0.58), (0.0, 0.86)], 0.15, 0.14, top)
    pen.limb([(0.0, 0.82), (0.12, 0.68), (0.25, 0.64)], 0.07, 0.05, shade(top, -0.2))
    pen.oval(0.06, 1.0, 0.075, 0.085, skin)
    pen.blob(
        [(-0.02, 0.98), (-0.02, 1.06), (0.06, 1.1), (0.14, 1.05), (0.06, 1.04)],
        hair if pen.chance(0.5) else top,
    )


def snowman(pen: Pen) -> None:
    """A snowman: three balls, a carrot, coals, a hat and a scarf."""
    snow: Colour = (240.0, 245.0, 252.0)
    pen.oval(0, 0.2, 0.26, 0.21, shade(snow, -0.08))
    pen.oval(0, 0.5, 0.195, 0.165, shade(snow, -0.03))
    for side, lift in ((-1, pen.some(-0.05, 0.2)), (1, pen.some(-0.05, 0.2))):
        pen.limb(
            [(side * 0.17, 0.52), (side * 0.3, 0.56 + lift / 2), (side * 0.42, 0.6 + lift)],
            0.03,
            0.015,
            (90, 62, 44),
        )
    pen.oval(0, 0.74, 0.145, 0.13, snow)
    for v in (0.56, 0.48, 0.4):
        pen.oval(0.02, v, 0.02, 0.02, (40, 38, 44))
    for u in (-0.045, 0.07):
        pen.oval(u, 0.78, 0.018, 0.018, (30, 28, 34))
    pen.poly([(0.02, 0.765), (0.22, 0.725), (0.02, 0.715)], (240, 130, 40))
    cloth: Colour = pen.pick(((206.0, 50.0, 56.0), (50.0, 110.0, 180.0), (70.0, 150.0, 90.0)))
    pen.limb([(-0.13, 0.645), (0.0, 0.62), (0.13, 0.645)], 0.06, 0.06, cloth)
    pen.limb([(-0.07, 0.62), (-0.1, 0.44)], 0.06, 0.06, shade(cloth, -0.15))
    pen.limb([(-0.17, 0.855), (0.17, 0.855)], 0.03, 0.03, (44, 40, 50))
    pen.rect(-0.1, 0.85, 0.1, 1.0, (44, 40, 50))
    pen.rect(-0.1, 0.86, 0.1, 0.895, cloth)
