"""The light over a finished drawing: night and dusk, haze, blur, vignette, grain, exposure."""

from functools import cache

import cv2
import numpy as np

from engine.sample.canvas import ByteImage, Canvas
from engine.sample.noise import FloatImage, patch
from engine.sample.stage import Mood


@cache
def _vignette(height: int, width: int) -> FloatImage:
    """Squared distance to the middle: (height, width, 1) float32, 1 in the corners."""
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    return ((x**2 + y**2) / 2)[..., None].astype(np.float32)


def expose(canvas: Canvas, mood: Mood) -> ByteImage:
    """The picture as the camera has it: (H, W, 3) uint8 RGB at the final size.

    What glows by itself keeps its colour at night and spills light around it.
    """
    rng = canvas.rng
    size = (canvas.width, canvas.height)
    image = cv2.resize(canvas.rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    cast = rng.uniform(0.97, 1.03, 3) * rng.uniform(0.96, 1.13)
    tint = (np.array(mood.tint) / 255.0 * cast).astype(np.float32)
    lit: FloatImage = np.asarray(image * tint, np.float32)
    if any(canvas.glowing) and (canvas.dark or mood.name == "sunset"):
        table = np.zeros(256, np.uint8)
        table[: len(canvas.glowing)] = np.array(canvas.glowing, np.uint8) * 255
        mask = cv2.resize(cv2.LUT(canvas.ids, table), size, interpolation=cv2.INTER_AREA)
        share = (mask.astype(np.float32) / 255)[..., None]
        glowing = image * share
        lit = np.asarray(lit * (1 - share) + glowing, np.float32)
        small = cv2.resize(glowing, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        spill = cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.5), size)
        lit += spill * np.float32(0.75)
    lit *= 1 - np.float32(rng.uniform(0.0, 0.2)) * _vignette(canvas.height, canvas.width)
    grain = patch("grain", canvas.height, canvas.width, rng)[..., None]
    lit += grain * np.float32(rng.uniform(0.4, 2.4))
    if rng.random() < 0.12:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.5, 0.9))), np.float32)
    contrast = np.float32(rng.uniform(0.93, 1.06))
    exposed: ByteImage = np.clip((lit - 128) * contrast + 128, 0, 255).astype(np.uint8)
    return exposed
