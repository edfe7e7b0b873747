"""Tileless noise fields that give the drawn pictures their fur, leaf, water and cloud textures."""

from functools import cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
Kind = Literal["grain", "fur", "leaf", "cloud", "water", "bark"]

SIDE = 640
_SEED = 20090


def _filtered(white: FloatImage, kind: Kind) -> FloatImage:
    if kind == "grain":
        return cv2.GaussianBlur(white, (0, 0), 0.9).astype(np.float32)
    if kind == "fur":
        streak = np.zeros((15, 15), np.float32)
        cv2.line(streak, (4, 1), (10, 13), (1.0,), 1, cv2.LINE_AA)
        return cv2.filter2D(white, -1, streak).astype(np.float32)
    if kind == "leaf":
        fine = cv2.GaussianBlur(white, (0, 0), 2.2) - cv2.GaussianBlur(white, (0, 0), 6.0)
        return fine.astype(np.float32)
    if kind == "cloud":
        total = np.zeros_like(white)
        for sigma in (40.0, 20.0, 10.0, 5.0, 2.5):
            octave = cv2.GaussianBlur(white, (0, 0), sigma)
            total += (octave / octave.std() * sigma**0.75).astype(np.float32)
        return total
    if kind == "water":
        return cv2.GaussianBlur(white, (0, 0), sigmaX=14.0, sigmaY=1.3).astype(np.float32)
    return cv2.GaussianBlur(white, (0, 0), sigmaX=1.2, sigmaY=9.0).astype(np.float32)


@cache
def field(kind: Kind) -> FloatImage:
    """The noise field of one kind: (SIDE, SIDE) float32, zero mean, unit spread, within +-2.5."""
    white = np.random.default_rng(_SEED).standard_normal((SIDE, SIDE), dtype=np.float32)
    made = _filtered(white, kind)
    made = (made - made.mean()) / made.std()
    clipped: FloatImage = np.clip(made, -2.5, 2.5).astype(np.float32)
    # Cached and shared by every picture, so no caller may write into it.
    clipped.setflags(write=False)
    return clipped


def patch(kind: Kind, height: int, width: int, rng: np.random.Generator) -> FloatImage:
    """A (height, width) float32 view into the field of that kind, at a place the generator picks.

    Raises ValueError when the patch asked for is larger than SIDE either way.
    """
    if height > SIDE or width > SIDE:
        raise ValueError(f"a noise patch of {height} x {width} is larger than {SIDE} x {SIDE}")
    top = int(rng.integers(SIDE - height + 1))
    left = int(rng.integers(SIDE - width + 1))
    return field(kind)[top : top + height, left : left + width]
