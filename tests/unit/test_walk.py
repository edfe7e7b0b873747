"""The walk of CCA annotation against a worked case and a loop that walks."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from engine import schema, transfer
from engine.annotators.cca import CcaRecipe
from engine.corpus import Corpus
from engine.fitting import Material, ranked_tags, score_corpus
from engine.group import Solo
from engine.numerics.walk import Walk

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def walked(similarities_N: NDArray[np.floating], labels_NV: NDArray[np.bool_], k: int) -> list[int]:
    """The paper's procedure as it is told: neighbour after neighbour until k tags are gathered."""
    frequencies_V = labels_NV.sum(axis=0)
    gathered: list[int] = []
    for row in sorted(range(len(labels_NV)), key=lambda n: (-similarities_N[n], n)):
        own = sorted(np.flatnonzero(labels_NV[row]), key=lambda v: (-frequencies_V[v], v))
        gathered += [int(tag) for tag in own if tag not in gathered]
        if len(gathered) >= k:
            break
    return gathered[:k]


def test_a_case_worked_by_hand() -> None:
    """Tags sea, sky, dog, rare, never; the picture with sky and dog is the nearest."""
    labels_NV = sparse.csr_matrix(
        np.array(
            [
                [1, 1, 0, 0, 0],  # similarity 0.1: sea, sky
                [0, 1, 1, 0, 0],  # 0.9: sky (carried thrice) before dog (once)
                [1, 0, 0, 1, 0],  # 0.5: sea (thrice) before rare (once)
                [1, 1, 0, 0, 0],  # 0.4
            ],
            dtype=np.float32,
        )
    )
    places_BV, keys_BN = Walk(labels_NV).among_all(np.array([[0.1, 0.9, 0.5, 0.4]]))
    assert places_BV.tolist() == [[2, 0, 1, 3, 4]]
    assert np.argsort(-keys_BN[0]).tolist() == [1, 2, 3, 0]
    shortlist_BM = np.array([[1, 2, -1]])
    assert Walk(labels_NV).among(shortlist_BM).tolist() == [[2, 0, 1, 3, 4]]
    # Only the nearest is in the list: the others come after it, the frequent ones first.
    assert Walk(labels_NV).among(shortlist_BM[:, :1]).tolist() == [[2, 0, 1, 3, 4]]


@BOUNDED
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 9), st.booleans())
def test_the_k_best_are_what_the_walk_has_gathered(
    seed: int, pictures: int, tags: int, with_ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels_NV = rng.random((pictures, tags)) < 0.3
    labels_NV[np.arange(pictures), rng.integers(0, tags, pictures)] = True
    similarities_BN = rng.uniform(-1, 1, (4, pictures))
    if with_ties:
        similarities_BN = similarities_BN.round(1)
    walk = Walk(sparse.csr_matrix(labels_NV.astype(np.float32)))
    places_BV, keys_BN = walk.among_all(similarities_BN)
    listed_BV = walk.among(np.argsort(-keys_BN, axis=1))
    np.testing.assert_array_equal(np.sort(places_BV, axis=1), [range(tags)] * 4)
    np.testing.assert_array_equal(listed_BV, places_BV)
    for row in range(4):
        for k in range(1, int(labels_NV.any(axis=0).sum()) + 1):
            expected = walked(similarities_BN[row], labels_NV, k)
            assert np.argsort(places_BV[row])[:k].tolist() == expected


def test_no_query_and_an_empty_shortlist() -> None:
    labels_NV = sparse.csr_matrix(np.eye(3, dtype=np.float32))
    places_BV, keys_BN = Walk(labels_NV).among_all(np.empty((0, 3)))
    assert (places_BV.shape, keys_BN.shape) == ((0, 3), (0, 3))
    assert Walk(labels_NV).among(np.empty((0, 2), dtype=np.int64)).shape == (0, 3)
    assert Walk(labels_NV).among(np.full((1, 2), -1)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("match", ["image", "text"])
def test_the_annotator_gives_the_tags_of_the_walk(
    match: str, material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    """From the projections on, with nothing of the annotator's own scoring."""
    training, held_out = halves
    recipe = CcaRecipe.model_validate({"tag_vectors": "binary", "match": match})
    fitted = recipe.fit(training, material.vocabulary, Solo())
    queries_BL = fitted.placement.query_in_float64(held_out.embeddings_ND)
    similarities_BN = queries_BL @ fitted.index.vectors().T.astype(np.float64)
    scores_BV = score_corpus(fitted, held_out)
    labels_NV = training.labels_NV.toarray() > 0
    for k in (1, 5, 12):
        given_BV = ranked_tags(scores_BV, k)
        for row in range(len(held_out)):
            expected = walked(similarities_BN[row].round(9), labels_NV, k)
            assert np.flatnonzero(given_BV[row]).tolist() == sorted(expected)


@pytest.mark.parametrize("match", ["image", "text"])
def test_a_shortlist_of_everything_walks_the_same(
    match: str,
    material: Material,
    halves: tuple[Corpus, Corpus],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, held_out = halves
    recipe = CcaRecipe.model_validate({"tag_vectors": "binary", "match": match})
    dense = recipe.fit(training, material.vocabulary, Solo())
    monkeypatch.setattr(transfer, "EXACT_UP_TO", 0)
    listed = recipe.fit(training, material.vocabulary, Solo())
    dense_NV, listed_NV = score_corpus(dense, held_out), score_corpus(listed, held_out)
    # Pictures with the same tags are equally near in the text view, but carry the same tags too.
    assert np.mean(dense_NV != listed_NV) < 0.02
    empty = pa.table({schema.EMBEDDING: schema.tensor_column(held_out.embeddings_ND[:0])})
    assert listed.score(empty).scores_BV.shape == (0, len(material.vocabulary))
