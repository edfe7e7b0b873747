"""Drawings of houses and city blocks; each fills its pen's unit of height."""

from engine.sample.canvas import Colour, shade
from engine.sample.pen import Pen

_WALLS: tuple[Colour, ...] = (
    (236, 220, 190),
    (214, 150, 110),
    (240, 236, 226),
    (178, 200, 210),
    (224, 196, 120),
    (190, 90, 70),
    (206, 170, 180),
)


_ROOFS: tuple[Colour, ...] = ((166, 70, 52), (120, 66, 56), (84, 88, 104), (140, 100, 70))


_CONCRETE: tuple[Colour, ...] = (
    (178, 172, 168),
    (150, 128, 118),
    (120, 134, 152),
    (196, 186, 166),
    (160, 92, 76),
    (112, 118, 130),
    (206, 200, 196),
)


def courses(
    pen: Pen, left: float, low: float, right: float, high: float, step: float, wall: Colour
) -> None:
    """Courses of brick or board: only where they are wide enough to be seen."""
    if step * pen.size < 2.2:
        return
    v = low + step
    while v < high:
        pen.mark([(left, v), (right, v)], 0.3 / pen.size, shade(wall, -0.14))
        for _ in range(2):
            u = pen.some(left, right - step * 2)
            pen.rect(
                u,
                v - step * 0.9,
                min(right, u + step * 1.8),
                v - step * 0.1,
                shade(wall, pen.some(-0.14, 0.1)),
            )
        v += step


def house(pen: Pen) -> None:
    """A cottage: its gable end, or its long side with a chimney; one storey or two."""
    wall, roof = pen.vary(pen.pick(_WALLS)), pen.vary(pen.pick(_ROOFS))
    wide = pen.some(0.5, 0.72)
    eaves = pen.some(0.48, 0.6)
    if pen.chance(0.75):
        u = pen.some(-0.6, 0.5) * wide
        pen.rect(u, 0.7, u + 0.11, 1.06, shade(pen.pick(_ROOFS), -0.1))
        pen.rect(u - 0.015, 1.03, u + 0.125, 1.08, shade(roof, -0.35))
    pen.rect(-wide, 0, wide, eaves, wall)
    courses(pen, -wide, 0, wide, eaves, 0.07, wall)
    gable = pen.chance(0.5)
    if gable:
        split = wide * pen.some(-0.1, 0.2)
        pen.poly([(split, 0), (wide, 0), (wide, eaves), (split, eaves)], shade(wall, -0.2))
        middle = (-wide + split) / 2
        pen.poly([(-wide, eaves), (split, eaves), (middle, 0.97)], wall)
        pen.poly(
            [
                (split + 0.05, eaves - 0.04),
                (wide + 0.06, eaves - 0.04),
                (wide - 0.12, 0.98),
                (middle, 1.0),
            ],
            roof,
        )
        pen.poly(
            [
                (-wide - 0.07, eaves - 0.05),
                (middle, 1.02),
                (split + 0.07, eaves - 0.05),
                (split, eaves - 0.05),
                (middle, 0.93),
                (-wide, eaves - 0.05),
            ],
            shade(roof, -0.25),
        )
        pen.oval(middle, eaves + 0.16, 0.055, 0.055, (90, 110, 128))
        door, panes = middle, ((split + wide) / 2, -wide + 0.14, split - 0.14)
    else:
        pen.poly(
            [
                (-wide - 0.07, eaves - 0.03),
                (wide + 0.07, eaves - 0.03),
                (wide - 0.1, 0.96),
                (-wide + 0.1, 0.96),
            ],
            roof,
        )
        for k in range(1, 5):
            v = eaves - 0.03 + k * 0.09
            pen.mark([(-wide + 0.01 * k, v), (wide - 0.01 * k, v)], 0.012, shade(roof, -0.25))
        pen.rect(-wide, eaves - 0.07, wide, eaves - 0.03, shade(wall, -0.35))
        door, panes = wide * pen.some(-0.2, 0.2), (-wide * 0.62, wide * 0.62, -wide * 0.62)
    painted: Colour = pen.pick(
        ((122.0, 60.0, 44.0), (50.0, 90.0, 120.0), (60.0, 110.0, 80.0), (150.0, 44.0, 48.0))
    )
    pen.rect(door - 0.085, 0, door + 0.085, 0.31, shade(wall, 0.3))
    pen.rect(door - 0.07, 0, door + 0.07, 0.295, painted)
    pen.oval(door + 0.045, 0.14, 0.012, 0.012, (240, 210, 110))
    for u in panes:
        if abs(u - door) > 0.17:
            pen.rect(u - 0.105, 0.17, u + 0.105, 0.4, shade(wall, 0.45))
            pen.pane(u - 0.085, 0.19, u + 0.085, 0.38)
            pen.line([(u, 0.19), (u, 0.38)], 0.014, shade(wall, 0.45))
            pen.line([(u - 0.085, 0.285), (u + 0.085, 0.285)], 0.014, shade(wall, 0.45))
            if pen.chance(0.5):
                for side in (-1, 1):
                    pen.rect(u + side * 0.14 - 0.03, 0.17, u + side * 0.14 + 0.03, 0.4, painted)


def snowy_house(pen: Pen) -> None:
    """A log cabin with snow on the roof and smoke."""
    wood = pen.vary((128.0, 84.0, 54.0), 14)
    pen.rect(0.22, 0.66, 0.34, 1.0, (140, 120, 112))
    pen.rect(0.2, 0.97, 0.36, 1.03, (246, 250, 255))
    pen.rect(-0.6, 0, 0.6, 0.5, wood)
    for k in range(6):
        pen.mark([(-0.6, 0.06 + k * 0.08), (0.6, 0.06 + k * 0.08)], 0.016, shade(wood, -0.4))
    pen.blob(
        [
            (-0.76, 0.45),
            (-0.6, 0.58),
            (-0.3, 0.86),
            (0.0, 0.92),
            (0.3, 0.86),
            (0.6, 0.58),
            (0.76, 0.45),
            (0.4, 0.5),
            (0, 0.47),
            (-0.4, 0.5),
        ],
        (240, 246, 254),
    )
    pen.rect(-0.1, 0, 0.1, 0.32, shade(wood, -0.35))
    for u in (-0.36, 0.36):
        pen.rect(u - 0.115, 0.14, u + 0.115, 0.38, (236, 230, 220))
        pen.pane(u - 0.095, 0.16, u + 0.095, 0.36, lit=0.9)
        pen.line([(u, 0.16), (u, 0.36)], 0.015, (236, 230, 220))


def building(pen: Pen) -> None:
    """A block in the city: rows of windows, a shop below, something on the roof."""
    wall = pen.vary(pen.pick(_CONCRETE), 16)
    wide = pen.some(0.17, 0.34)
    side = wide * 0.28
    pen.poly([(wide - side, 0), (wide, 0.0), (wide, 0.975), (wide - side, 1.0)], shade(wall, -0.34))
    pen.rect(-wide, 0, wide - side, 1.0, wall)
    roof = int(pen.rng.integers(4))
    if roof == 0:
        pen.rect(-0.01, 1.0, 0.0, 1.12, (90, 90, 96))
    elif roof == 1:
        pen.rect(-wide * 0.5, 1.0, wide * 0.1, 1.04, shade(wall, -0.3))
    elif roof == 2:
        pen.rect(-wide - 0.015, 0.975, wide - side + 0.015, 1.0, shade(wall, 0.3))
    storeys = max(4, min(11, int(pen.size * 0.9 / 11)))
    columns = max(2, min(6, int(2 * wide * pen.size / 9)))
    band = 0.84 / storeys
    inner = 2 * wide - side
    cell = inner / (columns + 0.35)
    strip = pen.chance(0.2)
    for row in range(storeys):
        low = 0.13 + row * band
        if strip:
            pen.pane(-wide + 0.02, low + band * 0.2, wide - side - 0.02, low + band * 0.75, 0.35)
            continue
        for column in range(columns):
            left = -wide + cell * (column + 0.4)
            pen.pane(left, low + band * 0.22, left + cell * 0.58, low + band * 0.8, 0.42)
    shop = pen.vary(pen.pick(_WALLS), 20)
    pen.rect(-wide, 0, wide - side, 0.11, shade(wall, -0.35))
    pen.pane(-wide + 0.02, 0.015, -0.03, 0.075, 0.9)
    pen.pane(0.02, 0.0, wide - side - 0.03, 0.075, 0.8)
    pen.poly(
        [
            (-wide - 0.01, 0.11),
            (wide - side, 0.11),
            (wide - side + 0.02, 0.082),
            (-wide - 0.02, 0.082),
        ],
        shop,
    )
