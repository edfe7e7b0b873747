"""SIFT of the intensity, of invariant colours and of R, G and B, on a dense grid and on corners."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.features.picture import SIDE

DIRECTIONS = 8
CELL = 4
"""Pixels between the centres of the 4 x 4 cells of a descriptor; it covers 16 x 16 px."""

DESCRIPTOR = 4 * 4 * DIRECTIONS
STEP = 8
"""Pixels between the points of the dense grid."""

HARRIS_POINTS = 200
"""Corners at most, the strongest; none weaker than `HARRIS_QUALITY` of the strongest."""

HARRIS_QUALITY, HARRIS_APART, HARRIS_K = 0.01, 5, 0.04

KINDS: dict[str, tuple[int, int]] = {"sift": (0, 1), "c-sift": (0, 3), "rgb-sift": (3, 6)}
"""Which of the channels of `channels` a kind of descriptor has: from, to."""

OFFSETS = np.array([-6, -2, 2, 6])
"""Of the cells' centres from the point."""

MARGIN = 8

_DARK = 10.0
"""Grey levels that are added to the intensity under the invariant colours: in the dark they are
noise."""

_FAINT = 0.5
"""A descriptor as weak as this before its scaling stays weak: a plain area is no texture."""

_TENT = np.array([1, 2, 3, 4, 3, 2, 1], dtype=np.float32) / 4
"""Weights by which a pixel counts in the cells around it: linear interpolation (Lowe 2004)."""

_distance = np.square(OFFSETS[:, None]) + np.square(OFFSETS[None, :])
_WINDOW_16 = np.exp(-_distance.ravel() / (2 * 8.0**2)).astype(np.float32)
"""Lowe's Gaussian of half the descriptor's width, taken at the cells' centres."""


def channels(square_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """I, O1/O3, O2/O3, R, G and B, float32 [SIDE, SIDE, 6].

    C-SIFT is of the first three: with I = (R+G+B)/3, the opponent colours O1 = (R-G)/√2 and
    O2 = (R+G-2B)/√6 over O3 = (R+G+B)/√3 do not change when all the light does (van de Sande et
    al. 2010, section 3.4, after Geusebroek's invariant C). They are multiplied by 255.
    """
    plain = square_SS3.astype(np.float32)
    red, green, blue = cv2.split(plain)
    intensity = (red + green + blue) / np.float32(3)
    light = (intensity + np.float32(_DARK)) * np.float32(np.sqrt(3) / 255)
    first = (red - green) / (light * np.float32(np.sqrt(2)))
    second = (red + green - 2 * blue) / (light * np.float32(np.sqrt(6)))
    return np.asarray(cv2.merge([intensity, first, second, red, green, blue]), dtype=np.float32)


def cells(plane_SS: NDArray[np.float32]) -> NDArray[np.float32]:
    """Around each pixel of a channel the strength of the gradients by direction, [SIDE, SIDE, 8].

    The gradient is half the difference of a pixel's neighbours; direction d is d · 45°, from the x
    axis towards the y axis, which points down; between two a gradient counts in both, as in space.
    """
    border = cv2.BORDER_REPLICATE
    right = cv2.filter2D(plane_SS, cv2.CV_32F, _HALF_DIFFERENCE, borderType=border)
    down = cv2.filter2D(plane_SS, cv2.CV_32F, _HALF_DIFFERENCE.T, borderType=border)
    strength, angle = cv2.cartToPolar(right, down)
    turn = angle.ravel() * np.float32(DIRECTIONS / (2 * np.pi))
    lower = turn.astype(np.int32)
    over = strength.ravel() * (turn - lower)
    start = np.arange(0, turn.size * DIRECTIONS, DIRECTIONS, dtype=np.int32)
    by_direction = np.zeros(turn.size * DIRECTIONS, dtype=np.float32)
    by_direction[start + (lower & 7)] = strength.ravel() - over
    by_direction[start + (lower + 1 & 7)] = over
    planes = by_direction.reshape(*plane_SS.shape, DIRECTIONS)
    summed = cv2.sepFilter2D(planes, cv2.CV_32F, _TENT, _TENT, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(summed, dtype=np.float32)


_HALF_DIFFERENCE = np.array([[-0.5, 0, 0.5]], dtype=np.float32)


def dense_points() -> NDArray[np.int64]:
    """(x, y) of the grid's 31 x 31 points, row by row, [961, 2]."""
    along = np.arange(MARGIN, SIDE - MARGIN + 1, STEP)
    y, x = np.meshgrid(along, along, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def harris_points(grey_SS: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(x, y) of Harris's corners, the strongest first, [P, 2]; there may be none.

    Only those whose descriptor lies within the picture.
    """
    inside = np.zeros(grey_SS.shape, dtype=np.uint8)
    inside[MARGIN : SIDE - MARGIN + 1, MARGIN : SIDE - MARGIN + 1] = 1
    found = cv2.goodFeaturesToTrack(
        grey_SS,
        HARRIS_POINTS,
        HARRIS_QUALITY,
        HARRIS_APART,
        mask=inside,
        blockSize=3,
        useHarrisDetector=True,
        k=HARRIS_K,
    )
    if found is None:
        return np.zeros((0, 2), dtype=np.int64)
    return np.rint(found.reshape(-1, 2)).astype(np.int64)


def descriptors(
    planes_SSC: NDArray[np.float32], points_P2: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The upright descriptors of the channels at some points, float32 [P, C, 128].

    Each channel's is brought to unit length, cut at 0.2 and brought to unit length again (Lowe
    2004, section 6.1). Place (row · 4 + column) · 8 + direction.
    """
    x_P4 = points_P2[:, :1] + OFFSETS
    y_P4 = points_P2[:, 1:] + OFFSETS
    width = planes_SSC.shape[1]
    places_PK = (y_P4[:, :, None] * width + x_P4[:, None, :]).reshape(len(points_P2), -1)
    found = np.empty((len(points_P2), planes_SSC.shape[2], 16, DIRECTIONS), dtype=np.float32)
    # Channel by channel: what is made of one stays in the core's cache.
    for channel in range(planes_SSC.shape[2]):
        around = cells(np.ascontiguousarray(planes_SSC[..., channel]))
        found[:, channel] = around.reshape(-1, DIRECTIONS)[places_PK]
    found *= _WINDOW_16[:, None]
    plain_PCD = found.reshape(*found.shape[:2], DESCRIPTOR)
    _to_unit_length(plain_PCD, _FAINT)
    np.minimum(plain_PCD, np.float32(0.2), out=plain_PCD)
    _to_unit_length(plain_PCD, 0.2)
    return plain_PCD


def _to_unit_length(x_PCD: NDArray[np.float32], least: float) -> None:
    length_PC = np.sqrt(np.einsum("pcd,pcd->pc", x_PCD, x_PCD))
    x_PCD /= np.maximum(length_PC, np.float32(least))[:, :, None]
