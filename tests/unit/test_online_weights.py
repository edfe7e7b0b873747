"""Exponentiated gradient against a loop of Algorithm 1, and what must hold of it whatever comes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import log_loss

from engine.numerics.online_weights import (
    PACES,
    WAYPOINTS,
    Learned,
    OnlineWeights,
    Pace,
    blend,
    choose_pace,
    learn_weights,
)


def drawn(
    seed: int, scorers: int, pictures: int, tags: int, sleep: float = 0.0
) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Scores in [0, 1], some scorers closer to the truth than others, and the truth."""
    rng = np.random.default_rng(seed)
    truth_NV = rng.random((pictures, tags)) < 0.3
    noise_A = rng.uniform(0.1, 1.5, scorers)[:, None, None]
    scores = truth_NV * 0.5 + 0.25 + noise_A * rng.normal(0, 0.3, (scorers, pictures, tags))
    scores = np.clip(scores, 0, 1).astype(np.float32)
    scores[rng.random((scorers, pictures)) < sleep] = np.nan
    return scores, sparse.csr_matrix(truth_NV.astype(np.float32))


def algorithm_1(
    scores_ANV: np.ndarray, labels_NV: sparse.csr_matrix, seed: int, margin: float, rate: float
) -> tuple[list[float], list[list[float]]]:
    """Sun et al., Algorithm 1 in Python's floats: the mean weights, and those after each triple."""
    scorers, pictures, tags = scores_ANV.shape
    alpha = [1 / scorers] * scorers
    course = []
    truth = labels_NV.toarray() > 0
    for row in np.random.default_rng(seed).permutation(pictures):
        awake = [j for j in range(scorers) if not math.isnan(scores_ANV[j, row, 0])]
        if len(awake) < 2 or truth[row].all():
            continue
        for right in labels_NV[row].indices:
            mass = math.fsum(alpha[j] for j in awake)
            blend = {
                tag: math.fsum(alpha[j] / mass * float(scores_ANV[j, row, tag]) for j in awake)
                for tag in range(tags)
                if not truth[row, tag]
            }
            wrong = max(blend, key=lambda tag: (blend[tag], -tag))
            s = {
                j: float(scores_ANV[j, row, right]) - float(scores_ANV[j, row, wrong])
                for j in awake
            }
            hinge = max(0.0, margin - math.fsum(alpha[j] / mass * s[j] for j in awake))
            if hinge > 0:
                raised = {j: alpha[j] * math.exp(rate * s[j]) for j in awake}
                total = math.fsum(raised.values())
                for j in awake:
                    alpha[j] = mass * raised[j] / total
            course.append(list(alpha))
    mean = [math.fsum(step[j] for step in course) / len(course) for j in range(scorers)]
    return mean, course


@pytest.mark.parametrize(("margin", "rate"), [(0.1, 0.05), (0.5, 1.0), (0.0, 3.0)])
@pytest.mark.parametrize("sleep", [0.0, 0.3])
def test_it_is_algorithm_1(margin: float, rate: float, sleep: float) -> None:
    scores_ANV, labels_NV = drawn(0, 6, 80, 7, sleep)
    learned = learn_weights(scores_ANV, labels_NV, 5, Pace(margin, rate))
    mean, course = algorithm_1(scores_ANV, labels_NV, 5, margin, rate)
    np.testing.assert_allclose(learned.weights_A, mean, rtol=1e-9)
    assert [point.triples for point in learned.course][-1] == len(course)
    for point in learned.course[1:]:
        np.testing.assert_allclose(point.weights_A, course[point.triples - 1], rtol=1e-9)


def test_one_triple_by_hand() -> None:
    """Two scorers, S = (1, -1), margin 0.5, rate ln 2: the hinge is 0.5 and 1 : 1 becomes 4 : 1."""
    weights = OnlineWeights(np.array([0.5, 0.5]), margin=0.5, rate=math.log(2))
    both = np.array([0, 1])
    assert weights.take(np.array([1.0, -1.0]), both)
    np.testing.assert_allclose(weights.weights_A, [0.8, 0.2])
    # Now weights·S is 0.6, past the margin: nothing moves.
    assert not weights.take(np.array([1.0, -1.0]), both)
    np.testing.assert_allclose(weights.weights_A, [0.8, 0.2])


def test_each_step_is_the_minimum_of_equation_11() -> None:
    """No other point of the simplex has a lower divergence + rate · linearised hinge."""
    rng = np.random.default_rng(0)
    before = rng.dirichlet(np.ones(5))
    s = rng.normal(0, 1, 5) - 1.0
    weights = OnlineWeights(before, margin=0.3, rate=0.7)
    assert weights.take(s, np.arange(5))

    def objective(alpha: np.ndarray) -> float:
        return float((alpha * np.log(alpha / before)).sum() + 0.7 * (-s) @ (alpha - before))

    found = objective(weights.weights_A)
    for _ in range(200):
        mixed = 0.9 * weights.weights_A + 0.1 * rng.dirichlet(np.ones(5))
        assert objective(mixed) >= found


problems = st.tuples(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.integers(1, 25),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.4, 1.0]),
)
steps = st.tuples(st.floats(0, 5), st.floats(1e-3, 1e4))


@settings(max_examples=60, deadline=None)
@given(problems, steps)
def test_the_weights_stay_on_the_simplex(
    problem: tuple[int, int, int, int, float], step: tuple[float, float]
) -> None:
    scores_ANV, labels_NV = drawn(*problem)
    learned = learn_weights(scores_ANV, labels_NV, 0, Pace(*step))
    for weights_A in (learned.weights_A, *(point.weights_A for point in learned.course)):
        assert np.isfinite(weights_A).all()
        assert (weights_A >= 0).all()
        assert weights_A.sum() == pytest.approx(1, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(problems, st.floats(1e-3, 2), st.randoms(use_true_random=False))
def test_a_permutation_of_the_scorers_permutes_the_weights(
    problem: tuple[int, int, int, int, float], rate: float, random: "np.random.RandomState"
) -> None:
    scores_ANV, labels_NV = drawn(*problem)
    order = list(range(len(scores_ANV)))
    random.shuffle(order)
    straight = learn_weights(scores_ANV, labels_NV, 0, Pace(rate=rate))
    permuted = learn_weights(scores_ANV[order], labels_NV, 0, Pace(rate=rate))
    np.testing.assert_allclose(permuted.weights_A, straight.weights_A[order], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(0.2, 2))
def test_a_scorer_that_is_always_right_wins(seed: int, scorers: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    _, labels_NV = drawn(seed, scorers, 60, 5)
    right = int(rng.integers(scorers))
    # The others are as often wrong as right.
    scores_ANV = rng.random((scorers, *labels_NV.shape)).astype(np.float32)
    scores_ANV[right] = labels_NV.toarray()
    learned = learn_weights(scores_ANV, labels_NV, 0, Pace(1.5, rate))
    assert learned.course[-1].weights_A.argmax() == right
    assert learned.weights_A.argmax() == right
    assert learned.course[-1].weights_A[right] > 0.9


def test_a_weight_falls_and_comes_back_however_far() -> None:
    """Rounded to 0 it would never rise again."""
    weights = OnlineWeights(np.array([0.5, 0.5]), margin=10.0, rate=1.0)
    both = np.array([0, 1])
    for _ in range(50):
        weights.take(np.array([-40.0, 0.0]), both)
    assert weights.weights_A[0] == 0
    for _ in range(50):
        weights.take(np.array([41.0, 0.0]), both)
    assert weights.weights_A[0] > 0.99


def test_the_course_is_kept_at_regular_intervals() -> None:
    scores_ANV, labels_NV = drawn(1, 3, 400, 6)
    learned = learn_weights(scores_ANV, labels_NV, 0)
    triples = [point.triples for point in learned.course]
    carried_N = np.diff(labels_NV.indptr)
    assert triples[-1] == carried_N[carried_N < 6].sum()
    assert triples[0] == 0
    assert triples == sorted(set(triples))
    assert len(triples) <= WAYPOINTS + 2
    np.testing.assert_allclose(learned.course[0].weights_A, 1 / 3)


def test_a_start_counts_and_must_be_on_the_simplex() -> None:
    scores_ANV, labels_NV = drawn(0, 2, 20, 4)
    start = np.array([0.9, 0.1])
    learned: Learned = learn_weights(scores_ANV, labels_NV, 0, start_A=start)
    np.testing.assert_allclose(learned.course[0].weights_A, start)
    for wrong in ([1.0, 0.0], [0.5, 0.6]):
        with pytest.raises(ValueError, match="begin above 0 and sum to 1"):
            OnlineWeights(np.array(wrong), 0.1, 0.1)


def test_nothing_to_learn_from_leaves_the_start() -> None:
    scores_ANV, labels_NV = drawn(0, 3, 20, 4)
    nothing = sparse.csr_matrix(labels_NV.shape, dtype=np.float32)
    everything = sparse.csr_matrix(np.ones(labels_NV.shape, dtype=np.float32))
    for labels in (nothing, everything):
        learned = learn_weights(scores_ANV, labels, 0)
        np.testing.assert_allclose(learned.weights_A, 1 / 3)
        assert [point.triples for point in learned.course] == [0]


def told_apart(labels_NV: sparse.csr_matrix, noise: float, seed: int) -> np.ndarray:
    """The scores of one who is right on average, and the more noise, the less sure."""
    rng = np.random.default_rng(seed)
    logits_NV = (labels_NV.toarray() * 2 - 1) * 2 + rng.normal(0, noise, labels_NV.shape)
    return (1 / (1 + np.exp(-logits_NV))).astype(np.float32)


def test_the_pace_is_that_which_blends_other_pictures_best() -> None:
    """Where one scorer knows all and the other nothing, weights must go far; among equals, not."""
    _, labels_NV = drawn(1, 1, 300, 8)
    known_NV = told_apart(labels_NV, 0.5, 2)
    nothing_NV = np.random.default_rng(3).random(labels_NV.shape, dtype=np.float32)
    assert choose_pace(np.stack([known_NV, nothing_NV]), labels_NV, 0) == PACES[-1]
    equals_ANV = np.stack([told_apart(labels_NV, 2.0, seed) for seed in (4, 5)])
    assert choose_pace(equals_ANV, labels_NV, 0) != PACES[-1]
    assert choose_pace(known_NV[None], labels_NV, 0) == PACES[0]
    assert choose_pace(equals_ANV[:, :1], labels_NV[:1], 0) == PACES[0]


def test_the_pace_is_chosen_by_the_halves_log_losses() -> None:
    """The same by scikit-learn's log loss, from the two halves' weights."""
    scores_ANV, labels_NV = drawn(7, 3, 41, 5)
    order = np.random.default_rng(9).permutation(41)
    losses = []
    for pace in PACES:
        total = 0.0
        for learned, told in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            weights_A = learn_weights(scores_ANV[:, learned], labels_NV[learned], 9, pace).weights_A
            p_NV = np.tensordot(weights_A, scores_ANV[:, told].astype(np.float64), axes=1)
            p_NV = np.clip(p_NV, 1e-6, 1 - 1e-6)
            carries = labels_NV[told].toarray().ravel() > 0
            total += log_loss(carries, p_NV.ravel(), normalize=False)
        losses.append(total)
    assert choose_pace(scores_ANV, labels_NV, 9) == PACES[int(np.argmin(losses))]


def test_who_sleeps_has_no_share_of_a_blend() -> None:
    scores_ANV = np.array([[[0.2], [0.2]], [[0.6], [np.nan]], [[1.0], [0.4]]], dtype=np.float32)
    blended_NV = blend(np.array([0.5, 0.3, 0.2]), scores_ANV)
    np.testing.assert_allclose(blended_NV, [[0.48], [(0.1 + 0.08) / 0.7]], rtol=1e-6)
