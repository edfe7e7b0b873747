"""Drawings of the camel, elephant and giraffe; each fills its pen's unit, facing right."""

from engine.sample.canvas import Colour, mix, shade
from engine.sample.legs import legs
from engine.sample.pen import Pen


def camel(pen: Pen) -> None:
    """A camel, of one hump or two, sometimes under a blanket."""
    coat = pen.vary((200.0, 150.0, 92.0), 16)
    two = pen.chance(0.45)
    legs(pen, (-0.34, -0.27, 0.26, 0.19), 0.45, 0.055, coat, shade(coat, -0.4))
    pen.limb([(-0.4, 0.58), (-0.47, 0.5), (-0.46, 0.36)], 0.04, 0.03, shade(coat, -0.25))
    humps = (
        [(-0.26, 0.66), (-0.17, 0.83), (-0.06, 0.7), (0.06, 0.83), (0.16, 0.66)]
        if two
        else [(-0.22, 0.68), (-0.04, 0.87), (0.14, 0.68)]
    )
    pen.blob(
        [(-0.42, 0.58), *humps, (0.33, 0.6), (0.32, 0.44), (0.1, 0.4), (-0.18, 0.43), (-0.4, 0.44)],
        coat,
    )
    pen.limb([(0.26, 0.54), (0.42, 0.46), (0.53, 0.62), (0.55, 0.9)], 0.18, 0.09, coat)
    pen.mark([(0.34, 0.44), (0.46, 0.46), (0.53, 0.56)], 0.035, shade(coat, -0.3))
    pen.limb([(0.52, 0.92), (0.62, 0.93), (0.71, 0.87)], 0.12, 0.085, coat)
    pen.oval(0.73, 0.86, 0.05, 0.045, shade(coat, 0.2))
    pen.oval(0.6, 0.945, 0.016, 0.018, (20, 14, 12))
    pen.oval(0.5, 0.985, 0.025, 0.04, shade(coat, -0.3))
    if pen.chance(0.5):
        cloth: Colour = pen.pick(((180.0, 40.0, 46.0), (40.0, 90.0, 150.0), (120.0, 50.0, 120.0)))
        pen.poly([(-0.2, 0.72), (0.1, 0.72), (0.15, 0.44), (-0.23, 0.44)], cloth)
        for v in (0.5, 0.58, 0.66):
            pen.mark([(-0.21, v), (0.13, v)], 0.022, mix(cloth, (250, 220, 120), 0.7))


def elephant(pen: Pen) -> None:
    """An elephant: trunk down or raised, a great ear, tusks."""
    coat = pen.vary((142.0, 138.0, 144.0), 12)
    for u, far in ((-0.42, True), (0.2, True), (-0.28, False), (0.32, False)):
        colour = shade(coat, -0.3 if far else -0.06)
        pen.limb([(u, 0.5), (u, 0.25), (u, 0.06)], 0.24, 0.19, colour)
        pen.rect(u - 0.1, 0.0, u + 0.1, 0.09, colour)
        for toe in (-0.06, 0.0, 0.06):
            pen.oval(u + toe, 0.02, 0.022, 0.02, shade(coat, 0.5))
    pen.limb([(-0.58, 0.7), (-0.66, 0.5), (-0.64, 0.32)], 0.05, 0.025, shade(coat, -0.2))
    pen.blob(
        [
            (-0.6, 0.66),
            (-0.46, 0.87),
            (-0.1, 0.96),
            (0.25, 0.9),
            (0.42, 0.7),
            (0.36, 0.4),
            (0.0, 0.3),
            (-0.4, 0.34),
            (-0.58, 0.46),
        ],
        coat,
    )
    tip = (
        [(0.88, 0.6), (0.98, 0.82), (0.92, 0.98)]
        if pen.chance(0.35)
        else [(0.8, 0.36), (0.82, 0.14), (0.9, 0.08)]
    )
    pen.limb([(0.62, 0.76), (0.76, 0.6), *tip], 0.24, 0.07, shade(coat, 0.04))
    pen.oval(0.52, 0.78, 0.24, 0.22, coat)
    pen.limb([(0.62, 0.62), (0.78, 0.48), (0.92, 0.5)], 0.07, 0.025, (248, 240, 220))
    pen.blob(
        [(0.44, 0.92), (0.28, 0.95), (0.16, 0.76), (0.22, 0.5), (0.36, 0.46), (0.48, 0.68)],
        shade(coat, -0.16),
    )
    pen.blob(
        [(0.4, 0.86), (0.28, 0.88), (0.21, 0.74), (0.26, 0.56), (0.35, 0.55), (0.43, 0.7)],
        mix(coat, (206, 160, 160), 0.35),
    )
    pen.oval(0.6, 0.81, 0.022, 0.025, (20, 16, 18))


def giraffe(pen: Pen) -> None:
    """A giraffe: all neck, and a net of brown patches."""
    coat = pen.vary((236.0, 198.0, 120.0), 10)
    spot = pen.vary((160.0, 96.0, 44.0), 10)
    legs(pen, (-0.2, -0.16, 0.14, 0.1), 0.36, 0.035, coat, (60, 44, 36))
    pen.limb([(-0.24, 0.46), (-0.28, 0.32), (-0.27, 0.22)], 0.022, 0.03, spot)
    pen.blob(
        [
            (-0.25, 0.44),
            (-0.1, 0.5),
            (0.12, 0.56),
            (0.22, 0.5),
            (0.16, 0.34),
            (-0.05, 0.33),
            (-0.23, 0.34),
        ],
        coat,
    )
    pen.limb([(0.14, 0.46), (0.22, 0.66), (0.3, 0.9)], 0.17, 0.07, coat)
    pen.limb([(0.28, 0.93), (0.36, 0.91), (0.42, 0.865)], 0.075, 0.05, coat)
    for u in (0.26, 0.3):
        pen.limb([(u, 0.95), (u - 0.01, 0.99)], 0.016, 0.018, spot)
    pen.oval(0.23, 0.94, 0.05, 0.016, shade(coat, -0.2), 10)
    pen.oval(0.33, 0.93, 0.011, 0.012, (20, 14, 12))
    for row in range(3):
        for column in range(6):
            u = -0.19 + column * 0.064 + pen.some(-0.01, 0.01)
            pen.oval(u, 0.37 + row * 0.05 + column * 0.006, 0.024, 0.02, spot, pen.some(-40, 40))
    for step in range(9):
        along = step / 8
        pen.oval(
            0.15 + 0.14 * along + (0.02 if step % 2 else -0.02) * (1.2 - along),
            0.5 + 0.39 * along,
            0.024 - 0.01 * along,
            0.024,
            spot,
        )
