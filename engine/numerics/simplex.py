"""Weights that are no less than 0 and add up to a given total: the way back to them."""

import numpy as np
from numpy.typing import NDArray


def project_to_simplex(point_K: NDArray[np.float64], total: float = 1.0) -> NDArray[np.float64]:
    """The nearest point with no negative entry whose entries add up to `total`.

    Duchi et al. 2008 ("Efficient projections onto the l1-ball"), figure 1.

    Args:
        total: above 0.
    """
    descending_K = np.sort(point_K)[::-1]
    excess_K = (np.cumsum(descending_K) - total) / np.arange(1, len(point_K) + 1)
    last = int(np.flatnonzero(descending_K > excess_K)[-1])
    projected: NDArray[np.float64] = np.maximum(point_K - excess_K[last], 0)
    return projected
