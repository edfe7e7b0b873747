"""Local binary patterns: how each pixel's eight neighbours on a circle compare with it."""

import numpy as np
from numpy.typing import NDArray

WIDTH = 59

_ONE = 1024
"""Fixed-point 1: in integers a plain area compares as equal exactly, whatever its grey."""

_NEAR = round(_ONE * np.sqrt(0.5))
"""A diagonal neighbour on the circle of radius 1 lies that far from the centre on both axes."""


def _uniform_places() -> NDArray[np.uint8]:
    """Pattern -> place: the 58 with at most two changes around the circle first, by value."""
    patterns = np.arange(256)
    bits = patterns[:, None] >> np.arange(8) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    uniform = changes <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, WIDTH - 1).astype(np.uint8)


_PLACES = _uniform_places()


def lbp_histogram(grey_SS: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shares of the pixels by uniform pattern, float32 [59]; they add up to 1.

    Eight neighbours on a circle of radius 1, the diagonal ones interpolated bilinearly, from the
    one on the right anticlockwise; bit p is set where neighbour p is no darker than the pixel.
    The last place is all patterns that are not uniform (Ojala et al. 2002). The pixels of the
    border have no pattern.
    """
    grey = grey_SS.astype(np.int32)
    centre = grey[1:-1, 1:-1]
    full = centre * (_ONE * _ONE)
    far = _ONE - _NEAR
    height, width = grey.shape

    def moved(down: int, right: int) -> NDArray[np.int32]:
        return grey[1 + down : height - 1 + down, 1 + right : width - 1 + right]

    pattern = np.zeros(centre.shape, dtype=np.uint8)
    around = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    for bit, (down, right) in enumerate(around):
        corner = moved(down, right)
        if down and right:
            value = corner * (_NEAR * _NEAR)
            value += (moved(down, 0) + moved(0, right)) * (_NEAR * far)
            value += centre * (far * far)
            is_set = value >= full
        else:
            is_set = corner >= centre
        pattern |= is_set.view(np.uint8) << np.uint8(bit)
    counts_256 = np.bincount(pattern.ravel(), minlength=256)
    counts = np.bincount(_PLACES, weights=counts_256, minlength=WIDTH)
    return (counts / pattern.size).astype(np.float32)
