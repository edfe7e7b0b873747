"""Calibration keeps the order and mends the odds; blending favours the annotator that knows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from engine.calibration import Calibration
from engine.errors import BundleError
from engine.fitting import ranked_tags
from engine.fusion import Fusion
from engine.numerics.metrics import calibration_error, word_metrics
from engine.numerics.online_weights import learn_weights

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)
Scores = NDArray[np.float32]


def problem(pictures: int = 200, tags: int = 12) -> tuple[Scores, sparse.csr_matrix]:
    """True probabilities [N, V] and labels drawn from them."""
    rng = np.random.default_rng(4)
    truth_NV = expit(rng.normal(-1.5, 2.0, (pictures, tags)))
    return truth_NV.astype(np.float32), sparse.csr_matrix(
        (rng.random(truth_NV.shape) < truth_NV).astype(np.float32)
    )


def muddled(scores_NV: Scores, noise: float, seed: int) -> Scores:
    spread = np.random.default_rng(seed).normal(0, noise, scores_NV.shape)
    return expit(logit(scores_NV) + spread).astype(np.float32)


@BOUNDED
@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30),
    st.floats(1e-3, 5),
    st.floats(-8, 8),
)
def test_calibration_is_monotone_and_stays_in_range(
    scores: list[float], slope: float, intercept: float
) -> None:
    ordered = np.sort(np.array(scores, np.float32))
    calibrated = Calibration(slope, intercept)(ordered)
    assert calibrated.dtype == np.float32
    assert (np.diff(calibrated) >= 0).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1


@pytest.mark.parametrize(("slope", "shift"), [(0.3, 0.0), (3.0, 1.0), (1.0, -2.0)])
def test_calibration_mends_the_odds(slope: float, shift: float) -> None:
    truth_NV, labels_NV = problem()
    wrong_NV = expit(slope * logit(truth_NV) + shift).astype(np.float32)
    learned = Calibration.learn(wrong_NV, labels_NV)
    mended_NV = learned(wrong_NV)
    carried = labels_NV.toarray().ravel() > 0
    assert log_loss(carried, mended_NV.ravel()) < log_loss(carried, wrong_NV.ravel())
    assert learned.slope == pytest.approx(1 / slope, rel=0.2)
    assert calibration_error(mended_NV, carried) < 0.03
    assert calibration_error(mended_NV, carried) < calibration_error(wrong_NV, carried)


def test_scores_that_are_wrong_way_round_are_calibrated_to_the_base_rate() -> None:
    truth_NV, labels_NV = problem()
    learned = Calibration.learn(1 - truth_NV, labels_NV)
    assert learned.slope > 0
    base_rate = labels_NV.toarray().mean()
    np.testing.assert_allclose(learned(1 - truth_NV), base_rate, atol=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_both_answers_nothing_is_calibrated(share: float) -> None:
    truth_NV, labels_NV = problem()
    same_NV = sparse.csr_matrix(np.full(labels_NV.shape, share, np.float32))
    assert Calibration.learn(truth_NV, same_NV) == Calibration()


def weighed(scores: dict[str, Scores], labels_NV: sparse.csr_matrix) -> dict[str, float]:
    """The weights of calibrated scores, by name."""
    found_A = learn_weights(np.stack(list(scores.values())), labels_NV, seed=0).weights_A
    return dict(zip(scores, found_A.tolist(), strict=True))


def test_weights_are_a_simplex_and_favour_the_better_annotator() -> None:
    truth_NV, labels_NV = problem()
    scores = {"noise": muddled(truth_NV, 6, 1), "good": truth_NV, "fair": muddled(truth_NV, 2, 2)}
    weights = weighed(scores, labels_NV)
    assert list(weights) == list(scores)
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) > 0
    assert weights["good"] > 1.5 * weights["noise"]
    assert weights["good"] > weights["fair"] > weights["noise"]
    assert weighed(scores, labels_NV) == weights


def test_equal_annotators_weigh_the_same() -> None:
    truth_NV, labels_NV = problem()
    weights = weighed({"a": truth_NV, "b": truth_NV}, labels_NV)
    assert weights["a"] == pytest.approx(0.5)


def test_one_annotator_alone_or_no_labels_at_all_weigh_uniformly() -> None:
    truth_NV, labels_NV = problem()
    nothing = sparse.csr_matrix(np.zeros(labels_NV.shape, np.float32))
    assert weighed({"a": truth_NV}, labels_NV) == {"a": 1}
    assert weighed({"a": truth_NV, "b": truth_NV}, nothing) == {
        "a": 0.5,
        "b": 0.5,
    }


def test_the_blend_is_better_than_its_parts_and_calibrated() -> None:
    truth_NV, labels_NV = problem(400)
    scores = {"a": muddled(truth_NV, 1.5, 1), "b": muddled(truth_NV, 1.5, 2)}
    fused_NV = Fusion.learn(scores, labels_NV, seed=0)(scores)
    assert fused_NV.shape == truth_NV.shape
    assert fused_NV.dtype == np.float32
    assert fused_NV.min() >= 0
    assert fused_NV.max() <= 1
    carried = labels_NV.toarray().ravel() > 0
    fused = log_loss(carried, fused_NV.ravel())
    for scores_NV in scores.values():
        alone_NV = Calibration.learn(scores_NV, labels_NV)(scores_NV)
        assert fused < log_loss(carried, alone_NV.ravel())
    assert calibration_error(fused_NV, carried) < 0.03


def test_a_missing_annotator_leaves_its_share_to_the_others() -> None:
    truth_NV, _ = problem()
    other_NV, third_NV = muddled(truth_NV, 1, 1), muddled(truth_NV, 1, 2)
    plain = Calibration()
    whole = Fusion({"a": 0.3, "b": 0.2, "c": 0.5}, dict.fromkeys("abc", plain), plain)
    without = Fusion({"a": 0.6, "b": 0.4}, dict.fromkeys("ab", plain), plain)
    np.testing.assert_allclose(
        whole({"a": truth_NV, "b": other_NV}), without({"a": truth_NV, "b": other_NV}), rtol=1e-5
    )
    np.testing.assert_allclose(whole({"c": third_NV}), third_NV, rtol=1e-4, atol=2e-6)


def abstaining(scores_NV: Scores, rows: NDArray[np.bool_]) -> Scores:
    return np.where(rows[:, None], np.float32(np.nan), scores_NV)


def test_one_that_abstains_leaves_its_share_to_the_others_for_that_picture() -> None:
    truth_NV, _ = problem()
    other_NV, third_NV = muddled(truth_NV, 1, 1), muddled(truth_NV, 1, 2)
    maps = {"a": Calibration(0.8, 0.1), "b": Calibration(1.2, -0.3), "c": Calibration(2.0, 0.5)}
    fusion = Fusion({"a": 0.3, "b": 0.2, "c": 0.5}, maps, Calibration(), np.full(12, 0.7, "f4"))
    silent_N = np.arange(200) % 3 == 0
    scores = {"a": truth_NV, "b": other_NV, "c": abstaining(third_NV, silent_N)}
    parts = fusion.parts(scores)
    found_NV = fusion(scores)
    assert found_NV.dtype == np.float32
    assert not parts["c"][silent_N].any()
    without_NV = fusion({"a": truth_NV, "b": other_NV})
    whole_NV = fusion({"a": truth_NV, "b": other_NV, "c": third_NV})
    np.testing.assert_array_equal(found_NV[silent_N], without_NV[silent_N])
    np.testing.assert_array_equal(found_NV[~silent_N], whole_NV[~silent_N])
    expected_NV = (0.6 * maps["a"](truth_NV) + 0.4 * maps["b"](other_NV))[silent_N]
    np.testing.assert_allclose(sum(parts.values())[silent_N], expected_NV, rtol=1e-5)


@pytest.mark.parametrize("lift", [0.0, 0.3])
@pytest.mark.parametrize("silent", [0.0, 0.4, 1.0])
def test_one_that_may_abstain_changes_nothing_where_it_does(lift: float, silent: float) -> None:
    truth_NV, labels_NV = problem(300)
    others = {"a": muddled(truth_NV, 2, 1), "b": muddled(truth_NV, 3, 2)}
    silent_N = np.arange(300) < silent * 300
    scores = {**others, "c": abstaining(muddled(truth_NV, 0.5, 3), silent_N)}
    without = Fusion.learn(others, labels_NV, 0, lift)
    fusion = Fusion.learn(scores, labels_NV, 0, lift, optional={"c"})
    assert list(fusion.weights) == ["a", "b", "c"]
    assert sum(fusion.weights.values()) == pytest.approx(1)
    nothing_NV = abstaining(truth_NV, np.ones(300, dtype=np.bool_))
    np.testing.assert_allclose(
        fusion({**others, "c": nothing_NV}), without(others), rtol=1e-5, atol=1e-7
    )
    informed_N = fusion.informed(fusion.parts(scores))
    np.testing.assert_array_equal(informed_N, ~silent_N)
    if silent == 1:
        assert fusion.weights["c"] == pytest.approx(1 / 3)
        assert fusion.final_informed is None
        return
    # Where it speaks it is the best of the three, and the blend is better and calibrated.
    assert fusion.weights["c"] > 1 / 3
    carried = labels_NV.toarray()[informed_N].ravel() > 0
    found, before = (s[informed_N].ravel() for s in (fusion(scores), without(others)))
    assert log_loss(carried, found) < 0.95 * log_loss(carried, before)
    assert calibration_error(found, carried) < 0.03


def test_weights_are_shared_out_among_those_awake() -> None:
    """Two that are never awake together have, each with the third, the weight of that pair."""
    truth_NV, labels_NV = problem(400)
    is_first_N = np.arange(400) < 200
    scores = {"base": muddled(truth_NV, 3, 1), "good": truth_NV, "bad": muddled(truth_NV, 8, 2)}
    scores["good"] = abstaining(scores["good"], ~is_first_N)
    scores["bad"] = abstaining(scores["bad"], is_first_N)
    weights = weighed(scores, labels_NV)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["good"] > weights["base"] > weights["bad"]


def test_a_lift_moves_rare_tags_up_and_keeps_each_tags_own_order(tmp_path: Path) -> None:
    truth_NV, labels_NV = problem(400)
    rarity_V = np.geomspace(1, 0.05, truth_NV.shape[1]).astype(np.float32)
    scores = {"a": truth_NV * rarity_V}
    kept_NV = np.random.default_rng(1).random(labels_NV.shape) < rarity_V
    labels_NV = sparse.csr_matrix(labels_NV.toarray() * kept_NV)
    plain_NV, lifted_NV = (
        Fusion.learn(scores, labels_NV, seed=0, lift=lift)(scores) for lift in (0.0, 0.5)
    )
    assert lifted_NV.dtype == np.float32
    assert lifted_NV.min() >= 0
    assert lifted_NV.max() <= 1
    rare = slice(truth_NV.shape[1] // 2, None)
    assert (lifted_NV.argmax(axis=1) >= rare.start).sum() > (
        plain_NV.argmax(axis=1) >= rare.start
    ).sum()
    order_N = np.argsort(plain_NV[:, 0], kind="stable")
    assert (np.diff(lifted_NV[order_N, 0]) >= 0).all()
    lifted = Fusion.learn(scores, labels_NV, seed=0, lift=0.5)
    lifted.save(tmp_path / "fusion.json")
    np.testing.assert_array_equal(Fusion.load(tmp_path / "fusion.json")(scores), lifted_NV)


def test_a_balanced_blend_gains_in_the_mean_over_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base_V = np.sort(rng.pareto(1.0, 120) + 0.2)[::-1] * 0.01
    odds_NV = base_V * np.exp(rng.normal(0, 2.0, (800, 120)))
    p_NV = (odds_NV / (1 + odds_NV)).astype(np.float32)
    truth_NV = rng.random(p_NV.shape) < p_NV
    labels_NV = sparse.csr_matrix(truth_NV[:400].astype(np.float32))
    plain = Fusion.learn({"a": p_NV[:400]}, labels_NV, seed=0)
    frequency_V = p_NV.mean(0).astype(np.float64)
    balanced = Fusion.learn(
        {"a": p_NV[:400]}, labels_NV, seed=0, balance=400, frequency_V=frequency_V
    )
    unseen = {"a": p_NV[400:]}
    figures = [
        word_metrics(ranked_tags(fusion(unseen), 5), truth_NV[400:]) for fusion in (plain, balanced)
    ]
    assert figures[1].f1 > figures[0].f1 + 0.01
    assert figures[1].n_plus > figures[0].n_plus
    balanced.save(tmp_path / "fusion.json")
    loaded = Fusion.load(tmp_path / "fusion.json")
    np.testing.assert_array_equal(loaded(unseen), balanced(unseen))


def test_no_pictures_give_no_scores() -> None:
    truth_NV, labels_NV = problem()
    fusion = Fusion.learn({"a": truth_NV}, labels_NV, seed=0)
    assert fusion({"a": truth_NV[:0]}).shape == (0, 12)


def test_save_and_load_is_the_identity(tmp_path: Path) -> None:
    truth_NV, labels_NV = problem()
    fusion = Fusion.learn({"a": truth_NV, "b": muddled(truth_NV, 1, 1)}, labels_NV, seed=0)
    fusion.save(tmp_path / "fusion.json")
    assert Fusion.load(tmp_path / "fusion.json") == fusion
    some = Fusion.learn({"a": truth_NV, "b": truth_NV}, labels_NV, seed=0, optional={"b"})
    assert some.optional == ("b",)
    assert some.final_informed is not None
    some.save(tmp_path / "fusion.json")
    assert Fusion.load(tmp_path / "fusion.json") == some


@pytest.mark.parametrize("text", ["{}", '{"weights": {}, "calibrations": {"a": {"x": 1}}}'])
def test_another_format_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fusion.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"fusion\.json"):
        Fusion.load(path)
