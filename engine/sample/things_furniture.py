"""Drawings of what furnishes a room; each fills its pen's unit of height."""

from engine.sample.canvas import Colour, mix, shade
from engine.sample.pen import Pen

_CLOTHS: tuple[Colour, ...] = (
    (176, 70, 66),
    (70, 110, 150),
    (120, 146, 110),
    (226, 190, 110),
    (150, 110, 140),
    (210, 140, 96),
    (96, 100, 116),
)


_WOODS: tuple[Colour, ...] = ((156, 104, 62), (116, 74, 48), (200, 156, 106), (226, 220, 210))


def table(pen: Pen) -> None:
    """A table: square legs or a pedestal, bare or under a cloth."""
    wood = pen.vary(pen.pick(_WOODS[:3]), 10)
    if pen.chance(0.75):
        for u, far in ((-0.72, True), (0.74, True), (-0.92, False), (0.92, False)):
            pen.rect(
                u - 0.055,
                0.08 if far else 0.0,
                u + 0.055,
                0.9,
                shade(wood, -0.35 if far else -0.15),
            )
    else:
        pen.rect(-0.09, 0.06, 0.09, 0.9, shade(wood, -0.2))
        pen.blob([(-0.45, 0), (-0.1, 0.16), (0.1, 0.16), (0.45, 0)], shade(wood, -0.2))
    pen.rect(-1.0, 0.78, 1.0, 0.9, shade(wood, -0.25))
    pen.poly([(-0.9, 1.02), (0.9, 1.02), (1.08, 0.88), (-1.08, 0.88)], shade(wood, 0.12))
    pen.rect(-1.08, 0.84, 1.08, 0.89, shade(wood, -0.1))
    if pen.chance(0.35):
        cloth = pen.vary(pen.pick(_CLOTHS))
        pen.poly(
            [(-0.45, 1.02), (0.45, 1.02), (0.56, 0.88), (0.5, 0.6), (-0.5, 0.6), (-0.56, 0.88)],
            cloth,
        )
        for v in (0.66, 0.76):
            pen.mark([(-0.5, v), (0.5, v)], 0.03, shade(cloth, 0.5))


def chair(pen: Pen) -> None:
    """A wooden chair with a slatted back."""
    wood = pen.vary(pen.pick(_WOODS), 10)
    pen.line([(-0.22, 0.06), (-0.22, 0.5)], 0.05, shade(wood, -0.35))
    pen.line([(0.18, 0.06), (0.18, 0.5)], 0.05, shade(wood, -0.35))
    for u in (-0.28, 0.2):
        pen.line([(u, 0.5), (u - 0.05, 1.0)], 0.06, wood)
    for v in (0.64, 0.78, 0.92):
        pen.rect(-0.31, v - 0.035, 0.18, v + 0.035, shade(wood, 0.1))
    cushion = pen.pick(_CLOTHS) if pen.chance(0.5) else shade(wood, 0.12)
    pen.line([(-0.3, 0), (-0.3, 0.45)], 0.055, shade(wood, -0.1))
    pen.line([(0.3, 0), (0.3, 0.45)], 0.055, shade(wood, -0.1))
    pen.poly([(-0.25, 0.54), (0.22, 0.54), (0.35, 0.44), (-0.35, 0.44)], cushion)
    pen.rect(-0.35, 0.4, 0.35, 0.45, shade(cushion, -0.25))


def sofa(pen: Pen) -> None:
    """A sofa with cushions."""
    cloth = pen.vary(pen.pick(_CLOTHS))
    for u in (-1.0, 1.0):
        pen.rect(u - 0.05, 0, u + 0.05, 0.12, (80, 56, 42))
    pen.blob(
        [
            (-1.05, 0.3),
            (-1.06, 0.85),
            (-0.8, 1.0),
            (0.0, 1.0),
            (0.8, 1.0),
            (1.06, 0.85),
            (1.05, 0.3),
        ],
        shade(cloth, -0.12),
    )
    pen.mark([(0, 0.5), (0, 0.97)], 0.02, shade(cloth, -0.35))
    pen.rect(-1.05, 0.08, 1.05, 0.34, shade(cloth, -0.22))
    for side in (-0.5, 0.5):
        pen.blob(
            [
                (side - 0.48, 0.34),
                (side - 0.48, 0.5),
                (side, 0.55),
                (side + 0.48, 0.5),
                (side + 0.48, 0.34),
            ],
            shade(cloth, 0.1),
        )
    for u in (-1.1, 1.1):
        pen.rect(u - 0.13, 0.08, u + 0.13, 0.56, cloth)
        pen.oval(u, 0.58, 0.17, 0.13, shade(cloth, 0.1))
    for u in (-0.62, 0.6):
        if pen.chance(0.75):
            pillow = pen.vary(pen.pick(_CLOTHS), 20)
            lean = pen.some(-0.05, 0.05)
            pen.poly(
                [(u - 0.22, 0.5), (u + 0.22, 0.5 + lean), (u + 0.2, 0.86 + lean), (u - 0.22, 0.86)],
                pillow,
            )
            pen.mark([(u - 0.2, 0.68), (u + 0.2, 0.68 + lean)], 0.04, shade(pillow, 0.4))


def standing_lamp(pen: Pen) -> None:
    """A floor lamp with a shade that shines."""
    cloth: Colour = pen.pick(((250.0, 226.0, 160.0), (240.0, 180.0, 130.0), (236.0, 232.0, 214.0)))
    pen.oval(0, 0.02, 0.12, 0.025, (60, 54, 52))
    pen.rect(-0.014, 0, 0.014, 0.75, (90, 76, 62))
    pen.glow(pen.canvas.dark)
    pen.poly([(-0.19, 0.7), (0.19, 0.7), (0.1, 1.0), (-0.1, 1.0)], cloth)
    pen.poly([(-0.05, 0.7), (0.1, 0.7), (0.06, 1.0), (-0.02, 1.0)], shade(cloth, 0.5))
    pen.glow(False)


def hanging_lamp(pen: Pen) -> None:
    """A lamp that hangs from the ceiling."""
    tin: Colour = pen.pick(
        ((190.0, 60.0, 50.0), (60.0, 66.0, 74.0), (90.0, 140.0, 130.0), (240.0, 196.0, 90.0))
    )
    pen.line([(0, 0.3), (0, 1.0)], 0.025, (50, 46, 46))
    pen.glow(pen.canvas.dark)
    pen.oval(0, 0.07, 0.14, 0.08, (255, 244, 190))
    pen.glow(False)
    pen.blob(
        [
            (-0.38, 0.06),
            (-0.3, 0.24),
            (-0.08, 0.38),
            (0.08, 0.38),
            (0.3, 0.24),
            (0.38, 0.06),
            (0.0, 0.12),
        ],
        tin,
    )


def window(pen: Pen) -> None:
    """A window in the wall, with what is outside, and curtains."""
    frame: Colour = (244.0, 240.0, 232.0)
    cloth = pen.vary(pen.pick(_CLOTHS))
    sky: Colour = (24.0, 32.0, 66.0) if pen.canvas.dark else (166.0, 208.0, 238.0)
    pen.rect(-0.52, 0.0, 0.52, 1.0, frame)
    pen.rect(-0.46, 0.06, 0.46, 0.94, sky)
    hill: Colour = (30.0, 44.0, 52.0) if pen.canvas.dark else (120.0, 168.0, 96.0)
    pen.poly(
        [(-0.46, 0.06), (0.46, 0.06), (0.46, 0.3), (0.1, 0.42), (-0.2, 0.32), (-0.46, 0.36)], hill
    )
    if pen.chance(0.5):
        pen.oval(0.2, 0.5, 0.14, 0.14, mix(hill, (40, 90, 50), 0.5))
    pen.line([(0, 0.06), (0, 0.94)], 0.05, frame)
    pen.line([(-0.46, 0.52), (0.46, 0.52)], 0.05, frame)
    pen.rect(-0.6, -0.05, 0.6, 0.02, shade(frame, -0.15))
    pen.line([(-0.72, 1.04), (0.72, 1.04)], 0.035, (120, 90, 66))
    for side in (-1, 1):
        pen.blob(
            [
                (side * 0.68, 1.04),
                (side * 0.24, 1.03),
                (side * 0.4, 0.5),
                (side * 0.46, -0.04),
                (side * 0.68, -0.04),
            ],
            cloth,
        )
        for k in range(3):
            pen.mark(
                [(side * (0.62 - 0.1 * k), 1.0), (side * (0.62 - 0.06 * k), 0.0)],
                0.025,
                shade(cloth, -0.3),
            )


def picture_frame(pen: Pen) -> None:
    """A framed painting on the wall (clutter; what it shows is not the picture's subject)."""
    wide = pen.some(0.5, 0.8)
    ground = pen.vary(pen.pick(_CLOTHS), 20)
    pen.rect(-wide, 0, wide, 1, pen.pick(_WOODS))
    pen.rect(-wide + 0.09, 0.09, wide - 0.09, 0.91, shade(ground, 0.55))
    pen.oval(0, 0.45, wide * 0.4, 0.2, ground)
    pen.oval(wide * 0.2, 0.6, wide * 0.3, 0.12, shade(ground, -0.3))
