"""How alike a tag's weights and a picture's representation are: Sun et al., Eq. 4, in NumPy."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Similarity = Literal["cosine", "linear", "rbf"]

TEMPERATURES: dict[Similarity, float] = {"cosine": 0.18, "linear": 1.0, "rbf": 0.18}
"""µ of section 4.1, which Eq. 4 and 5 do not name again: taken as what a similarity is divided by
before the softmax. Without it a cosine could not tell one of many tags from the others."""

SIGMA = 2.0
LEAST = 1e-6
"""A shorter vector has no direction."""


def similarities(
    found_BH: NDArray[np.float32], tags_VH: NDArray[np.float32], kind: Similarity
) -> NDArray[np.float32]:
    """S(W, x) of every tag for every picture, float32 [B, V].

    For 'rbf', exp(-|W - x|² / (2 · SIGMA)), the representation has unit length: the distance of
    one of any length would leave the exponential without a gradient.
    """
    if kind == "linear":
        linear_BV: NDArray[np.float32] = found_BH @ tags_VH.T
        return linear_BV
    directions_BH = found_BH / _lengths(found_BH)
    if kind == "cosine":
        cosine_BV: NDArray[np.float32] = directions_BH @ (tags_VH / _lengths(tags_VH)).T
        return cosine_BV
    squares_BV = (
        np.square(directions_BH).sum(1)[:, None]
        + np.square(tags_VH).sum(1)
        - 2 * (directions_BH @ tags_VH.T)
    )
    rbf_BV: NDArray[np.float32] = np.exp(-squares_BV / np.float32(2 * SIGMA))
    return rbf_BV


def _lengths(rows_BH: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths_B1: NDArray[np.float32] = np.linalg.norm(rows_BH, axis=1, keepdims=True)
    return np.maximum(lengths_B1, np.float32(LEAST))
