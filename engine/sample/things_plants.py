"""Drawings of trees, bushes and cacti; each fills its pen's unit of height."""

import math

from engine.sample.canvas import Colour, shade
from engine.sample.pen import Pen
from engine.sample.things_flowers import PETALS

_LEAVES: tuple[Colour, ...] = (
    (74, 132, 58),
    (104, 150, 60),
    (52, 112, 70),
    (132, 156, 66),
    (64, 124, 48),
)


_AUTUMN: tuple[Colour, ...] = ((206, 120, 40), (188, 74, 44), (222, 168, 56))


def _crown(pen: Pen, lobes: list[tuple[float, float, float]], leaf: Colour) -> None:
    """Foliage: lobes dark at the back, then lighter ones moved toward the light."""
    toward = -pen.canvas.light[0] * pen.facing
    for u, v, r in lobes:
        pen.oval(u, v, r, r * 0.92, shade(leaf, -0.34))
    for u, v, r in lobes:
        pen.oval(u - 0.02 * toward, v + 0.02, r * 0.86, r * 0.78, leaf)
    for u, v, r in lobes:
        pen.oval(u - r * 0.28 * toward, v + r * 0.3, r * 0.5, r * 0.44, shade(leaf, 0.16))
    for u, v, r in lobes:
        for _ in range(3):
            turn, far = pen.some(0, math.tau), pen.some(0.2, 0.9) * r
            tint = 0.28 if math.cos(turn) * -toward + math.sin(turn) > 0 else -0.4
            pen.oval(
                u + far * math.cos(turn),
                v + far * math.sin(turn) * 0.9,
                r * 0.13,
                r * 0.1,
                shade(leaf, tint),
            )


def broadleaf(pen: Pen) -> None:
    """An oak or apple tree: a round crown of many lobes on a forked trunk."""
    leaf = pen.vary(pen.pick(_AUTUMN) if pen.chance(0.14) else pen.pick(_LEAVES))
    bark = pen.vary((104.0, 76.0, 54.0), 10)
    lean = pen.some(-0.04, 0.04)
    pen.limb([(0, 0), (lean / 2, 0.22), (lean, 0.5)], 0.1, 0.06, bark)
    pen.limb([(lean / 2, 0.26), (-0.1, 0.42), (-0.16, 0.52)], 0.05, 0.02, shade(bark, -0.1))
    pen.limb([(lean / 2, 0.26), (0.1, 0.42), (0.17, 0.52)], 0.05, 0.02, shade(bark, -0.2))
    wide = pen.some(0.2, 0.3)
    lobes = [(lean, 0.8, 0.18), (lean, 0.64, 0.2)]
    for turn in range(7):
        angle = turn * math.tau / 7 + pen.some(-0.3, 0.3)
        lobes.append(
            (lean + wide * math.cos(angle), 0.64 + 0.17 * math.sin(angle), pen.some(0.13, 0.2))
        )
    _crown(pen, lobes, leaf)
    if pen.chance(0.16):
        for _ in range(9):
            pen.oval(
                lean + pen.some(-0.28, 0.28), pen.some(0.48, 0.82), 0.022, 0.022, (214, 50, 44)
            )


def conifer(pen: Pen) -> None:
    """A fir: tiers of drooping branches."""
    leaf = pen.vary((44.0, 92.0, 66.0), 12)
    pen.rect(-0.03, 0, 0.03, 0.2, (92, 66, 48))
    tiers = 5
    toward = -pen.canvas.light[0] * pen.facing
    for tier in range(tiers):
        low = 0.1 + tier * 0.16
        wide = 0.27 * (1 - tier / (tiers + 0.6))
        high = min(1.0, low + 0.34)
        tint = shade(leaf, -0.2 + 0.07 * tier)
        fringe = [(wide * (1 - 2 * k / 6), low + (0.035 if k % 2 else 0.0)) for k in range(7)]
        pen.poly([(0, high), *fringe], tint)
        pen.poly(
            [(0, high), (-wide * toward * 0.95, low + 0.02), (-wide * toward * 0.25, low + 0.03)],
            shade(tint, 0.14),
        )


def snowy_fir(pen: Pen) -> None:
    """A fir with snow on its branches."""
    conifer(pen)
    for tier in range(5):
        low = 0.1 + tier * 0.16
        wide = 0.27 * (1 - tier / 5.6)
        pen.blob(
            [
                (-wide * 0.86, low + 0.03),
                (-wide * 0.3, low + 0.16),
                (0, low + 0.26),
                (wide * 0.3, low + 0.16),
                (wide * 0.86, low + 0.03),
                (wide * 0.3, low + 0.1),
                (0, low + 0.07),
                (-wide * 0.3, low + 0.1),
            ],
            (238, 244, 252),
        )


def poplar(pen: Pen) -> None:
    """A tall narrow tree: poplar or cypress."""
    leaf = pen.vary(pen.pick(((60.0, 110.0, 60.0), (90.0, 140.0, 66.0))))
    pen.rect(-0.025, 0, 0.025, 0.2, (96, 72, 52))
    lobes = [
        (pen.some(-0.02, 0.02), 0.2 + 0.09 * k, 0.125 * math.sin(0.6 + 2.3 * k / 7))
        for k in range(8)
    ]
    _crown(pen, lobes, leaf)


def bare_tree(pen: Pen) -> None:
    """A tree without leaves."""
    bark = pen.vary((92.0, 74.0, 64.0), 10)
    pen.limb([(0, 0), (0.01, 0.3), (-0.01, 0.6), (0.02, 0.95)], 0.09, 0.012, bark)
    for k in range(9):
        v = 0.28 + 0.07 * k
        side = -1 if k % 2 else 1
        reach = (0.36 - 0.03 * k) * pen.some(0.8, 1.1)
        tip = (side * reach, v + reach * pen.some(0.6, 0.9))
        pen.limb(
            [(0, v), (side * reach * 0.5, v + reach * 0.3), tip], 0.035 - 0.002 * k, 0.008, bark
        )
        pen.limb(
            [(side * reach * 0.5, v + reach * 0.3), (side * reach * 0.62, v + reach * 0.85)],
            0.018,
            0.007,
            bark,
        )


def acacia(pen: Pen) -> None:
    """The flat-topped tree of the savanna."""
    leaf = pen.vary((112.0, 128.0, 56.0), 12)
    for u in (-0.3, 0.0, 0.28):
        pen.limb([(0, 0.0), (u * 0.2, 0.35), (u, 0.72)], 0.07, 0.025, (96, 72, 50))
    _crown(
        pen,
        [(u, 0.78 + 0.05 * math.cos(u * 5), 0.13) for u in (-0.45, -0.28, -0.1, 0.1, 0.28, 0.45)],
        leaf,
    )


def tree(pen: Pen) -> None:
    """A tree of the temperate kinds."""
    pen.pick((broadleaf, broadleaf, broadleaf, conifer, poplar))(pen)


def winter_tree(pen: Pen) -> None:
    """A tree in snow."""
    pen.pick((snowy_fir, snowy_fir, bare_tree))(pen)


def palm(pen: Pen) -> None:
    """A palm: a bowed ringed trunk and a tuft of fronds."""
    lean = pen.some(-0.22, 0.22)
    bark = pen.vary((150.0, 116.0, 78.0), 10)
    top = (lean, 0.76)
    pen.limb([(0, 0), (lean * 0.3, 0.35), top], 0.075, 0.042, bark)
    for k in range(9):
        along = 0.08 + k * 0.075
        u = lean * (0.3 * along / 0.46 if along < 0.46 else along) * 0.98
        pen.mark([(u - 0.025, along * 0.98), (u + 0.025, along * 0.98)], 0.008, shade(bark, -0.35))
    leaf = pen.vary((70.0, 136.0, 62.0), 14)
    for k in range(9):
        angle = math.radians(-28 + 236 * k / 8 + pen.some(-8, 8))
        reach = pen.some(0.27, 0.36)
        du, dv = math.cos(angle) * reach, math.sin(angle) * reach * 0.7
        tip = (top[0] + du, top[1] + dv - 0.1)
        bow = (top[0] + du * 0.55, top[1] + dv * 0.75 + 0.04)
        tint = shade(leaf, 0.16 if k % 2 else -0.18)
        pen.blob([top, (bow[0], bow[1] + 0.035), tip, (bow[0], bow[1] - 0.045)], tint)
        pen.mark([top, bow, tip], 0.006, shade(leaf, -0.45))
    for u in (-0.03, 0.025):
        pen.oval(top[0] + u, top[1] - 0.02, 0.028, 0.03, (110, 74, 44))


def bush(pen: Pen) -> None:
    """A round bush, in bloom at times."""
    leaf = pen.vary(pen.pick(_LEAVES))
    lobes = [
        (u, pen.some(0.32, 0.62), pen.some(0.24, 0.36)) for u in (-0.45, -0.2, 0.05, 0.28, 0.48)
    ]
    _crown(pen, lobes, leaf)
    if pen.chance(0.3):
        bloom = pen.pick(PETALS)
        for u, v, r in lobes * 3:
            pen.oval(u + r * pen.some(-0.8, 0.8), v + r * pen.some(-0.6, 0.6), 0.05, 0.05, bloom)


def cactus(pen: Pen) -> None:
    """A saguaro with arms, or a cluster of them."""
    green = pen.vary((86.0, 140.0, 82.0), 12)
    pen.limb([(0, 0), (0, 0.5), (0, 0.92)], 0.17, 0.15, green)
    arms = ((1, pen.some(0.4, 0.55)), (-1, pen.some(0.3, 0.45)))
    for side, v in arms if pen.chance(0.8) else arms[:1]:
        pen.limb(
            [(0, v), (side * 0.2, v + 0.02), (side * 0.24, v + 0.12), (side * 0.24, v + 0.28)],
            0.1,
            0.1,
            shade(green, -0.08),
        )
    for u in (-0.045, 0.0, 0.045):
        pen.mark([(u, 0.05), (u, 0.5), (u, 0.94)], 0.012, shade(green, -0.35))
    for _ in range(16):
        u, v = pen.some(-0.06, 0.06), pen.some(0.1, 0.92)
        pen.mark([(u, v), (u + 0.02, v + 0.02)], 0.009, (244, 240, 206))
    if pen.chance(0.4):
        pen.oval(0, 1.0, 0.05, 0.03, (232, 70, 130))
