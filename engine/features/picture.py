"""A picture as the features see it: a square of 256 px, whatever size came in."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorpusError

SIDE = 256
"""Pixels a side; Sun et al. resize every picture to that (section 2)."""


def square(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole picture in uint8 RGB [SIDE, SIDE, 3]; its aspect ratio is not kept.

    Args:
        pixels_HWC: uint8 RGB [H, W, 3] of at least one pixel.

    Raises:
        CorpusError: it is something else.
    """
    if pixels_HWC.dtype != np.uint8 or pixels_HWC.ndim != 3 or pixels_HWC.shape[2] != 3:
        raise CorpusError(
            f"features are of pictures in uint8 RGB [H, W, 3], found {pixels_HWC.dtype} "
            f"{list(pixels_HWC.shape)}; decode pictures with engine.image.decode"
        )
    height, width = pixels_HWC.shape[:2]
    if height == 0 or width == 0:
        raise CorpusError(f"a picture of {width} x {height} pixels has no features; leave it out")
    if height == width == SIDE:
        return np.ascontiguousarray(pixels_HWC)
    shrinks = height >= SIDE and width >= SIDE
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(pixels_HWC), (SIDE, SIDE), interpolation=way)
    return np.asarray(resized, dtype=np.uint8)


def grey_of(square_SS3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma (BT.601) uint8 [SIDE, SIDE]."""
    return np.asarray(cv2.cvtColor(square_SS3, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
