"""Regularised linear canonical correlation analysis, solved from second moments alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from engine.errors import CorpusError
from engine.numerics.moments import Moments


@dataclass(frozen=True)
class CCA:
    """Projections of two views onto L canonical directions, most correlated first.

    U = (X - mean_x) weights_x and V = (Y - mean_y) weights_y (Murthy et al. 2015, Eq. 4).
    """

    mean_x_D: NDArray[np.float64]
    mean_y_E: NDArray[np.float64]
    weights_x_DL: NDArray[np.float64]
    weights_y_EL: NDArray[np.float64]
    correlations_L: NDArray[np.float64]


def solve_cca(moments: Moments, regulariser: float, dimensions: int | None = None) -> CCA:
    """Maximise the correlation of the two projected views (Murthy et al. 2015, Eq. 1 and 2).

    Both covariances get `regulariser` times their mean eigenvalue on the diagonal, so that it
    means the same for any scale of a feature. Solved in float64 by whitening and one SVD:
    with Cxx = Rx Rxᵀ, the singular vectors of Rx⁻¹ Cxy Ry⁻ᵀ give the directions, its singular
    values the (regularised) correlations. Directions without variance drop out.

    Args:
        moments: of at least two paired rows.
        regulariser: above zero unless both covariances have full rank.
        dimensions: L; at most, and by default, min(D, E).

    Raises:
        CorpusError: fewer than two rows, or a view that never varies.
    """
    if moments.count < 2:
        raise CorpusError(
            f"CCA needs at least two pictures to correlate, found {moments.count:.0f}"
        )
    mean_x_D = moments.sum_x_D / moments.count
    mean_y_E = moments.sum_y_E / moments.count
    cov_xx_DD = moments.xx_DD / moments.count - np.outer(mean_x_D, mean_x_D)
    cov_yy_EE = moments.yy_EE / moments.count - np.outer(mean_y_E, mean_y_E)
    cov_xy_DE = moments.xy_DE / moments.count - np.outer(mean_x_D, mean_y_E)
    _check_varies(cov_xx_DD, mean_x_D, "pictures' embeddings")
    _check_varies(cov_yy_EE, mean_y_E, "tags' vectors")
    whiten_x_DD = _whitening(cov_xx_DD, regulariser)
    whiten_y_EE = _whitening(cov_yy_EE, regulariser)
    left, correlations, right = linalg.svd(
        whiten_x_DD.T @ cov_xy_DE @ whiten_y_EE, full_matrices=False
    )
    limit = min(len(correlations), dimensions or len(correlations))
    weights_x_DL = whiten_x_DD @ left[:, :limit]
    weights_y_EL = whiten_y_EE @ right.T[:, :limit]
    # An SVD leaves the sign of a direction to rounding; what follows may depend on it.
    largest_L = np.abs(weights_x_DL).argmax(axis=0)
    signs_L = np.sign(weights_x_DL[largest_L, np.arange(limit)])
    return CCA(
        mean_x_D,
        mean_y_E,
        weights_x_DL * signs_L,
        weights_y_EL * signs_L,
        np.minimum(correlations[:limit], 1.0),
    )


def _check_varies(
    covariance_DD: NDArray[np.float64], mean_D: NDArray[np.float64], view: str
) -> None:
    # The variance of equal rows is what rounding leaves of their squared mean, not quite zero.
    if np.trace(covariance_DD) <= 1e-12 * (mean_D @ mean_D):
        raise CorpusError(
            f"all the {view} are the same, so nothing correlates; a corpus needs pictures that "
            "differ in content and in tags"
        )


def _whitening(covariance_DD: NDArray[np.float64], regulariser: float) -> NDArray[np.float64]:
    """A matrix W with Wᵀ (C + λI) W = I on the directions that vary."""
    mean_eigenvalue = float(np.trace(covariance_DD)) / len(covariance_DD)
    values, vectors = linalg.eigh((covariance_DD + covariance_DD.T) / 2)
    values = values + regulariser * mean_eigenvalue
    kept = values > 1e-10 * values[-1]
    whitening: NDArray[np.float64] = vectors[:, kept] / np.sqrt(values[kept])
    return whitening
