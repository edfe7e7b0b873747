"""Colour: a histogram over hue, saturation and value, and moments of L*a*b* in a grid of cells."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.features.picture import SIDE

HUES, SATURATIONS, VALUES = 8, 4, 4
HSV_WIDTH = HUES * SATURATIONS * VALUES

CELLS = 5
"""The grid is 5 x 5."""

LAB_WIDTH = CELLS * CELLS * 3 * 3

_BORDERS = np.round(np.linspace(0, SIDE, CELLS + 1)).astype(np.int64)
_STARTS, _SIZES = _BORDERS[:-1], np.diff(_BORDERS)


def _linear_light() -> NDArray[np.float32]:
    """The share of light that each of the 256 values of sRGB stands for (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear, dtype=np.float32)


_LINEAR = _linear_light()


def hsv_histogram(square_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shares of the pixels by hue, saturation and value, float32 [128]; they add up to 1.

    Place (h · 4 + s) · 4 + v: eight hues of 45° from 0° (red) on, four equal parts of saturation
    and four of value.
    """
    hsv_SS3 = np.asarray(cv2.cvtColor(square_SS3, cv2.COLOR_RGB2HSV_FULL), dtype=np.uint8)
    hue, saturation, value = hsv_SS3[..., 0] >> 5, hsv_SS3[..., 1] >> 6, hsv_SS3[..., 2] >> 6
    places = (hue * SATURATIONS + saturation) * VALUES + value
    counts = np.bincount(places.ravel(), minlength=HSV_WIDTH)
    return np.asarray(counts / places.size, dtype=np.float32)


def lab_moments(square_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean, deviation and skewness of L*, a* and b* in 5 x 5 cells, float32 [225].

    Place ((row · 5 + column) · 3 + channel) · 3 + moment. The skewness is the cube root of the
    third central moment, so that all moments are in the units of their channel (Stricker and
    Orengo 1995).
    """
    lab_SS3 = lab_of(square_SS3)
    mean_GG3 = _cell_means(lab_SS3)
    # The powers are of what is left without the mean: a plain cell's are then exactly 0.
    spread = np.repeat(np.repeat(mean_GG3.astype(np.float32), _SIZES, 0), _SIZES, 1)
    apart_SS3 = lab_SS3 - spread
    power_SS3 = apart_SS3 * apart_SS3
    variance_GG3 = _cell_means(power_SS3)
    third_GG3 = _cell_means(power_SS3 * apart_SS3)
    moments = np.stack([mean_GG3, np.sqrt(variance_GG3), np.cbrt(third_GG3)], axis=-1)
    return moments.ravel().astype(np.float32)


def lab_of(square_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The picture in L*a*b* (D65), float32 [SIDE, SIDE, 3]; L* is in [0, 100]."""
    # OpenCV's own way from sRGB reads between the lines of a table, and takes longer.
    linear_SS3 = cv2.LUT(square_SS3, _LINEAR)
    return np.asarray(cv2.cvtColor(linear_SS3, cv2.COLOR_LRGB2LAB), dtype=np.float32)


def _cell_means(x_SS3: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = np.add.reduceat(x_SS3, _STARTS, axis=0, dtype=np.float64)
    sums = np.add.reduceat(rows, _STARTS, axis=1)
    means: NDArray[np.float64] = sums / (_SIZES[:, None] * _SIZES[None, :])[:, :, None]
    return means
