"""How many tags, which ones, in what order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from engine import schema
from engine.cut import Cut, parse_top_k, tag_lists, tag_thresholds
from engine.errors import BundleError, ConfigError

BOUNDED = settings(max_examples=80, derandomize=True, deadline=None, database=None)


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("1", 1), ("auto", "auto")])
def test_top_k_is_a_number_or_auto(text: str, value: object) -> None:
    assert parse_top_k(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "", "many", "AUTO", "+3", "²"])
def test_any_other_top_k_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="top-k"):
        parse_top_k(text)


@BOUNDED
@given(
    rows=st.integers(0, 6),
    tags=st.integers(1, 60),
    top_k=st.integers(1, 12),
    levels=st.integers(2, 30),
    seed=st.integers(0, 999),
)
def test_the_best_come_first_and_ties_keep_the_vocabularys_order(
    rows: int, tags: int, top_k: int, levels: int, seed: int
) -> None:
    steps_BV = np.random.default_rng(seed).integers(0, levels, (rows, tags))
    scores_BV = (steps_BV / levels).astype(np.float32)
    places_BK, counts_B = Cut().rank(scores_BV, top_k)
    width = min(top_k, tags)
    assert places_BK.shape == (rows, width)
    assert counts_B.tolist() == [width] * rows
    for scores_V, places_K in zip(scores_BV, places_BK, strict=True):
        expected = sorted(range(tags), key=lambda tag: (-scores_V[tag], tag))[:width]
        assert places_K.tolist() == expected


def test_auto_gives_what_passes_the_threshold_and_always_one() -> None:
    scores_BV = np.array([[0.9, 0.1, 0.6], [0.2, 0.3, 0.1], [0.5, 0.8, 0.7]], np.float32)
    places_BK, counts_B = Cut(threshold=0.5).rank(scores_BV, "auto")
    assert counts_B.tolist() == [2, 1, 3]
    assert places_BK[0, :2].tolist() == [0, 2]
    assert places_BK[1, :1].tolist() == [1]
    assert places_BK[2].tolist() == [1, 2, 0]
    assert Cut(threshold=0.5, most=2).rank(scores_BV, "auto")[1].tolist() == [2, 1, 2]


def test_the_threshold_with_the_best_f1_is_found(rng: np.random.Generator) -> None:
    truth_NV = rng.random((300, 10)) < 0.3
    scores_NV = np.where(
        truth_NV, rng.uniform(0.42, 1, truth_NV.shape), rng.uniform(0, 0.38, truth_NV.shape)
    ).astype(np.float32)
    cut = Cut.learn(scores_NV, sparse.csr_matrix(truth_NV.astype(np.float32)))
    assert 0.36 < cut.threshold < 0.45
    _, counts_N = cut.rank(scores_NV, "auto")
    assert np.mean(counts_N == np.maximum(truth_NV.sum(axis=1), 1)) > 0.9


def test_a_tags_threshold_has_the_best_f1_of_all_thresholds(rng: np.random.Generator) -> None:
    truth_NV = rng.random((60, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.0]
    scores_NV = (truth_NV * 0.3 + rng.random(truth_NV.shape).round(1) * 0.7).astype(np.float32)
    labels_NV = sparse.csr_matrix(truth_NV.astype(np.float32))
    found = tag_thresholds(scores_NV, labels_NV, 0.123, support=5)

    def f1(tag: int, threshold: float) -> float:
        given_N = scores_NV[:, tag] >= threshold
        right = sum(bool(one) for one in given_N & truth_NV[:, tag])
        return 2 * right / (sum(given_N) + sum(truth_NV[:, tag]))

    carried = truth_NV.sum(0)
    assert (carried < 5).any()
    for tag, threshold in enumerate(found):
        if carried[tag] < 5:
            assert threshold == 0.123
            continue
        assert not np.isin(np.float32(threshold), scores_NV[:, tag]) or threshold == min(
            scores_NV[:, tag]
        )
        best = max(f1(tag, float(score)) for score in scores_NV[:, tag])
        assert f1(tag, threshold) == pytest.approx(best)


def test_learning_leaves_the_scores_alone(rng: np.random.Generator) -> None:
    scores_NV = rng.random((20, 5)).astype(np.float32)
    before_NV = scores_NV.copy()
    Cut.learn(scores_NV, sparse.csr_matrix(np.eye(20, 5, dtype=np.float32)))
    np.testing.assert_array_equal(scores_NV, before_NV)


def test_ranked_tags_become_a_column() -> None:
    scores_BV = np.array([[0.9, 0.1, 0.6], [0.2, 0.3, 0.1]], np.float32)
    column = tag_lists(("sea", "sky", "dog"), scores_BV, *Cut().rank(scores_BV, "auto"))
    assert column.type == schema.SCORED_TAGS
    assert [[tag["tag"] for tag in row] for row in column.to_pylist()] == [["sea", "dog"], ["sky"]]
    assert column.to_pylist()[1][0]["score"] == pytest.approx(0.3)
    empty = tag_lists(("sea", "sky", "dog"), scores_BV[:0], *Cut().rank(scores_BV[:0], 2))
    assert len(empty) == 0
    assert empty.type == schema.SCORED_TAGS


def test_save_and_load_is_the_identity(tmp_path: Path) -> None:
    Cut(0.123456789, 7).save(tmp_path / "cut.json")
    assert Cut.load(tmp_path / "cut.json") == Cut(0.123456789, 7)


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"level": 1}', encoding="utf-8")
    with pytest.raises(BundleError, match=r"cut\.json"):
        Cut.load(tmp_path / "cut.json")
