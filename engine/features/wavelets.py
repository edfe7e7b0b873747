"""Texture: how strong the details of a picture are, by size and orientation, in wavelets."""

import numpy as np
import pywt
from numpy.typing import NDArray

LEVELS = 6
WIDTH = LEVELS * 3 * 2

_WAVELET = pywt.Wavelet("db2")


def wavelet_texture(grey_SS: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean and deviation of the absolute coefficients of each band, float32 [36].

    Six levels of the pyramid transform with Daubechies' wavelet of two vanishing moments, the
    picture continued periodically; values of the picture are in [0, 1]. Place (level · 3 + band)
    · 2 + figure: the finest level first, the bands horizontal, vertical and diagonal detail, and
    of each the mean, then the deviation (Manjunath and Ma 1996, Eq. 9).
    """
    plain = grey_SS.astype(np.float32) / np.float32(255)
    pyramid = pywt.wavedec2(plain, _WAVELET, mode="periodization", level=LEVELS)
    bands = [np.abs(band) for details in reversed(pyramid[1:]) for band in details]
    figures = [(band.mean(dtype=np.float64), band.std(dtype=np.float64)) for band in bands]
    return np.array(figures, dtype=np.float32).ravel()
