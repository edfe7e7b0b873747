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


def unit_levels(x_ND: NDArray[np.floating], levels: Sequence[int]) -> NDArray[np.float32]:
    """`normalised_levels` of unit length together, float32 [N, D]: inner products are cosines."""
    made_ND = normalised_levels(x_ND, levels)
    lengths_N1 = np.linalg.norm(made_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float32] = made_ND / np.maximum(lengths_N1, 1e-12)
    return unit_ND


def deepest_levels(levels: Sequence[int], depth: int) -> tuple[tuple[int, ...], NDArray[np.int64]]:
    """The last layer and the `depth` - 1 deepest stages of an embedding, or all if it has fewer.

    An embedding begins with the last layer, then come the stages from the shallowest on.

    Returns:
        The widths of the chosen levels, and their columns in the embedding, int64.
    """
    chosen = [0, *range(max(1, len(levels) - depth + 1), len(levels))]
    ends = np.cumsum([0, *levels])
    columns = [np.arange(ends[level], ends[level + 1]) for level in chosen]
    return tuple(levels[level] for level in chosen), np.concatenate(columns).astype(np.int64)
