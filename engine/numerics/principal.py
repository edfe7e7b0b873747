"""Principal axes of features from their covariance: exact for few features, sketched for many."""

import numpy as np
from numpy.typing import NDArray


def principal_axes(
    covariance_DD: NDArray[np.float64], components: int, seed: int
) -> NDArray[np.float32]:
    """Orthonormal axes float32 [D, L] of most of the variance, L = min(components, D).

    All of D are wanted: the axes are those of the features themselves, for no rotation is needed.
    Otherwise a randomised sketch with a power iteration finds them (Halko, Martinsson and Tropp
    2011), in a small part of the time of a full decomposition.

    Args:
        seed: of the sketch: the same one gives the same axes.
    """
    width = len(covariance_DD)
    if components >= width:
        return np.eye(width, dtype=np.float32)
    # Here, not above: the import takes a second that a fitted annotator need not pay.
    from sklearn.utils.extmath import randomized_svd

    axes_DL: NDArray[np.float32]
    axes_DL, _, _ = randomized_svd(
        covariance_DD.astype(np.float32), components, n_iter=1, random_state=seed
    )
    return np.ascontiguousarray(axes_DL)
