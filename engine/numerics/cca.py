"""Regularised linear canonical correlation analysis, solved from second moments alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from engine.errors import CorpusError
from engine.numerics.moments import Moments

X_VIEW = "pictures' embeddings"
Y_VIEW = "tags' vectors"
SHOWN = 5
"""Features that an error names before it only counts them."""


@dataclass(frozen=True)
class CCA:
    """Projections of two views onto L canonical directions, most correlated first.

    U = (X - mean_x) weights_x and V = (Y - mean_y) weights_y (Murthy et al. 2015, Eq. 4).

    Attributes:
        correlations_L: of U and V, direction by direction, in [0, 1]. With a regulariser they
            are smaller than the correlations on the same rows: the regularised variances divide.
        noise: the correlation that unrelated views would reach, see `noise_level`.
        constant_x, constant_y: features that never vary; their weights are zero.
    """

    mean_x_D: NDArray[np.float64]
    mean_y_E: NDArray[np.float64]
    weights_x_DL: NDArray[np.float64]
    weights_y_EL: NDArray[np.float64]
    correlations_L: NDArray[np.float64]
    noise: float
    constant_x: tuple[int, ...] = ()
    constant_y: tuple[int, ...] = ()


def fit_cca(
    x_ND: NDArray[np.floating],
    y_NE: NDArray[np.floating],
    regulariser: float = 0.0,
    dimensions: int | Literal["auto"] | None = None,
) -> CCA:
    """CCA of two views that are at hand as a whole; every feature must vary and be finite.

    Raises:
        CorpusError: the views differ in length, or as `solve_cca` says.
    """
    return solve_cca(Moments.of(x_ND, y_NE), regulariser, dimensions)


def solve_cca(
    moments: Moments,
    regulariser: float,
    dimensions: int | Literal["auto"] | None = None,
    constant: Literal["refuse", "drop"] = "refuse",
    widths: tuple[int | None, int | None] = (None, None),
) -> CCA:
    """Maximise the correlation of the two projected views (Murthy et al. 2015, Eq. 1 and 2).

    Both covariances get `regulariser` times their mean eigenvalue on the diagonal, so that it
    means the same for any scale of a feature. Solved in float64 by whitening and one SVD:
    with Cxx = Rx Rxᵀ, the singular vectors of Rx⁻¹ Cxy Ry⁻ᵀ give the directions, its singular
    values the (regularised) correlations. Directions without variance drop out, so fewer rows
    than dimensions are no obstacle: at most N - 1 directions come out.

    Args:
        moments: of at least two paired rows.
        regulariser: above zero unless there are many more rows than dimensions; without one,
            N ≤ D views correlate perfectly whatever they hold.
        dimensions: L, at most. None: min(D, E). 'auto': those whose correlation exceeds what
            `noise_level` expects of unrelated views, and at least one.
        constant: 'refuse' a feature that never varies; or 'drop' it, with a weight of zero, and
            name it in the result. A ReLU network has dead features on a small corpus.
        widths: numbers of eigenvalues of x and of y that their variance counts as shared by, for
            the regulariser; None: D and E. A kernel's feature map has as many dimensions as
            landmarks, and how strong the regulariser is must not hang on their number.

    Raises:
        CorpusError: fewer than two rows, a feature that is NaN or infinite somewhere, a constant
            feature that is refused, or a view that never varies.
    """
    if moments.count < 2:
        raise CorpusError(
            f"CCA needs at least two pictures to correlate, found {moments.count:.0f}"
        )
    constant_x = _check_view(moments.xx_DD, moments.mean_x_D, moments.count, X_VIEW, constant)
    constant_y = _check_view(moments.yy_EE, moments.mean_y_E, moments.count, Y_VIEW, constant)
    whiten_x_DP, freedom_x = _whitening(moments.xx_DD / moments.count, regulariser, widths[0])
    whiten_y_EQ, freedom_y = _whitening(moments.yy_EE / moments.count, regulariser, widths[1])
    left, correlations, right = linalg.svd(
        whiten_x_DP.T @ (moments.xy_DE / moments.count) @ whiten_y_EQ, full_matrices=False
    )
    correlations = np.minimum(correlations, 1.0)
    noise = noise_level(freedom_x, freedom_y, moments.count)
    if dimensions == "auto":
        dimensions = max(1, int((correlations > noise).sum()))
    limit = min(len(correlations), dimensions or len(correlations))
    weights_x_DL = whiten_x_DP @ left[:, :limit]
    weights_y_EL = whiten_y_EQ @ right.T[:, :limit]
    # An SVD leaves the sign of a direction to rounding; what follows may depend on it.
    largest_L = np.abs(weights_x_DL).argmax(axis=0)
    signs_L = np.sign(weights_x_DL[largest_L, np.arange(limit)])
    # What an eigensolver leaves of a constant feature is rounding alone.
    weights_x_DL[list(constant_x)] = 0
    weights_y_EL[list(constant_y)] = 0
    return CCA(
        moments.mean_x_D,
        moments.mean_y_E,
        weights_x_DL * signs_L,
        weights_y_EL * signs_L,
        correlations[:limit],
        noise,
        constant_x,
        constant_y,
    )


def noise_level(freedom_x: float, freedom_y: float, rows: float) -> float:
    """The largest canonical correlation that N rows of unrelated views are expected to show.

    With a = p/N and b = q/N it is √(a(1-b)) + √(b(1-a)), the upper edge of the correlations'
    limiting distribution under independence (Wachter 1980, "The limiting empirical measure of
    multiple discriminant ratios"), which the largest one tends to as N grows. p and q are the
    effective degrees of freedom Σ λ/(λ + r) of the regularised views, which are D and E without
    a regulariser; with one the edge errs to the safe side. 1 where p + q ≥ N: then nothing can
    be told from noise.
    """
    a, b = freedom_x / rows, freedom_y / rows
    if a + b >= 1:
        return 1.0
    return float(np.sqrt(a * (1 - b)) + np.sqrt(b * (1 - a)))


def _check_view(
    comoments_DD: NDArray[np.float64],
    mean_D: NDArray[np.float64],
    count: float,
    view: str,
    constant: Literal["refuse", "drop"],
) -> tuple[int, ...]:
    """The features that never vary.

    Raises:
        CorpusError: as `solve_cca` says.
    """
    squares_D = np.diag(comoments_DD)
    broken = np.flatnonzero(~np.isfinite(squares_D) | ~np.isfinite(mean_D))
    if len(broken):
        raise CorpusError(
            f"{_features(broken)} of the {view} {'is' if len(broken) == 1 else 'are'} NaN, "
            "infinite or beyond float64 in some picture; mend what made the features, or leave "
            "those pictures out"
        )
    # Below float64's resolution of the mean there is rounding, and no variance.
    still = np.flatnonzero(squares_D <= count * (4 * np.finfo(np.float64).eps * mean_D) ** 2)
    if len(still) == len(mean_D):
        raise CorpusError(
            f"all the {view} are the same, so nothing correlates; a corpus needs pictures that "
            "differ in content and in tags"
        )
    if len(still) and constant == "refuse":
        raise CorpusError(
            f"{_features(still)} of the {view} never var{'ies' if len(still) == 1 else 'y'}, so "
            "there is nothing to correlate; leave it out, or ask to drop constant features"
        )
    return tuple(still.tolist())


def _features(places: Sequence[int] | NDArray[np.int64]) -> str:
    """Such as 'features 3, 5 and 7'."""
    named = [str(place) for place in places[:SHOWN]]
    if len(places) > SHOWN:
        named.append(f"{len(places) - SHOWN} others")
    if len(named) == 1:
        return f"feature {named[0]}"
    return f"features {', '.join(named[:-1])} and {named[-1]}"


def _whitening(
    covariance_DD: NDArray[np.float64], regulariser: float, width: int | None
) -> tuple[NDArray[np.float64], float]:
    """W [D, P] with Wᵀ (C + λI) W = I on the P directions that vary, and their freedom Σ μ/(μ+λ).

    μ are the eigenvalues of C.
    """
    mean_eigenvalue = float(np.trace(covariance_DD)) / (width or len(covariance_DD))
    values, vectors = linalg.eigh((covariance_DD + covariance_DD.T) / 2)
    bare = np.maximum(values, 0.0)
    values = values + regulariser * mean_eigenvalue
    kept = values > 1e-10 * values[-1]
    whitening: NDArray[np.float64] = vectors[:, kept] / np.sqrt(values[kept])
    return whitening, float((bare[kept] / values[kept]).sum())
