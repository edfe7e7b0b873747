"""Padded targets, greedy decoding without repeats, and scores whose rank is the order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.group import Solo
from engine.sequence import (
    NOTHING,
    Decoded,
    decode_greedily,
    ordered_scores,
    padded_targets,
    shortened_note,
)


def test_lists_become_one_matrix_and_long_ones_are_cut() -> None:
    lists = [np.array(one) for one in ([4, 0, 2], [1], [3, 2, 1, 0])]
    whole = padded_targets(lists, 9)
    assert whole.tags_NT.tolist() == [
        [4, 0, 2, NOTHING],
        [1, NOTHING, NOTHING, NOTHING],
        [3, 2, 1, 0],
    ]
    assert whole.lengths_N.tolist() == [3, 1, 4]
    assert whole.shortened == 0
    assert shortened_note("x", whole, 9, Solo()) == ()
    cut = padded_targets(lists, 2)
    assert cut.tags_NT.tolist() == [[4, 0], [1, NOTHING], [3, 2]]
    assert cut.is_tag_NT.tolist() == [[True, True], [True, False], [True, True]]
    assert cut.shortened == 2
    assert shortened_note("x", cut, 2, Solo()) == (
        "x learned from the first 2 tags of 2 pictures that have more; raise its limit to use "
        "them all",
    )
    assert padded_targets([], 3).tags_NT.shape == (0, 0)


def fixed(logs_TBV: np.ndarray) -> "tuple[list[np.ndarray], object]":
    seen: list[np.ndarray] = []

    def step(tags_Bt: np.ndarray) -> np.ndarray:
        seen.append(tags_Bt.copy())
        return np.asarray(logs_TBV[tags_Bt.shape[1]])

    return seen, step


def test_a_hand_worked_decoding() -> None:
    p = np.array([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]]])
    seen, step = fixed(np.log(p).astype(np.float32))
    found = decode_greedily(step, 2, 3, 2)
    assert found.tags_BT.tolist() == [[0, 2], [2, 1]]
    np.testing.assert_allclose(found.taken_BT, [[0.5, 0.2], [0.8, 0.5]], atol=1e-6)
    np.testing.assert_allclose(found.largest_BV, [[0.7, 0.3, 0.2], [0.2, 0.5, 0.8]], atol=1e-6)
    assert [one.shape for one in seen] == [(2, 0), (2, 1)]
    assert found.lengths_B.tolist() == [2, 2]
    # T = 2: the first step's band begins at 3/4, the second's at 1/2.
    np.testing.assert_allclose(
        ordered_scores(found),
        [[0.75 + 0.5 / 4, 0.15, 0.5 + 0.35 / 4], [0.1, 0.5 + 0.5 / 4, 0.75 + 0.65 / 4]],
        atol=1e-6,
    )


def test_the_end_ends_a_picture_and_not_its_neighbour() -> None:
    p = np.array([[[0.2, 0.3, 0.5], [0.5, 0.4, 0.1]], [[0.9, 0.05, 0.05], [0.3, 0.3, 0.4]]])
    found = decode_greedily(fixed(np.log(p))[1], 2, 2, 5, has_end=True)  # type: ignore[arg-type]
    assert found.tags_BT.tolist() == [[NOTHING, NOTHING], [0, NOTHING]]
    assert found.lengths_B.tolist() == [0, 1]
    # The first picture's second step came after its end, and counts for nothing.
    np.testing.assert_allclose(found.largest_BV, [[0.2, 0.3], [0.5, 0.4]], atol=1e-6)
    scores_BV = ordered_scores(found)
    assert scores_BV[0].max() < 0.5 < scores_BV[1, 0]


@given(
    st.integers(1, 7), st.integers(1, 9), st.booleans(), st.integers(0, 2**32 - 1), st.floats(0, 60)
)
def test_no_tag_twice_and_the_rank_of_the_scores_is_the_order(
    tags: int, limit: int, has_end: bool, seed: int, sharpness: float
) -> None:
    rng = np.random.default_rng(seed)
    z_TBV = sharpness * rng.standard_normal((tags, 5, tags + has_end))
    log_TBV = z_TBV - np.log(np.exp(z_TBV).sum(axis=2, keepdims=True))
    found = decode_greedily(fixed(log_TBV.astype(np.float32))[1], 5, tags, limit, has_end)  # type: ignore[arg-type]
    scores_BV = ordered_scores(found)
    assert scores_BV.dtype == np.float32
    assert 0 <= scores_BV.min() <= scores_BV.max() <= 1
    for row in range(5):
        chosen = [tag for tag in found.tags_BT[row] if tag != NOTHING]
        assert len(set(chosen)) == len(chosen) == found.lengths_B[row]
        if not has_end:
            assert len(chosen) == min(limit, tags)
        assert np.argsort(-scores_BV[row], kind="stable")[: len(chosen)].tolist() == chosen
        taken = scores_BV[row, chosen]
        assert (np.diff(taken) < 0).all()
        others = np.setdiff1d(np.arange(tags), chosen)
        if len(chosen):
            assert scores_BV[row, others].max(initial=0) < taken.min()
        np.testing.assert_allclose(scores_BV[row, others], found.largest_BV[row, others] / 2)


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_sure_and_impossible_tags_of_neighbouring_steps_are_never_tied(steps: int) -> None:
    """The narrowest case: a tag taken with probability 0, and after it one with 1."""
    taken_BT = (np.arange(steps) % 2).astype(np.float32)[None]
    tags_BT = np.arange(steps)[None]
    scores_BV = ordered_scores(Decoded(tags_BT, taken_BT, np.ones((1, steps + 1), np.float32)))
    assert (np.diff(scores_BV[0]) < 0).all()


def test_no_picture_decodes_to_no_row() -> None:
    found = decode_greedily(lambda _: np.zeros((0, 3), np.float32), 0, 3, 2)
    assert found.tags_BT.shape == (0, 2)
    assert ordered_scores(found).shape == (0, 3)
