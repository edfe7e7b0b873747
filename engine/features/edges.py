"""Edges: a histogram of the directions in which Canny's edges go from dark to bright."""

import cv2
import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 36
WIDTH = DIRECTIONS + 1

LOW, HIGH = 100.0, 200.0
"""Canny's hysteresis thresholds on the length of Sobel's 3 x 3 gradient."""


def edge_directions(grey_SS: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shares of the edge pixels by direction, and the share of pixels on no edge, float32 [37].

    Place k of the first 36 is the directions within 5° of 10k°, counted anticlockwise from the x
    axis as one looks at the picture: 0 is a picture dark on its left and bright on its right, 9 one
    that is bright above. They add up to 1, or are all 0 where there is no edge. The last place is
    the share of all pixels that are on no edge (Vailaya et al. 2001).
    """
    right_SS = cv2.Sobel(grey_SS, cv2.CV_16S, 1, 0, borderType=cv2.BORDER_REPLICATE)
    down_SS = cv2.Sobel(grey_SS, cv2.CV_16S, 0, 1, borderType=cv2.BORDER_REPLICATE)
    places_E = np.flatnonzero(cv2.Canny(right_SS, down_SS, LOW, HIGH, L2gradient=True))
    x_E = right_SS.ravel()[places_E].astype(np.float32)
    y_E = -down_SS.ravel()[places_E].astype(np.float32)
    step = 2 * np.pi / DIRECTIONS
    nearest_E = np.rint(np.arctan2(y_E, x_E) / step).astype(np.int64) % DIRECTIONS
    counts = np.bincount(nearest_E, minlength=DIRECTIONS)
    found = np.empty(WIDTH, dtype=np.float32)
    found[:DIRECTIONS] = counts / max(len(places_E), 1)
    found[DIRECTIONS] = 1 - len(places_E) / grey_SS.size
    return found
