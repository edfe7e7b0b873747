"""Drawings of churches, castles, windmills and the like; each fills its pen's unit of height."""

import math

from engine.sample.canvas import Colour, mix, shade
from engine.sample.pen import Pen
from engine.sample.things_buildings import courses


def church(pen: Pen) -> None:
    """A church: nave, steeple, cross and pointed windows."""
    wall = pen.vary(pen.pick(((238.0, 232.0, 220.0), (196.0, 182.0, 160.0), (176.0, 120.0, 96.0))))
    roof = pen.vary(pen.pick(((96.0, 92.0, 104.0), (150.0, 72.0, 56.0), (90.0, 130.0, 120.0))))
    pen.rect(-0.1, 0, 0.5, 0.3, shade(wall, -0.12))
    pen.poly([(-0.1, 0.29), (0.54, 0.29), (0.46, 0.48), (-0.1, 0.48)], roof)
    for u in (0.12, 0.26, 0.4):
        pen.pane(u - 0.03, 0.09, u + 0.03, 0.2, 0.7)
        pen.oval(u, 0.2, 0.03, 0.04, (96, 120, 150))
    pen.rect(-0.3, 0, -0.04, 0.6, wall)
    pen.rect(-0.1, 0, -0.04, 0.6, shade(wall, -0.18))
    pen.poly([(-0.33, 0.59), (-0.01, 0.59), (-0.17, 0.92)], roof)
    pen.poly([(-0.13, 0.59), (-0.01, 0.59), (-0.17, 0.92)], shade(roof, -0.25))
    pen.line([(-0.17, 0.9), (-0.17, 1.0)], 0.018, (230, 200, 110))
    pen.line([(-0.205, 0.965), (-0.135, 0.965)], 0.018, (230, 200, 110))
    pen.oval(-0.18, 0.5, 0.045, 0.045, (248, 244, 232))
    pen.mark([(-0.18, 0.53), (-0.18, 0.5), (-0.16, 0.49)], 0.01, (40, 36, 40))
    pen.rect(-0.23, 0, -0.13, 0.15, (96, 60, 44))
    pen.oval(-0.18, 0.15, 0.05, 0.06, (96, 60, 44))
    pen.pane(-0.21, 0.3, -0.15, 0.4)


def castle(pen: Pen) -> None:
    """A castle: towers, battlements, a gate, flags."""
    stone = pen.vary(
        pen.pick(((178.0, 170.0, 160.0), (200.0, 184.0, 152.0), (150.0, 146.0, 152.0)))
    )
    cone = pen.vary(pen.pick(((70.0, 96.0, 150.0), (160.0, 64.0, 56.0), (96.0, 92.0, 110.0))))

    def battlements(left: float, right: float, high: float, colour: Colour) -> None:
        teeth = 5
        for k in range(teeth):
            u = left + (right - left) * k / teeth
            pen.rect(u, high, u + (right - left) * 0.55 / teeth, high + 0.04, colour)

    pen.rect(-0.16, 0.2, 0.18, 0.72, shade(stone, -0.14))
    battlements(-0.16, 0.2, 0.72, shade(stone, -0.14))
    pen.rect(-0.5, 0, 0.5, 0.36, stone)
    battlements(-0.5, 0.5, 0.36, stone)
    courses(pen, -0.5, 0, 0.5, 0.36, 0.05, stone)
    for u, high, roofed in ((-0.5, 0.56, True), (0.5, 0.56, True), (0.02, 0.8, pen.chance(0.7))):
        half = 0.095
        pen.rect(u - half, 0.0 if abs(u) > 0.1 else 0.6, u + half, high, shade(stone, 0.08))
        pen.rect(u + half * 0.3, 0.0 if abs(u) > 0.1 else 0.6, u + half, high, shade(stone, -0.22))
        if roofed:
            pen.poly([(u - half * 1.3, high), (u + half * 1.3, high), (u, high + 0.24)], cone)
            pen.poly(
                [(u + half * 0.3, high), (u + half * 1.3, high), (u, high + 0.24)],
                shade(cone, -0.28),
            )
            pen.line([(u, high + 0.22), (u, high + 0.32)], 0.012, (80, 70, 70))
            pen.poly([(u, high + 0.32), (u + 0.09, high + 0.295), (u, high + 0.27)], (220, 60, 56))
        else:
            battlements(u - half, u + half, high, stone)
        pen.pane(u - 0.02, high - 0.16, u + 0.02, high - 0.06, 0.8)
    pen.rect(-0.09, 0, 0.09, 0.16, (70, 50, 42))
    pen.oval(0, 0.16, 0.09, 0.08, (70, 50, 42))
    for u in (-0.06, -0.02, 0.02, 0.06):
        pen.mark([(u, 0.01), (u, 0.21)], 0.01, (130, 104, 84))
    for u in (-0.3, 0.28):
        pen.pane(u - 0.02, 0.18, u + 0.02, 0.27, 0.8)


def windmill(pen: Pen) -> None:
    """A windmill with four sails at any angle."""
    wall = pen.vary(pen.pick(((238.0, 232.0, 222.0), (170.0, 120.0, 88.0), (210.0, 196.0, 170.0))))
    pen.poly([(-0.2, 0), (0.2, 0), (0.12, 0.62), (-0.12, 0.62)], wall)
    pen.poly([(0.06, 0), (0.2, 0), (0.12, 0.62), (0.04, 0.62)], shade(wall, -0.22))
    pen.blob(
        [(-0.14, 0.6), (-0.1, 0.72), (0.0, 0.77), (0.1, 0.72), (0.14, 0.6), (0, 0.6)], (126, 66, 50)
    )
    pen.rect(-0.055, 0, 0.055, 0.16, (104, 70, 50))
    for v in (0.28, 0.45):
        pen.pane(-0.035, v, 0.035, v + 0.08)
    turn = pen.some(0, math.tau / 4)
    for k in range(4):
        angle = turn + k * math.tau / 4
        cos, sin = math.cos(angle), math.sin(angle)

        def along(
            far: float, side: float, cos: float = cos, sin: float = sin
        ) -> tuple[float, float]:
            return (far * cos - side * sin, 0.66 + far * sin + side * cos)

        pen.poly(
            [along(0.1, 0), along(0.42, 0), along(0.42, 0.1), along(0.1, 0.1)], (244, 238, 224)
        )
        pen.line([along(0, 0), along(0.44, 0)], 0.022, (90, 66, 50))
        for far in (0.1, 0.18, 0.26, 0.34, 0.42):
            pen.line([along(far, 0), along(far, 0.1)], 0.012, (120, 92, 70))
    pen.oval(0, 0.66, 0.03, 0.03, (70, 52, 44))


def barn(pen: Pen) -> None:
    """A barn with a gambrel roof, its white-crossed door, perhaps a silo."""
    wall = pen.vary(pen.pick(((168.0, 50.0, 44.0), (140.0, 92.0, 60.0), (180.0, 76.0, 50.0))))
    if pen.chance(0.5):
        pen.rect(0.62, 0, 0.86, 0.9, (196, 196, 200))
        pen.rect(0.76, 0, 0.86, 0.9, (150, 150, 160))
        pen.oval(0.74, 0.9, 0.12, 0.1, (170, 172, 182))
    outline = [
        (-0.55, 0),
        (0.55, 0),
        (0.55, 0.52),
        (0.4, 0.8),
        (0.0, 0.97),
        (-0.4, 0.8),
        (-0.55, 0.52),
    ]
    pen.poly(outline, wall)
    for k in range(1, 11):
        u = -0.55 + k * 0.1
        pen.mark([(u, 0), (u, 0.62 if abs(u) > 0.36 else 0.82)], 0.01, shade(wall, -0.25))
    pen.line([(-0.6, 0.5), (-0.42, 0.82), (0, 1.0), (0.42, 0.82), (0.6, 0.5)], 0.06, (92, 84, 88))
    pen.rect(-0.2, 0, 0.2, 0.4, shade(wall, -0.15))
    for points in (
        [(-0.2, 0), (0.2, 0.4)],
        [(-0.2, 0.4), (0.2, 0)],
        [(-0.2, 0), (-0.2, 0.4), (0.2, 0.4), (0.2, 0)],
    ):
        pen.line(points, 0.03, (244, 240, 232))
    pen.pane(-0.09, 0.58, 0.09, 0.74)
    pen.line(
        [(-0.1, 0.57), (0.1, 0.57), (0.1, 0.75), (-0.1, 0.75), (-0.1, 0.57)], 0.025, (244, 240, 232)
    )


def lighthouse(pen: Pen) -> None:
    """A lighthouse in bands, its lamp lit at night."""
    band: Colour = pen.pick(((206.0, 52.0, 48.0), (44.0, 70.0, 120.0), (60.0, 60.0, 66.0)))
    for k in range(5):
        low, high = k * 0.155, (k + 1) * 0.155
        a, b = 0.13 - low * 0.07, 0.13 - high * 0.07
        colour = band if k % 2 == 0 else (246.0, 244.0, 240.0)
        pen.poly([(-a, low), (a, low), (b, high), (-b, high)], colour)
        pen.poly([(a * 0.3, low), (a, low), (b, high), (b * 0.3, high)], shade(colour, -0.25))
    pen.rect(-0.11, 0.77, 0.11, 0.795, (60, 60, 68))
    pen.glow(pen.canvas.dark)
    pen.rect(-0.06, 0.795, 0.06, 0.89, (255, 236, 150))
    pen.glow(False)
    pen.line([(0, 0.795), (0, 0.89)], 0.012, (60, 60, 68))
    pen.poly([(-0.09, 0.885), (0.09, 0.885), (0, 0.99)], mix(band, (60, 50, 50), 0.3))
    pen.rect(-0.035, 0, 0.035, 0.1, (90, 60, 50))
    for v in (0.3, 0.52):
        pen.pane(-0.02, v, 0.02, v + 0.05)
