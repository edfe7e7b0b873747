"""A tag's own map: the likeliest under its prior, the prior from all tags, the rare ones shrunk."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logit

from engine.calibration import TAUGHT, Calibration, tag_maps
from engine.numerics.metrics import calibration_error

Scores = NDArray[np.float32]


def problem(
    pictures: int, tags: int, shift: float, tilt: float, seed: int = 0
) -> tuple[Scores, sparse.csr_matrix]:
    """Scores that are wrong in a way of its own for each tag, and the labels."""
    rng = np.random.default_rng(seed)
    odds_NV = rng.normal(-1.5, 1.5, (pictures, tags))
    labels_NV = (rng.random(odds_NV.shape) < expit(odds_NV)).astype(np.float32)
    wrong_NV = (odds_NV - rng.normal(0, shift, tags)) / (1 + rng.normal(0, tilt, tags))
    return expit(wrong_NV).astype(np.float32), sparse.csr_matrix(labels_NV)


def test_a_tags_map_is_the_likeliest_under_its_prior() -> None:
    scores_NV, labels_NV = problem(150, 4, 0.8, 0.2)
    slope, intercept, variances = 0.9, -0.2, (0.7, 0.1)
    found = tag_maps(scores_NV, labels_NV, slope, intercept, variances)
    truth_NV = labels_NV.toarray()
    for tag in range(4):
        z_N = [slope * float(logit(score)) + intercept for score in scores_NV[:, tag]]
        doubt_N = [p * (1 - p) for p in expit(z_N)]
        middle = sum(d * z for d, z in zip(doubt_N, z_N, strict=True)) / sum(doubt_N)

        def loss(theta: NDArray[np.float64], tag: int = tag, z_N=z_N, middle=middle) -> float:
            total = theta[0] ** 2 / (2 * variances[0]) + theta[1] ** 2 / (2 * variances[1])
            for z, carried in zip(z_N, truth_NV[:, tag], strict=True):
                odds = z + theta[0] + theta[1] * (z - middle)
                total += np.logaddexp(0, odds) - carried * odds
            return float(total)

        best = minimize(loss, np.zeros(2)).x
        assert found.factor_V[tag] == pytest.approx(1 + best[1], abs=1e-3)
        assert found.shift_V[tag] == pytest.approx(best[0] - best[1] * middle, abs=1e-3)


def test_the_priors_are_learned_from_all_the_tags() -> None:
    unlike = tag_maps(*problem(400, 120, 1.0, 0.2), 1.0, 0.0)
    alike = tag_maps(*problem(400, 120, 0.0, 0.0), 1.0, 0.0)
    # A tag's shift is divided by its factor in the scores, and so a little more than 1 in odds.
    assert unlike.variances[0] ** 0.5 == pytest.approx(1.0, rel=0.25)
    assert unlike.variances[1] ** 0.5 == pytest.approx(0.2, rel=0.5)
    assert alike.variances[0] < 0.03
    assert np.abs(alike.shift_V).max() < 0.2


def test_a_tag_that_nobody_carries_keeps_nearly_the_map_for_all() -> None:
    scores_NV, labels_NV = problem(200, 40, 1.0, 0.2)
    rare = labels_NV.toarray()
    rare[:, 0] = 0
    scores_NV[:, 0] = expit(np.random.default_rng(5).normal(-6, 0.5, 200))
    found = tag_maps(scores_NV, sparse.csr_matrix(rare), 1.0, 0.0)
    assert abs(found.shift_V[0] + (found.factor_V[0] - 1) * -6) < 0.5
    assert np.abs(found.shift_V[1:]).max() > 1


def tagwise_error(scores_NV: Scores, truth_NV: NDArray[np.bool_]) -> float:
    return float(
        np.mean(
            [
                calibration_error(scores_NV[:, tag], truth_NV[:, tag], bins=8)
                for tag in range(scores_NV.shape[1])
            ]
        )
    )


def test_pictures_that_were_not_seen_are_calibrated_tag_by_tag() -> None:
    scores_NV, labels_NV = problem(1600, 30, 1.2, 0.3)
    learned = {
        scope: Calibration.learn(scores_NV[:800], labels_NV[:800], scope)
        for scope in ("all", "tags")
    }
    raw_NV, truth_NV = scores_NV[800:], labels_NV[800:].toarray() > 0
    before = tagwise_error(raw_NV, truth_NV)
    by_all, by_tags = (tagwise_error(learned[s](raw_NV), truth_NV) for s in ("all", "tags"))
    assert by_tags < by_all / 2
    assert by_tags < before / 3
    assert calibration_error(learned["tags"](raw_NV), truth_NV) < 0.01
    for tag in (0, 7):
        order_N = np.argsort(raw_NV[:, tag], kind="stable")
        assert (np.diff(learned["tags"](raw_NV)[order_N, tag]) >= 0).all()


def test_a_tag_that_few_pictures_taught_keeps_the_map_for_all() -> None:
    """Its held-out scores are all too low; learned again with those pictures they no longer are."""
    rng = np.random.default_rng(0)
    truth_NV = rng.random((400, 4)) < 0.1
    odds_NV = np.where(truth_NV, 1.0, -3.0) + rng.standard_normal((400, 4))
    low_NV = odds_NV - [0.0, 0.0, 0.0, 9.0]
    labels_NV = sparse.csr_matrix(truth_NV.astype(np.float32))
    held_out_NV = expit(low_NV).astype(np.float32)
    again_NV = expit(odds_NV).astype(np.float32)
    taught_V = np.array([100.0, 100.0, TAUGHT, TAUGHT - 1])
    plain = Calibration.learn(held_out_NV, labels_NV, "tags")(again_NV)
    careful = Calibration.learn(held_out_NV, labels_NV, "tags", taught_V)
    assert plain[:, 3].mean() > 0.5
    assert careful(again_NV)[:, 3].mean() < 0.2
    assert careful.slopes is not None
    assert careful.slopes[3] == careful.slope
    assert careful.slopes[2] != careful.slope
    nobody = Calibration.learn(held_out_NV, labels_NV, "tags", np.zeros(4))
    assert nobody.slopes == (nobody.slope,) * 4


def test_blocks_of_tags_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_NV, labels_NV = problem(60, 11, 0.5, 0.1)
    whole = Calibration.learn(scores_NV, labels_NV, "tags")
    monkeypatch.setattr("engine.calibration._BLOCK", 180)
    assert Calibration.learn(scores_NV, labels_NV, "tags").slopes == pytest.approx(
        whole.slopes, rel=1e-9
    )


def test_a_separable_tag_is_shrunk_and_finite() -> None:
    scores_NV, labels_NV = problem(80, 12, 0.5, 0.1)
    clear = labels_NV.toarray()
    scores_NV[:, 3] = np.where(clear[:, 3] > 0, 1.0, 0.0)
    found = Calibration.learn(scores_NV, sparse.csr_matrix(clear), "tags")
    assert np.isfinite(found.slopes).all()
    assert np.isfinite(found.intercepts).all()
    assert found(scores_NV).min() >= 0


def test_json_keeps_a_calibration() -> None:
    learned = Calibration.learn(*problem(60, 5, 0.5, 0.1), "tags")
    assert learned.slopes is not None
    assert Calibration.from_json(json.loads(json.dumps(learned.to_json()))) == learned
    plain = Calibration(0.5, 0.25)
    assert Calibration.from_json(json.loads(json.dumps(plain.to_json()))) == plain
    with pytest.raises(KeyError):
        Calibration.from_json({"slope": 1.0})
