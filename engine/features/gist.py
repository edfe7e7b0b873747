"""GIST: the energy of 20 Gabor filters in 4 x 4 cells, of each of the three colour channels."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

CELLS = 4
ORIENTATIONS = (8, 8, 4)
"""Filters a scale, the finest scale first."""

FILTERS = sum(ORIENTATIONS)
WIDTH = 3 * FILTERS * CELLS * CELLS

INNER, MARGIN = 128, 16
"""The picture's side, and by how much it is continued by reflection on each side."""

OUTER = INNER + 2 * MARGIN
HALF = OUTER // 2

CUT_OFF = 4.0
"""Cycles a picture below which the local mean and contrast are taken out."""


def transfer_functions() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The filters of Oliva and Torralba (2001): what passes [20, OUTER, OUTER], and where most.

    Scale i passes most around 0.3/1.85^i cycles a pixel. The second array [20, 2] is each filter's
    own frequency (rows, columns) in steps of 1/OUTER.
    """
    steps = np.fft.fftfreq(OUTER)
    radius = np.hypot(steps[:, None], steps[None, :])
    angle = np.arctan2(steps[:, None], steps[None, :])
    filters, centres = [], []
    for scale, orientations in enumerate(ORIENTATIONS):
        frequency = 0.3 / 1.85**scale
        sharpness = 16 * orientations**2 / 32**2
        for turn in range(orientations):
            towards = np.pi / orientations * turn
            off = np.angle(np.exp(1j * (angle + towards)))
            radial = -10 * 0.35 * (radius / frequency - 1) ** 2
            filters.append(np.exp(radial - 2 * sharpness * np.pi * off**2))
            at = frequency * np.array([-np.sin(towards), np.cos(towards)])
            centres.append(np.rint(at * OUTER).astype(np.int64))
    return np.stack(filters), np.stack(centres)


def _windows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of each filter the half band [HALF, HALF] around its own frequency, and its places.

    What lies outside is next to nothing. Moving a band to the middle changes the phase of the
    response, but not its size; so an inverse transform of half the side gives every second pixel
    of it, and that is enough for the mean over a cell.
    """
    filters, centres = transfer_functions()
    reach = np.arange(-HALF // 2, HALF // 2)
    rows = (centres[:, :1] + reach) % OUTER
    columns = (centres[:, 1:] + reach) % OUTER
    places = rows[:, :, None] * OUTER + columns[:, None, :]
    bands = np.take_along_axis(filters.reshape(FILTERS, -1), places.reshape(FILTERS, -1), axis=1)
    # (HALF / OUTER)²: the inverse transform divides by its own size.
    scaled = bands.reshape(places.shape) * (HALF / OUTER) ** 2
    return scaled.astype(np.float32), places


_BANDS_FHH, _PLACES_FHH = _windows()


def gist(square_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean size of the filters' responses, float32 [960].

    Place ((channel · 20 + filter) · 4 + row) · 4 + column; channels R, G, B. The picture is
    shrunk to 128 px, its local contrast evened out, and it is continued by reflection.
    """
    even_3OO = even_contrast(square_SS3)
    spectrum = fft.fft2(even_3OO, workers=1).reshape(3, -1)
    bands = spectrum[:, _PLACES_FHH] * _BANDS_FHH
    response = fft.ifft2(bands, overwrite_x=True, workers=1)
    edge = MARGIN // 2
    inner = response[:, :, edge:-edge, edge:-edge]
    size = np.sqrt(inner.real**2 + inner.imag**2)
    cell = INNER // 2 // CELLS
    cells = size.reshape(3, FILTERS, CELLS, cell, CELLS, cell).mean(axis=(3, 5))
    return np.asarray(cells, dtype=np.float32).ravel()


def even_contrast(square_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The channels [3, OUTER, OUTER] without local mean and divided by the local contrast.

    The prefilter of Oliva and Torralba: log, less what is below `CUT_OFF`, over 0.2 more than the
    deviation around each pixel, which the three channels share.
    """
    small = cv2.resize(square_SS3, (INNER, INNER), interpolation=cv2.INTER_AREA)
    logs = np.log1p(small.astype(np.float32))
    margins = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    logs = np.pad(logs, margins, mode="symmetric")
    # exp(-f²/s²) over the frequency f, which halves at CUT_OFF, is a Gaussian over the pixels.
    deviation = INNER / (np.pi * np.sqrt(2) * CUT_OFF / np.sqrt(np.log(2)))
    detail = logs - _blurred(logs, deviation)
    contrast = np.sqrt(_blurred(np.square(detail.mean(axis=2)), deviation))
    even_OO3 = detail / (0.2 + contrast)[:, :, None]
    return np.ascontiguousarray(even_OO3.transpose(2, 0, 1))


def _blurred(x: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    blurred = cv2.GaussianBlur(x, (0, 0), deviation, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, dtype=np.float32)
