"""Features of several depths of a network, side by side, and how they are made comparable."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def normalised_levels(x_ND: NDArray[np.floating], levels: Sequence[int]) -> NDArray[np.float32]:
    """Signed square root, then unit length for each level by itself; float32 [N, D].

    The root evens out the few large features of a picture; the unit length lets a shallow level
    of 16 features count as much as the last one of 1,280.

    Args:
        levels: widths of the levels, which add up to D.
    """
    rooted_ND = np.sign(x_ND) * np.sqrt(np.abs(x_ND))
    parts = np.split(rooted_ND.astype(np.float32), np.cumsum(levels)[:-1], axis=1)
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    return np.concatenate(
        [part / np.maximum(length, 1e-12) for part, length in zip(parts, lengths, strict=True)],
        axis=1,
    ).astype(np.float32, copy=False)
