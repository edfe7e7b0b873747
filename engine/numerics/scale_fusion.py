"""Niu et al. 2017 in NumPy: feature maps fused from low to high, and noisy tags, as vectors."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Weights = Mapping[str, NDArray[np.float32]]


def visual_vectors(maps: Sequence[NDArray[np.float32]], weights: Weights) -> NDArray[np.float32]:
    """The visual feature vectors f_v: float32 [B, C] with the channels of the last scale.

    Eq. 2 and 3: M̂_1 = M_1, M̂_l = M_l + F_l(M̂_(l-1)), where F is a 3x3 convolution of stride 2, then
    a 1x1 convolution, each with batch normalisation (here part of its weights) and a rectifier. The
    mean of M̂_K over its places is f_v. Each channel of M_l is first brought to the mean 0 and the
    variance 1 that it has over the training pictures.

    Args:
        maps: [B, S, S, C] by scale, S halved from one to the next.
        weights: `mean<l>` and `scale<l>` [C] of each scale l from 0; for l > 0 also `wide<l>`
            [9·C', C'] and `wide_bias<l>` of the 3x3 convolution, its window row by row and the
            channels C' of the scale before it innermost, and `narrow<l>` [C', C], `narrow_bias<l>`
            of the 1x1 convolution. Without these the last scale speaks alone.
    """
    last = len(maps) - 1
    start = 0 if f"wide{last}" in weights else last
    fused = _standard(maps[start], weights, start)
    for scale in range(start + 1, len(maps)):
        hidden = strided_windows(fused) @ weights[f"wide{scale}"] + weights[f"wide_bias{scale}"]
        hidden = np.maximum(hidden, 0) @ weights[f"narrow{scale}"] + weights[f"narrow_bias{scale}"]
        fused = _standard(maps[scale], weights, scale) + np.maximum(hidden, 0)
    found_BC: NDArray[np.float32] = fused.mean(axis=(1, 2))
    return found_BC


def _standard(map_BSSC: NDArray[np.float32], weights: Weights, scale: int) -> NDArray[np.float32]:
    standard: NDArray[np.float32] = (map_BSSC - weights[f"mean{scale}"]) * weights[f"scale{scale}"]
    return standard


def strided_windows(map_BSSC: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a 3x3 convolution of stride 2 sees from each of its places: [B, S/2, S/2, 9·C].

    The map has a border of zeros one place wide. Window row by row, channels innermost. S is even.
    """
    side = map_BSSC.shape[1]
    bordered = np.pad(map_BSSC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [
        bordered[:, row : row + side : 2, column : column + side : 2]
        for row in range(3)
        for column in range(3)
    ]
    return np.concatenate(parts, axis=-1)


def textual_vectors(words_BW: sparse.csr_matrix, weights: Weights) -> NDArray[np.float32]:
    """The textual feature vectors f_t: what the second of two rectified layers says of the words.

    Section III.B. Args:
        words_BW: which of the W noisy tags a picture has.
        weights: `words1` [W, H], `words2` [H, C], and `words1_bias`, `words2_bias`.
    """
    hidden_BH = np.maximum(words_BW @ weights["words1"] + weights["words1_bias"], 0)
    found_BC: NDArray[np.float32] = hidden_BH @ weights["words2"] + weights["words2_bias"]
    return np.maximum(found_BC, 0)
