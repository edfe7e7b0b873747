"""The large-margin metric: its objective against loops, its subgradients against differences."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine.numerics.distances import Distance, comparable_levels, level_distances
from engine.numerics.metric_learning import (
    MarginLearner,
    MarginSettings,
    Metric,
    margin_loss,
    targets_and_impostors,
)
from engine.numerics.semantic import SemanticNeighbours

LEVELS = (6, 4)
PICTURES, TAGS, NEIGHBOURS, PUSH = 30, 5, 2, 3.0


def problem(
    distance: Distance, seed: int = 1
) -> tuple[MarginLearner, NDArray[np.bool_], NDArray[np.float64]]:
    """Tags that the first level tells and the second does not."""
    rng = np.random.default_rng(seed)
    labels = rng.random((PICTURES, TAGS)) < 0.3
    labels[np.arange(PICTURES), rng.integers(0, TAGS, PICTURES)] = True
    told = np.abs(
        labels @ rng.standard_normal((TAGS, 6)) + 0.3 * rng.standard_normal((PICTURES, 6))
    )
    noise = np.abs(rng.standard_normal((PICTURES, 4)))
    features = comparable_levels(np.hstack([told, noise]), LEVELS, distance)
    scales_M = level_distances(features, features, distance).max(axis=(1, 2)).astype(np.float64)
    labels_NV = sparse.csr_matrix(labels.astype(np.float32))
    return MarginLearner(features, scales_M, distance, labels_NV, NEIGHBOURS), labels, scales_M


def ones(learner: MarginLearner) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.ones(part.shape[1]) for part in learner.features)


def test_a_case_by_hand() -> None:
    """Targets at 1 and 2, impostors at 2.5 (strange by half) and 9: the pull is 1.5. Of the four
    pairs only (2, 2.5) is violated, by 1/2, and counts half: 10 · (1/4) / 2 = 5/4."""
    loss, targets_T, impostors_C = margin_loss(
        np.array([1.0, 2.0]), np.array([2.5, 9.0]), np.array([0.5, 1.0]), 10.0
    )
    assert loss == pytest.approx(1.5 + 1.25)
    np.testing.assert_allclose(targets_T, [0.5, 0.5 + 2.5])
    np.testing.assert_allclose(impostors_C, [-2.5, 0])
    assert margin_loss(np.array([1.0]), np.zeros(0), np.zeros(0), 10.0)[0] == 1.0


def test_neighbourhoods_are_their_definition(rng: np.random.Generator) -> None:
    learner, labels, _ = problem("l1")
    similarities_NN = rng.random((PICTURES, PICTURES)).astype(np.float32)
    np.fill_diagonal(similarities_NN, -np.inf)
    semantic = SemanticNeighbours(learner.semantic.labels_NV, NEIGHBOURS)
    candidates = semantic.among_all(similarities_NN)
    for row in range(PICTURES):
        own = np.flatnonzero(labels[row])
        found = targets_and_impostors(own, semantic, candidates, row, learner.carriers)
        nearest: dict[int, list[int]] = {}
        for tag in range(TAGS):
            carriers = [j for j in range(PICTURES) if labels[j, tag] and j != row]
            carriers.sort(key=lambda j: -similarities_NN[row, j])
            nearest[tag] = carriers[:NEIGHBOURS]
        targets = {j for tag in own for j in nearest[tag]}
        others = {j for tag in range(TAGS) for j in nearest[tag]} - targets
        lacks = {j: 1 - (labels[j] & labels[row]).sum() / len(own) for j in others}
        assert set(found[0]) == targets
        assert dict(zip(found[1].tolist(), found[2], strict=True)) == pytest.approx(
            {j: share for j, share in lacks.items() if share > 0}
        )


@pytest.mark.parametrize("distance", ["l1", "l2", "chi2", "cosine", "correlation"])
def test_subgradients_are_those_of_finite_differences(distance: Distance) -> None:
    learner, _, _ = problem(distance)
    rows = np.arange(0, PICTURES, 3)
    metric = Metric(np.array([3.0, 2.0]), ones(learner))
    _, slopes = learner.objective(rows, metric, PUSH, by_dimension=True)

    def value(levels_M: NDArray[np.float64], dimensions: tuple[NDArray[np.float64], ...]) -> float:
        return learner.objective(rows, Metric(levels_M, dimensions), PUSH, False)[0]

    for level in range(2):
        step = np.zeros(2)
        step[level] = 1e-5
        rise = value(metric.levels_M + step, metric.dimensions) - value(
            metric.levels_M - step, metric.dimensions
        )
        assert slopes.levels_M[level] == pytest.approx(rise / 2e-5, rel=1e-3, abs=1e-5)
        for place in range(learner.features[level].shape[1]):
            moved = [[v.copy() for v in metric.dimensions] for _ in range(2)]
            moved[0][level][place] += 2e-3
            moved[1][level][place] -= 2e-3
            rise = value(metric.levels_M, tuple(moved[0])) - value(metric.levels_M, tuple(moved[1]))
            # Features are float32, and a step may pass the kink of a hinge.
            assert slopes.dimensions[level][place] == pytest.approx(rise / 4e-3, rel=0.05, abs=0.01)


@pytest.mark.parametrize("dimensions", [False, True])
def test_learning_lowers_the_objective_and_finds_the_level_that_tells(dimensions: bool) -> None:
    learner, _, _ = problem("cosine")
    start_M = np.array([5.0, 5.0])
    settings = MarginSettings(
        push=10.0, rate=0.3, steps=60, anchors=10, dimensions=dimensions, seed=0
    )
    learned = learner.learn(start_M, settings)
    everyone = np.arange(PICTURES)
    before, _ = learner.objective(everyone, Metric(start_M, ones(learner)), 10.0, False)
    after, _ = learner.objective(everyone, learned, 10.0, False)
    assert after < 0.9 * before
    assert learned.levels_M[0] > learned.levels_M[1]
    assert (learned.levels_M >= 0).all()
    assert learned.levels_M.sum() == pytest.approx(10)
    assert all((v >= 0).all() for v in learned.dimensions)
    untouched = all((v == 1).all() for v in learned.dimensions)
    assert untouched is not dimensions
    again = learner.learn(start_M, settings)
    np.testing.assert_array_equal(again.levels_M, learned.levels_M)
