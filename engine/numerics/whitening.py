"""Shrunk whitening of the embedding, for linear methods that are fitted by gradients."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from engine.group import Group


def shrunk_whitening(
    blocks: Iterable[NDArray[np.floating]], shrinkage: float, group: Group
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [D] and whitening [D, D] of the rows of all the group's blocks; at least one block.

    (x - mean) @ whitening has a squared length of 1 on average, the same in every direction but
    for those with a variance below the shrinkage.

    Args:
        shrinkage: added to the eigenvalues of the covariance, in units of their mean.
    """
    count: float = 0.0
    sum_D: NDArray[np.float64] | float = 0.0
    square_DD: NDArray[np.float64] | float = 0.0
    for rows_BD in blocks:
        block = rows_BD.astype(np.float64)
        count += len(block)
        sum_D = sum_D + block.sum(0)
        square_DD = square_DD + block.T @ block
    count = float(group.sum(np.array([count]))[0])
    mean_D = group.sum(np.asarray(sum_D)) / count
    covariance_DD = group.sum(np.asarray(square_DD)) / count - np.outer(mean_D, mean_D)
    values, vectors = linalg.eigh(covariance_DD)
    values = np.maximum(values, 0)
    spread = max(float(values.mean()), 1e-12)
    whiten_DD = vectors / np.sqrt(values + shrinkage * spread)
    # One scale for all directions: the squared length of a picture is then 1 on average.
    length = np.sqrt((values / (values + shrinkage * spread)).sum())
    return mean_D.astype(np.float32), (whiten_DD / max(length, 1e-12)).astype(np.float32)
