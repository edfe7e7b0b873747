"""TagProp's likelihoods and what maximises them, against loops, SciPy, EM and differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, sparse

from engine.annotators.tagprop import TagPropRecipe
from engine.corpus import Corpus
from engine.errors import CorpusError
from engine.fitting import score_corpus
from engine.group import Solo
from engine.numerics.simplex import project_to_simplex
from engine.numerics.tag_likelihood import (
    Likelihood,
    PlainLikelihood,
    SigmoidLikelihood,
    TagOffers,
)
from engine.numerics.tagprop_fit import (
    fit_rank_weights,
    fit_scales,
    fit_words,
    scales_value_and_gradient,
    shared_curve,
)
from engine.numerics.weighted_knn import nearest, softmax_weights
from engine.vocab import Vocabulary

BOUNDED = settings(max_examples=40, derandomize=True, deadline=None, database=None)
EPSILON = 1e-3
PICTURES, TAGS, NEIGHBOURS, LEVELS = 24, 6, 7, 3


class Problem:
    """Training pictures with tags that follow from where they lie, and their neighbours."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        place_N2 = rng.standard_normal((PICTURES, 2))
        labels = np.abs(place_N2 @ rng.standard_normal((2, TAGS))) > 1.0
        labels[np.arange(PICTURES), rng.integers(0, TAGS - 1, PICTURES)] = True
        labels[:, TAGS - 1] = False
        labels[3, TAGS - 1] = True
        self.labels = labels
        self.labels_NV = sparse.csr_matrix(labels.astype(np.float32))
        views = [place_N2, place_N2[:, :1], rng.standard_normal((PICTURES, 2))]
        far_MNN = np.stack([np.linalg.norm(v[:, None] - v[None], axis=2) for v in views])
        far_MNN[:, np.arange(PICTURES), np.arange(PICTURES)] = np.inf
        self.rows_IK, _ = nearest(far_MNN.mean(axis=0).astype(np.float32), NEIGHBOURS)
        self.far_MIK = np.take_along_axis(far_MNN, self.rows_IK[None], axis=2)
        self.offers = TagOffers.of(self.rows_IK, self.labels_NV)
        self.slopes_V = rng.uniform(1, 6, TAGS)
        self.offsets_V = rng.uniform(-3, 0, TAGS)

    def likelihoods(self) -> tuple[Likelihood, Likelihood]:
        sigmoid = SigmoidLikelihood(self.offers, self.slopes_V, self.offsets_V)
        return PlainLikelihood(self.offers, EPSILON), sigmoid

    def by_loops(self, weights_IK: NDArray[np.float64], sigmoid: bool) -> float:
        """The log-likelihood as the paper writes it, a picture and a tag at a time."""
        positives = int(self.labels.sum())
        negatives = self.labels.size - positives
        total = 0.0
        for i in range(PICTURES):
            for w in range(TAGS):
                given = 0.0
                for weight, j in zip(weights_IK[i], self.rows_IK[i], strict=True):
                    carried = self.labels[j, w]
                    if sigmoid:
                        given += weight * carried
                    else:
                        given += weight * (1 - EPSILON if carried else EPSILON)
                if sigmoid:
                    given = 1 / (1 + np.exp(-self.slopes_V[w] * given - self.offsets_V[w]))
                if self.labels[i, w]:
                    total += np.log(given) / positives
                else:
                    total += np.log(1 - given) / negatives
        return total


def numerical_gradient(value: object, point: NDArray[np.float64]) -> NDArray[np.float64]:
    assert callable(value)
    steps = np.eye(len(point)) * 1e-6
    return np.array([(value(point + step) - value(point - step)) / 2e-6 for step in steps])


@pytest.mark.parametrize("sigmoid", [False, True])
def test_the_likelihood_is_the_papers(sigmoid: bool, rng: np.random.Generator) -> None:
    problem = Problem()
    weights_IK = rng.dirichlet(np.ones(NEIGHBOURS), PICTURES)
    likelihood = problem.likelihoods()[sigmoid]
    value, _ = likelihood.value_and_slope(problem.offers.predictions(weights_IK))
    assert value == pytest.approx(problem.by_loops(weights_IK, sigmoid), rel=1e-10)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_gradients_are_those_of_finite_differences(sigmoid: bool, rng: np.random.Generator) -> None:
    problem = Problem()
    likelihood = problem.likelihoods()[sigmoid]
    offers, far_MIK = problem.offers, problem.far_MIK
    scales_M = np.array([2.0, 0.5, 1.0])

    def of_scales(scales_M: NDArray[np.float64]) -> float:
        return scales_value_and_gradient(scales_M, likelihood, offers, far_MIK)[0]

    _, gradient_M = scales_value_and_gradient(scales_M, likelihood, offers, far_MIK)
    np.testing.assert_allclose(gradient_M, numerical_gradient(of_scales, scales_M), atol=1e-7)
    assert np.abs(gradient_M).min() > 1e-4

    gamma_K = rng.dirichlet(np.ones(NEIGHBOURS))

    def of_ranks(gamma_K: NDArray[np.float64]) -> float:
        weights_IK = np.broadcast_to(gamma_K, (PICTURES, NEIGHBOURS))
        return likelihood.value_and_slope(offers.offers.T @ weights_IK.ravel())[0]

    weights_IK = np.broadcast_to(gamma_K, (PICTURES, NEIGHBOURS))
    _, slope_P = likelihood.value_and_slope(offers.predictions(weights_IK))
    gradient_K = offers.pull(slope_P, NEIGHBOURS).sum(axis=0)
    np.testing.assert_allclose(gradient_K, numerical_gradient(of_ranks, gamma_K), atol=1e-6)


def test_scales_are_a_maximum_that_scipy_does_not_better() -> None:
    problem = Problem()
    for likelihood in problem.likelihoods():

        def value(scales_M: NDArray[np.float64], likelihood: Likelihood = likelihood) -> float:
            return scales_value_and_gradient(
                np.abs(scales_M), likelihood, problem.offers, problem.far_MIK
            )[0]

        found_M = fit_scales(likelihood, problem.offers, problem.far_MIK, None, 200)
        assert (found_M >= 0).all()
        other = optimize.minimize(
            lambda scales_M: -value(scales_M), found_M + 0.3, method="Nelder-Mead"
        )
        assert value(found_M) >= -other.fun - 1e-6
        start_M = np.array([0.1, 4.0, 4.0])
        again_M = fit_scales(likelihood, problem.offers, problem.far_MIK, start_M, 5)
        assert value(again_M) >= value(start_M)


def test_rank_weights_reach_what_em_reaches() -> None:
    """EM: a rank's weight becomes its share in the tags, weighted by c; it never falls."""
    problem = Problem()
    likelihood, _ = problem.likelihoods()
    offers = problem.offers
    gamma_K = np.full(NEIGHBOURS, 1 / NEIGHBOURS)
    carried_IV = problem.labels
    c_IV = np.where(carried_IV, 1 / carried_IV.sum(), 1 / (~carried_IV).sum())
    neighbours_IKV = problem.labels[problem.rows_IK]
    chance_IKV = np.where(neighbours_IKV == carried_IV[:, None], 1 - EPSILON, EPSILON)
    previous = -np.inf
    for _ in range(3000):
        mixed_IV = np.einsum("k,ikv->iv", gamma_K, chance_IKV)
        value = float((c_IV * np.log(mixed_IV)).sum())
        assert value >= previous - 1e-12
        previous = value
        gamma_K = gamma_K * np.einsum("iv,ikv->k", c_IV / mixed_IV, chance_IKV) / c_IV.sum()
    found_K = fit_rank_weights(
        likelihood, offers, PICTURES, np.full(NEIGHBOURS, 1 / NEIGHBOURS), 500
    )
    assert found_K.sum() == pytest.approx(1)
    assert (found_K >= 0).all()
    weights_IK = np.broadcast_to(found_K, (PICTURES, NEIGHBOURS))
    value, _ = likelihood.value_and_slope(offers.predictions(weights_IK))
    assert value == pytest.approx(previous, abs=1e-6)
    np.testing.assert_allclose(found_K, gamma_K, atol=0.01)


@pytest.mark.parametrize("shrinkage", [0.01, 1.0])
def test_word_curves_are_a_maximum_that_scipy_finds_too(shrinkage: float) -> None:
    problem = Problem()
    offers = problem.offers
    predicted_P = offers.predictions(softmax_weights(problem.far_MIK, np.array([2.0, 1.0, 0.5])))
    centre = shared_curve(offers, predicted_P)
    slopes_V, offsets_V, worth = fit_words(offers, predicted_P, centre, None, shrinkage)
    strength = shrinkage * offers.weight_with

    def loss(point: NDArray[np.float64]) -> float:
        slopes, offsets = point[:TAGS], point[TAGS:]
        value, _ = SigmoidLikelihood(offers, slopes, offsets).value_and_slope(predicted_P)
        apart = ((slopes - centre[0]) / max(centre[0], 1)) ** 2 + (offsets - centre[1]) ** 2
        return strength / 2 * float(apart.sum()) - value

    start = np.r_[np.full(TAGS, centre[0]), np.full(TAGS, centre[1])]
    bounds = [(0, None)] * TAGS + [(None, None)] * TAGS
    other = optimize.minimize(
        loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000, "ftol": 1e-14}
    )
    assert worth == pytest.approx(-loss(np.r_[slopes_V, offsets_V]), abs=1e-12)
    assert worth >= -other.fun - 1e-7
    np.testing.assert_allclose(slopes_V, other.x[:TAGS], rtol=0.05, atol=0.1)
    # The tag that one picture carries is offered to others alone: its curve may not fall.
    assert slopes_V[TAGS - 1] >= 0
    # From somewhere else it is the same, and never worse than where it began.
    begin = (np.zeros(TAGS), np.full(TAGS, -1.0))
    again_V, _, again = fit_words(offers, predicted_P, centre, begin, shrinkage)
    assert again == pytest.approx(worth, abs=1e-9)
    np.testing.assert_allclose(again_V, slopes_V, atol=1e-3)


@BOUNDED
@given(size=st.integers(1, 8), total=st.floats(0.1, 50), seed=st.integers(0, 999))
def test_projection_to_the_simplex_is_the_nearest_point(size: int, total: float, seed: int) -> None:
    point_K = np.random.default_rng(seed).standard_normal(size) * 2
    projected_K = project_to_simplex(point_K, total)
    assert projected_K.sum() == pytest.approx(total)
    assert (projected_K >= 0).all()
    # The conditions of Karush, Kuhn and Tucker: one shift for all that stay above 0.
    shift_K = point_K - projected_K
    kept_K = projected_K > 0
    assert np.ptp(shift_K[kept_K]) < 1e-9
    assert (shift_K[~kept_K] <= shift_K[kept_K][0] + 1e-9).all()


def line_corpus(places: list[list[float]], labels: list[list[int]]) -> Corpus:
    return Corpus(
        tuple(f"p{row}" for row in range(len(places))),
        np.array(places, dtype=np.float32),
        sparse.csr_matrix(np.array(labels, dtype=np.float32)),
        (len(places[0]),),
    )


def test_a_case_by_hand() -> None:
    """Shares of a histogram of two bins: 0, 1/4 and 1; L1 distances are 1/2, 3/2 and 2, and the
    largest of these, 2, divides them. With one scale s and all the others as neighbours, a query
    at 1/8 weighs the three pictures by exp(-s/8), exp(-s/8) and exp(-7s/8)."""
    corpus = line_corpus([[4, 0], [3, 1], [0, 4]], [[1, 0], [1, 0], [0, 1]])
    recipe = TagPropRecipe(sigmoid=False, neighbours=3, distance="l1")
    fitted = recipe.fit(corpus, Vocabulary(("sea", "sky"), (2, 1)), Solo())
    scale = float(fitted.learned[0])
    assert scale > 0
    query = line_corpus([[7, 1]], [[1, 0]])
    near, far = np.exp(-scale / 8), np.exp(-7 * scale / 8)
    wanted = [[2 * near / (2 * near + far), far / (2 * near + far)]]
    np.testing.assert_allclose(score_corpus(fitted, query), wanted, atol=1e-6)
    curves = (np.array([2.0, 4.0]), np.array([-1.0, 0.5]))
    curved = type(fitted)(recipe, fitted.exemplars, fitted.learned, curves, "digest")
    by_curve = 1 / (1 + np.exp(-curves[0] * np.array(wanted) - curves[1]))
    np.testing.assert_allclose(score_corpus(curved, query), by_curve, atol=1e-6)


@pytest.mark.parametrize("weights", ["distance", "rank"])
@pytest.mark.parametrize("metric_learning", [True, False])
def test_the_likelihood_never_falls(
    weights: str, metric_learning: bool, halves: tuple[Corpus, Corpus]
) -> None:
    training = halves[0]
    recipe = TagPropRecipe.model_validate(
        {"weights": weights, "metric_learning": metric_learning, "neighbours": 40, "rounds": 4}
    )
    tags = training.labels_NV.shape[1]
    vocabulary = Vocabulary(tuple(map(str, range(tags))), (1,) * tags)
    fitted = recipe.fit(training, vocabulary, Solo())
    worths = np.array(fitted.trace[1:])
    assert len(worths) == 4
    assert (np.diff(worths) >= -1e-9).all()
    assert worths[-1] > worths[0]
    if weights == "rank":
        assert fitted.learned.sum() == pytest.approx(1)
    else:
        assert len(fitted.learned) == (len(training.levels) if metric_learning else 1)
    assert (fitted.learned >= 0).all()


def test_one_picture_is_too_few() -> None:
    corpus = line_corpus([[4, 0]], [[1, 0]])
    with pytest.raises(CorpusError, match="the corpus has one picture; add"):
        TagPropRecipe().fit(corpus, Vocabulary(("sea", "sky"), (1, 0)), Solo())
