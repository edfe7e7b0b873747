"""The training pictures that neighbour methods keep: their scales, and how they are walked over."""

import numpy as np
import pytest
from scipy import sparse

from engine import exemplars as module
from engine.corpus import Corpus
from engine.exemplars import Exemplars, first_levels
from engine.group import Solo

LEVELS = (6, 3)


@pytest.fixture
def corpus(rng: np.random.Generator) -> Corpus:
    return Corpus(
        tuple(f"p{row}" for row in range(25)),
        np.abs(rng.standard_normal((25, 9))).astype(np.float32),
        sparse.csr_matrix(np.ones((25, 4), dtype=np.float32)),
        LEVELS,
    )


def gathered(corpus: Corpus) -> Exemplars:
    return Exemplars.gather(corpus, corpus.embeddings_ND, corpus.levels, "l1", Solo())


def test_the_largest_training_distance_is_one(corpus: Corpus) -> None:
    exemplars = gathered(corpus)
    [distances_MNN] = exemplars.to(corpus.embeddings_ND)
    np.testing.assert_allclose(distances_MNN.max(axis=(1, 2)), 1, rtol=1e-6)
    for level, part in enumerate(np.split(corpus.embeddings_ND, [6], axis=1)):
        shares = part / part.sum(axis=1, keepdims=True)
        largest = max(float(np.abs(a - b).sum()) for a in shares for b in shares)
        assert exemplars.scales_M[level] == pytest.approx(largest, rel=1e-5)


def test_a_large_corpus_is_scaled_by_a_sample(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_M = gathered(corpus).scales_M
    monkeypatch.setattr(module, "SCALED_BY", 5)
    sampled_M = gathered(corpus).scales_M
    only_M = gathered(corpus.subset(np.array([0, 6, 12, 18, 24]))).scales_M
    np.testing.assert_array_equal(sampled_M, only_M)
    assert (sampled_M <= whole_M).all()


def test_how_many_are_held_at_a_time_changes_nothing(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    exemplars = gathered(corpus)
    [at_once] = exemplars.to(corpus.embeddings_ND)
    [(rows_N, left_out)] = exemplars.leave_one_out()
    np.testing.assert_array_equal(rows_N, np.arange(25))
    assert np.isinf(left_out[:, np.arange(25), np.arange(25)]).all()
    monkeypatch.setattr(module, "HELD", 4 * 2 * 25)
    parts = list(exemplars.to(corpus.embeddings_ND))
    assert [part.shape[1] for part in parts] == [4] * 6 + [1]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), at_once)
    others = list(exemplars.leave_one_out())
    np.testing.assert_array_equal(np.concatenate([far for _, far in others], axis=1), left_out)
    assert list(exemplars.to(corpus.embeddings_ND[:0])) == []


def test_evidence_is_cut_off_and_leaves_out_what_is_infinitely_far(corpus: Corpus) -> None:
    [row] = gathered(corpus).evidence(np.array([[3, 1, 2]]), np.array([[0.5, 7.0, np.inf]]))
    assert [(item["image_id"], item["distance"]) for item in row] == [("p3", 0.5), ("p1", 2.0)]


def test_first_levels() -> None:
    assert first_levels(LEVELS, "all") == LEVELS
    assert first_levels(LEVELS, 1) == (6,)
    assert first_levels(LEVELS, 9) == LEVELS
