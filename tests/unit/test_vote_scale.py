"""The fitted temperature: what explains the carried tags best, by brute force; never NaN."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine.annotators.cca_knn import CcaKnn, CcaKnnRecipe
from engine.cca_space import correlation_normalised
from engine.corpus import Corpus
from engine.fitting import Material, score_corpus
from engine.group import Solo
from engine.numerics.vote_scale import COOLEST, HOTTEST, fitted_temperature


def drawn(spread: float) -> tuple[NDArray[np.float32], sparse.csr_matrix]:
    """Sixty pictures about six centres, each centre with a tag, and a tag at random."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(6, 8))
    kind_N = np.arange(60) % 6
    vectors_NL = correlation_normalised(
        (centres[kind_N] + spread * rng.normal(size=(60, 8))).astype(np.float32)
    )
    labels = np.zeros((60, 9), dtype=np.float32)
    labels[np.arange(60), kind_N] = 1
    labels[np.arange(60), 6 + rng.integers(0, 3, 60)] = 1
    return vectors_NL, sparse.csr_matrix(labels)


def surprise(
    vectors_NL: NDArray[np.float32], labels_NV: sparse.csr_matrix, k: int, temperature: float
) -> float:
    """-mean log P(w) over carried tags by a plain loop in float64; own K nearest carriers vote."""
    truth = labels_NV.toarray() > 0
    similarity = (vectors_NL @ vectors_NL.T).astype(np.float64)
    total, pairs = 0.0, 0
    for query in range(len(truth)):
        votes = np.zeros(truth.shape[1])
        for tag in range(truth.shape[1]):
            carriers = [n for n in np.flatnonzero(truth[:, tag]) if n != query]
            nearest = sorted((similarity[query, n] for n in carriers), reverse=True)[:k]
            votes[tag] = sum(np.exp((s - 1) / temperature) for s in nearest)
        for tag in np.flatnonzero(truth[query]):
            total -= np.log(votes[tag] / votes.sum() + 1e-6)
            pairs += 1
    return total / pairs


@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_no_temperature_of_a_grid_explains_the_tags_better(spread: float) -> None:
    vectors_NL, labels_NV = drawn(spread)
    found = fitted_temperature(vectors_NL, labels_NV, 4, pooled=False)
    assert COOLEST < found < HOTTEST
    best = surprise(vectors_NL, labels_NV, 4, found)
    for temperature in np.geomspace(0.02, 1.5, 12):
        assert best <= surprise(vectors_NL, labels_NV, 4, float(temperature)) + 1e-4


def test_noisier_pictures_get_a_higher_temperature() -> None:
    cool, warm = (fitted_temperature(*drawn(s), 4, pooled=True) for s in (0.2, 1.5))
    assert cool < warm


def test_where_nothing_can_be_told_it_is_the_hottest() -> None:
    """One tag on every picture; and tags that occur once, of which no other picture votes."""
    vectors_NL, _ = drawn(0.5)
    everywhere = sparse.csr_matrix(np.ones((60, 1), dtype=np.float32))
    assert fitted_temperature(vectors_NL, everywhere, 4, pooled=False) == HOTTEST
    once = sparse.csr_matrix(np.eye(60, dtype=np.float32))
    assert fitted_temperature(vectors_NL, once, 4, pooled=True) == HOTTEST


def test_the_recipe_keeps_what_was_fitted(
    material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    training, held_out = halves
    recipe = CcaKnnRecipe(temperature="fitted", tag_vectors="binary")
    fitted = recipe.fit(training, material.vocabulary, Solo())
    temperature = fitted.recipe.temperature
    assert isinstance(temperature, float)
    by_hand = CcaKnnRecipe(temperature=temperature, tag_vectors="binary")
    again = by_hand.fit(training, material.vocabulary, Solo())
    np.testing.assert_array_equal(score_corpus(fitted, held_out), score_corpus(again, held_out))


def test_both_sides_blend(material: Material, halves: tuple[Corpus, Corpus]) -> None:
    """With a share of 0 and of 1 it is each side alone; the similarities blend between them."""
    training, held_out = halves

    def fit(match: str, share: float = 0.2) -> CcaKnn:
        settings = {"match": match, "text_share": share, "tag_vectors": "binary", "neighbours": 500}
        recipe = CcaKnnRecipe.model_validate(settings)
        return recipe.fit(training, material.vocabulary, Solo())

    for share, side in ((0.0, "image"), (1.0, "text")):
        np.testing.assert_allclose(
            score_corpus(fit("both", share), held_out),
            score_corpus(fit(side), held_out),
            atol=2e-5,
        )
    blended = fit("both", 0.3)
    image_NL, text_NL = fit("image").index.vectors(), fit("text").index.vectors()
    queries = training.embeddings_ND[:5]
    expected = 0.7 * image_NL[:5] @ image_NL.T + 0.3 * image_NL[:5] @ text_NL.T
    found = blended.placement.query(queries) @ blended.index.vectors().T
    np.testing.assert_allclose(found, expected, atol=1e-5)
