"""How a four-legged animal stands: its legs in mid-step."""

from engine.sample.canvas import Colour, shade
from engine.sample.pen import Pen


def legs(
    pen: Pen, hips: tuple[float, ...], top: float, thick: float, coat: Colour, hoof: Colour
) -> None:
    """Four legs in mid-step: the far pair (darker) is to be drawn before the body."""
    swing = pen.some(-0.06, 0.06)
    for index, hip in enumerate(hips):
        far = index % 2 == 0
        colour = shade(coat, -0.32) if far else shade(coat, -0.08)
        step = swing if far else -swing
        foot = hip + step + (0.03 if far else 0.0)
        lift = 0.03 if far else 0.0
        knee = (hip + foot) / 2 + 0.015
        pen.limb([(hip, top), (knee, top * 0.5), (foot, lift + 0.03)], thick * 1.5, thick, colour)
        pen.oval(foot + 0.02, lift + 0.025, thick * 0.75, 0.03, hoof)
