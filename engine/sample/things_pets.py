"""Drawings of dogs and cats; each fills its pen's unit of height, facing right."""

from engine.sample.canvas import Colour, shade
from engine.sample.legs import legs
from engine.sample.pen import Pen

_DOGS: tuple[Colour, ...] = (
    (176, 118, 66),
    (226, 190, 130),
    (92, 62, 44),
    (66, 60, 64),
    (236, 228, 214),
    (196, 140, 92),
)


_CATS: tuple[Colour, ...] = (
    (226, 142, 62),
    (120, 118, 122),
    (60, 56, 62),
    (240, 232, 220),
    (186, 156, 120),
)


def dog(pen: Pen) -> None:
    """A dog that walks or sits; floppy or pricked ears, plain or patched."""
    coat = pen.vary(pen.pick(_DOGS))
    patch = shade(coat, -0.4) if pen.chance(0.7) else (240.0, 232.0, 220.0)
    sitting = pen.chance(0.35)
    tail = pen.some(0.72, 0.95)
    if sitting:
        pen.limb([(-0.26, 0.08), (-0.42, 0.1), (-0.5, 0.3)], 0.09, 0.05, shade(coat, -0.15))
        pen.blob(
            [
                (-0.32, 0.02),
                (-0.34, 0.22),
                (-0.2, 0.45),
                (0.02, 0.66),
                (0.2, 0.6),
                (0.22, 0.35),
                (0.12, 0.08),
                (0.0, 0.0),
            ],
            coat,
        )
        pen.limb([(0.14, 0.45), (0.17, 0.2), (0.18, 0.03)], 0.13, 0.08, shade(coat, -0.1))
        pen.limb([(0.06, 0.4), (0.07, 0.2), (0.08, 0.02)], 0.13, 0.09, coat)
        pen.oval(0.13, 0.025, 0.07, 0.03, shade(coat, 0.15))
        pen.oval(-0.12, 0.14, 0.16, 0.13, shade(coat, -0.06))
        pen.oval(-0.02, 0.03, 0.1, 0.032, shade(coat, 0.1))
        shift, drop = -0.4, -0.02
    else:
        legs(pen, (-0.36, -0.3, 0.28, 0.2), 0.42, 0.075, coat, shade(coat, 0.15))
        pen.limb([(-0.42, 0.6), (-0.56, 0.66), (-0.64, tail)], 0.09, 0.045, shade(coat, -0.1))
        pen.blob(
            [
                (-0.47, 0.6),
                (-0.25, 0.68),
                (0.1, 0.67),
                (0.36, 0.74),
                (0.42, 0.56),
                (0.32, 0.36),
                (0.0, 0.37),
                (-0.25, 0.42),
                (-0.45, 0.42),
            ],
            coat,
        )
        if pen.chance(0.5):
            pen.oval(-0.15, 0.58, 0.16, 0.09, patch, 5)
        shift, drop = 0.0, 0.0
    pen.limb([(0.28 + shift * 0.6, 0.6 + drop), (0.44 + shift, 0.82 + drop)], 0.26, 0.18, coat)
    if not sitting:
        pen.limb(
            [(0.3, 0.73), (0.41, 0.63)],
            0.04,
            0.035,
            pen.pick(((200.0, 40.0, 40.0), (40.0, 90.0, 190.0))),
        )
    head, chin = 0.54 + shift, 0.84 + drop
    pen.oval(head, chin, 0.16, 0.145, coat)
    pen.oval(head + 0.16, chin - 0.05, 0.13, 0.075, shade(coat, 0.22), -6)
    pen.oval(head + 0.275, chin - 0.015, 0.035, 0.03, (24, 20, 24))
    pen.mark(
        [(head + 0.27, chin - 0.07), (head + 0.17, chin - 0.1), (head + 0.12, chin - 0.085)],
        0.014,
        (50, 30, 30),
    )
    pen.oval(head + 0.06, chin + 0.04, 0.026, 0.03, (24, 18, 20))
    pen.oval(head + 0.068, chin + 0.05, 0.009, 0.01, (255, 255, 255))
    if pen.chance(0.65):
        pen.blob(
            [
                (head - 0.12, chin + 0.13),
                (head - 0.01, chin + 0.12),
                (head - 0.02, chin - 0.06),
                (head - 0.1, chin - 0.16),
                (head - 0.17, chin - 0.04),
            ],
            shade(patch, -0.1),
        )
    else:
        pen.poly(
            [(head - 0.13, chin + 0.06), (head - 0.11, chin + 0.28), (head + 0.02, chin + 0.12)],
            shade(coat, -0.3),
        )
        pen.poly(
            [(head - 0.04, chin + 0.1), (head + 0.0, chin + 0.27), (head + 0.08, chin + 0.1)],
            shade(coat, -0.15),
        )


def cat(pen: Pen) -> None:
    """A cat sitting and looking at you, or walking with its tail up."""
    coat = pen.vary(pen.pick(_CATS))
    stripe = shade(coat, -0.38)
    belly = shade(coat, 0.45)
    walking = pen.chance(0.4)
    if walking:
        legs(pen, (-0.36, -0.3, 0.26, 0.2), 0.36, 0.07, coat, belly)
        pen.limb([(-0.4, 0.5), (-0.56, 0.62), (-0.56, 0.9), (-0.46, 1.0)], 0.09, 0.06, coat)
        pen.blob(
            [
                (-0.45, 0.52),
                (-0.2, 0.6),
                (0.1, 0.56),
                (0.36, 0.6),
                (0.4, 0.42),
                (0.25, 0.28),
                (-0.1, 0.28),
                (-0.42, 0.34),
            ],
            coat,
        )
        for u in (-0.3, -0.18, -0.06, 0.06):
            pen.mark([(u, 0.58), (u + 0.03, 0.48), (u, 0.4)], 0.03, stripe)
        head, brow = 0.45, 0.66
    else:
        pen.limb([(-0.2, 0.06), (-0.42, 0.06), (-0.46, 0.24), (-0.34, 0.36)], 0.1, 0.07, stripe)
        pen.blob(
            [
                (-0.28, 0.03),
                (-0.3, 0.25),
                (-0.17, 0.52),
                (0.0, 0.64),
                (0.17, 0.52),
                (0.3, 0.25),
                (0.28, 0.03),
                (0.0, 0.0),
            ],
            coat,
        )
        for u, v in ((-0.25, 0.24), (-0.22, 0.36), (-0.26, 0.14)):
            pen.mark([(u, v), (u + 0.1, v - 0.01)], 0.028, stripe)
            pen.mark([(-u, v), (-u - 0.1, v - 0.01)], 0.028, stripe)
        pen.blob([(-0.1, 0.5), (0.1, 0.5), (0.11, 0.2), (0.0, 0.1), (-0.11, 0.2)], belly)
        pen.limb([(-0.08, 0.34), (-0.09, 0.05)], 0.1, 0.09, shade(coat, 0.08))
        pen.limb([(0.08, 0.34), (0.09, 0.05)], 0.1, 0.09, shade(coat, 0.08))
        pen.oval(-0.1, 0.035, 0.07, 0.036, belly)
        pen.oval(0.1, 0.035, 0.07, 0.036, belly)
        head, brow = 0.0, 0.74
    for side in (-1, 1):
        pen.poly(
            [
                (head + side * 0.06, brow + 0.14),
                (head + side * 0.2, brow + 0.27),
                (head + side * 0.22, brow + 0.02),
            ],
            coat,
        )
        pen.poly(
            [
                (head + side * 0.1, brow + 0.14),
                (head + side * 0.18, brow + 0.22),
                (head + side * 0.19, brow + 0.07),
            ],
            (226, 160, 156),
        )
    pen.oval(head, brow, 0.24, 0.195, coat)
    for u in (-0.06, 0.0, 0.06):
        pen.mark([(head + u, brow + 0.18), (head + u * 0.7, brow + 0.1)], 0.024, stripe)
    eye: Colour = pen.pick(((150.0, 190.0, 70.0), (230.0, 180.0, 50.0), (110.0, 170.0, 210.0)))
    for side in (-1, 1):
        pen.oval(head + side * 0.095, brow + 0.025, 0.052, 0.048, eye)
        pen.oval(head + side * 0.095, brow + 0.025, 0.017, 0.044, (16, 14, 18))
        pen.oval(head + side * 0.052, brow - 0.085, 0.07, 0.055, belly)
        for lift in (-0.03, 0.0, 0.03):
            pen.mark(
                [(head + side * 0.1, brow - 0.08), (head + side * 0.3, brow - 0.085 + lift * 1.6)],
                0.008,
                (250, 248, 240),
            )
    pen.poly(
        [(head - 0.03, brow - 0.03), (head + 0.03, brow - 0.03), (head, brow - 0.065)],
        (214, 112, 116),
    )
