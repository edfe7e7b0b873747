"""What TagProp learns by maximum likelihood: neighbours' weights, and a sigmoid for each word.

Every step here leaves the likelihood that it maximises no lower than it found it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from engine.numerics.simplex import project_to_simplex
from engine.numerics.tag_likelihood import (
    Array,
    Likelihood,
    TagOffers,
    word_likelihoods,
)
from engine.numerics.weighted_knn import softmax_weights

ROUNDING = 1e-12
"""Relative change of a likelihood that its rounding may make."""

HALVINGS = 40
"""Of a step, at most; what is left of it then changes nothing."""

START_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Sums of the distances' scales that are tried before the search begins."""


def scales_value_and_gradient(
    scales_M: Array, likelihood: Likelihood, offers: TagOffers, distances_MIK: NDArray[np.floating]
) -> tuple[float, Array]:
    """The log-likelihood under weights exp(-Σ_m scale_m d_m), and its gradient [M].

    With π' = π (a - Σ_j π a), where a is the derivative by the weight, the gradient is -Σ π' d:
    Guillaumin et al. 2009, Eq. 8, for any likelihood of the predictions.
    """
    weights_IK = softmax_weights(distances_MIK, scales_M)
    value, slope_P = likelihood.value_and_slope(offers.predictions(weights_IK))
    pull_IK = offers.pull(slope_P, weights_IK.shape[1])
    centred_IK = weights_IK * (pull_IK - (weights_IK * pull_IK).sum(axis=1, keepdims=True))
    return value, -np.einsum("ik,mik->m", centred_IK, distances_MIK)


def fit_scales(
    likelihood: Likelihood,
    offers: TagOffers,
    distances_MIK: NDArray[np.floating],
    start_M: Array | None,
    iterations: int,
) -> Array:
    """The scales [M], no less than 0, of the distances: metric learning by L-BFGS-B.

    Args:
        start_M: None: equal scales, whose sum is the best of `START_SCALES`.
    """
    levels = len(distances_MIK)

    def objective(scales_M: Array) -> tuple[float, Array]:
        value, gradient_M = scales_value_and_gradient(scales_M, likelihood, offers, distances_MIK)
        return -value, -gradient_M

    if start_M is None:
        starts = [np.full(levels, total / levels) for total in START_SCALES]
        start_M = min(starts, key=lambda scales_M: objective(scales_M)[0])
    found = optimize.minimize(
        objective,
        start_M,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * levels,
        options={"maxiter": iterations},
    )
    better = float(found.fun) <= objective(start_M)[0]
    scales_M: Array = np.asarray(found.x if better else start_M, dtype=np.float64)
    return scales_M


def fit_rank_weights(
    likelihood: Likelihood, offers: TagOffers, pictures: int, start_K: Array, iterations: int
) -> Array:
    """The weights gamma [K] of the ranks, on the simplex (Guillaumin et al. 2009, section 3.1).

    Projected gradient with Barzilai and Borwein's step, halved until the likelihood rises. The
    likelihood is concave in them, so where it ends does not depend on the start.
    """

    def value_and_gradient(gamma_K: Array) -> tuple[float, Array]:
        weights_IK = np.broadcast_to(gamma_K, (pictures, len(gamma_K)))
        value, slope_P = likelihood.value_and_slope(offers.predictions(weights_IK))
        return value, offers.pull(slope_P, len(gamma_K)).sum(axis=0)

    gamma_K = start_K
    value, gradient_K = value_and_gradient(gamma_K)
    length = 1.0 / max(float(np.abs(gradient_K).max()), 1e-12)
    for _ in range(iterations):
        towards_K = project_to_simplex(gamma_K + length * gradient_K) - gamma_K
        rise = float(towards_K @ gradient_K)
        if rise <= 1e-12 * max(abs(value), 1.0):
            break
        share = 1.0
        next_value, next_gradient_K = value_and_gradient(gamma_K + towards_K)
        while next_value < value + 1e-4 * share * rise:
            share /= 2
            if share < 1e-12:
                return gamma_K
            next_value, next_gradient_K = value_and_gradient(gamma_K + share * towards_K)
        moved_K = share * towards_K
        bend = float(moved_K @ (gradient_K - next_gradient_K))
        length = float(moved_K @ moved_K) / bend if bend > 0 else length * 2
        gamma_K, value, gradient_K = gamma_K + moved_K, next_value, next_gradient_K
    return gamma_K


def fit_words(
    offers: TagOffers,
    predicted_P: Array,
    centre: tuple[float, float],
    start: tuple[Array, Array] | None,
    shrinkage: float,
) -> tuple[Array, Array, float]:
    """Slope [V], no less than 0, and offset [V] of each word's sigmoid, and the sum maximised.

    The paper fits each word by itself, which has no finite answer for a word that occurs once, and
    a falling curve where it never occurs beside itself. So a quadratic pull towards the curve of
    all words together is subtracted from the likelihood: `shrinkage` times the weight of one
    carried pair, times half of ((slope - slope₀) / max(slope₀, 1))² + (offset - offset₀)². And no
    curve falls.

    Args:
        centre: slope₀ and offset₀, of `shared_curve`.
        start: of both; None: the centre.
        shrinkage: above 0; near it is the paper's fit.
    """
    words = len(offers.unoffered_with_V)
    shared_slope, shared_offset = centre
    unit = max(shared_slope, 1.0)
    strength = shrinkage * max(offers.weight_with, 1e-12)

    def worth_V(slopes_V: Array, offsets_V: Array) -> Array:
        value_V, _ = word_likelihoods(offers, predicted_P, slopes_V, offsets_V, words)
        apart_V = ((slopes_V - shared_slope) / unit) ** 2 + (offsets_V - shared_offset) ** 2
        return value_V - strength / 2 * apart_V

    if start is None:
        start = (np.full(words, shared_slope), np.full(words, shared_offset))
    prior = (shared_slope, shared_offset, strength / unit**2, strength)
    slopes_V, offsets_V = _newton(offers, predicted_P, start, prior, np.ones(words))
    # The likelihood is concave: where its peak has a falling curve, the best allowed is flat.
    falling_V = slopes_V < 0
    if falling_V.any():
        flat = (np.where(falling_V, 0.0, slopes_V), offsets_V)
        slopes_V, offsets_V = _newton(
            offers, predicted_P, flat, prior, np.where(falling_V, 0.0, 1.0)
        )
        slopes_V = np.maximum(slopes_V, 0.0)
    kept_V = worth_V(slopes_V, offsets_V) >= worth_V(*start)
    slopes_V = np.where(kept_V, slopes_V, start[0])
    offsets_V = np.where(kept_V, offsets_V, start[1])
    return slopes_V, offsets_V, float(worth_V(slopes_V, offsets_V).sum())


def shared_curve(offers: TagOffers, predicted_P: Array) -> tuple[float, float]:
    """Slope and offset of all the words together."""
    pooled = replace(
        offers,
        word_P=np.zeros_like(offers.word_P),
        unoffered_with_V=offers.unoffered_with_V.sum(keepdims=True),
        unoffered_without_V=offers.unoffered_without_V.sum(keepdims=True),
    )
    start = (np.array([1.0]), np.array([0.0]))
    slopes, offsets = _newton(pooled, predicted_P, start, (1.0, 0.0, 1e-6, 1e-6), np.ones(1))
    return max(float(slopes[0]), 0.0), float(offsets[0])


def _newton(
    offers: TagOffers,
    predicted_P: Array,
    start: tuple[Array, Array],
    prior: tuple[float, float, float, float],
    moves_V: Array,
) -> tuple[Array, Array]:
    """Newton's method on all words at once, each with a step that is halved until its worth rises.

    Args:
        prior: centre of slope and of offset, and the precision of each.
        moves_V: 0 for a word whose slope stays where it starts, else 1.
    """
    slope_0, offset_0, precision_slope, precision_offset = prior
    words = len(moves_V)
    word_P, weight_P = offers.word_P, offers.weight_P
    rest_with_V = offers.weight_with * offers.unoffered_with_V
    rest_V = rest_with_V + offers.weight_without * offers.unoffered_without_V

    def worth(slopes_V: Array, offsets_V: Array) -> tuple[Array, Array]:
        value_V, residual_P = word_likelihoods(offers, predicted_P, slopes_V, offsets_V, words)
        value_V -= precision_slope / 2 * (slopes_V - slope_0) ** 2
        value_V -= precision_offset / 2 * (offsets_V - offset_0) ** 2
        return value_V, residual_P

    def word_sum(values_P: Array) -> Array:
        return np.bincount(word_P, values_P, minlength=words).astype(np.float64)

    slopes_V, offsets_V = start
    value_V, residual_P = worth(slopes_V, offsets_V)
    for _ in range(100):
        rest_given_V = 1 / (1 + np.exp(-offsets_V))
        logit_P = slopes_V[word_P] * predicted_P + offsets_V[word_P]
        given_P = 1 / (1 + np.exp(-logit_P))
        bend_P = weight_P * given_P * (1 - given_P)
        slope_a = word_sum(residual_P * predicted_P) - precision_slope * (slopes_V - slope_0)
        slope_b = word_sum(residual_P) + rest_with_V - rest_V * rest_given_V
        slope_b -= precision_offset * (offsets_V - offset_0)
        slope_a *= moves_V
        bend_aa = word_sum(bend_P * predicted_P**2) + precision_slope
        bend_ab = word_sum(bend_P * predicted_P) * moves_V
        bend_bb = word_sum(bend_P) + rest_V * rest_given_V * (1 - rest_given_V) + precision_offset
        determinant = bend_aa * bend_bb - bend_ab**2
        step_a = (bend_bb * slope_a - bend_ab * slope_b) / determinant
        step_b = (bend_aa * slope_b - bend_ab * slope_a) / determinant
        # What Newton expects to gain, against what rounding leaves of the value.
        gain_V = slope_a * step_a + slope_b * step_b
        share_V = (gain_V > ROUNDING * np.abs(value_V)).astype(np.float64)
        if not share_V.any():
            break
        for _ in range(HALVINGS):
            tried = (slopes_V + share_V * step_a, offsets_V + share_V * step_b)
            next_V, next_residual_P = worth(*tried)
            worse_V = next_V < value_V - ROUNDING * np.abs(value_V)
            if not worse_V.any():
                break
            share_V[worse_V] /= 2
        slopes_V, offsets_V = tried
        value_V, residual_P = next_V, next_residual_P
    return slopes_V, offsets_V
