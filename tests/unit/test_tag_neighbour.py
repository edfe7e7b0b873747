"""TagNeighbour: its neighbours by brute force, its pooling over all subsets, and its fallback."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import sparse

from engine import schema
from engine.annotators.tag_neighbour import TagNeighbour, TagNeighbourRecipe
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.group import Solo
from engine.numerics import jaccard
from engine.numerics.jaccard import nearest_sets, subset_max_weights
from engine.numerics.levels import normalised_levels
from engine.training.neighbourhood import Neighbourhood
from engine.vocab import Vocabulary

LEVELS = (5, 3)
VOCABULARY = Vocabulary(("sea", "dog", "car"), (3, 2, 1))
QUICK = {"hidden": 16, "optimisation": {"epochs": 2, "batch": 16}}

Sets = list[set[int]]


def matrix(sets: Sets, members: int) -> sparse.csr_matrix:
    dense = np.zeros((len(sets), members), dtype=np.float32)
    for row, one in enumerate(sets):
        dense[row, sorted(one)] = 1
    return sparse.csr_matrix(dense)


def by_force(query: set[int], stored: Sets, most: int, excluded: int) -> list[int]:
    """Sorted by fractions, each compared with each; equal ones in their order."""
    able = [row for row, one in enumerate(stored) if one & query and row != excluded]
    able.sort(key=lambda row: (-len(stored[row] & query) / len(stored[row] | query), row))
    return (able + [-1] * most)[:most]


@given(
    st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=25),
    st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_neighbours_are_those_of_brute_force(stored: Sets, queries: Sets, most: int) -> None:
    excluded = np.array([row % len(stored) if row % 2 else -1 for row in range(len(queries))])
    found = nearest_sets(matrix(queries, 7), matrix(stored, 7), most, excluded)
    expected = [
        by_force(query, stored, most, int(out))
        for query, out in zip(queries, excluded, strict=True)
    ]
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_blocks_change_no_neighbour(rng: np.random.Generator) -> None:
    sets = sparse.csr_matrix((rng.random((90, 12)) < 0.3).astype(np.float32))
    whole = nearest_sets(sets, sets, 5, np.arange(90))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaccard, "HELD", 90 * 7)
        np.testing.assert_array_equal(nearest_sets(sets, sets, 5, np.arange(90)), whole)
    assert nearest_sets(sets[:0], sets, 5).shape == (0, 5)


@pytest.mark.parametrize(("candidates", "size"), [(6, 3), (5, 1), (4, 4), (1, 1)])
def test_sorted_values_give_the_mean_over_all_subsets(
    candidates: int, size: int, rng: np.random.Generator
) -> None:
    values = rng.random(candidates)
    maxima = [max(subset) for subset in combinations(values.tolist(), size)]
    weights = subset_max_weights(candidates, size)
    assert float(np.sort(values) @ weights) == pytest.approx(float(np.mean(maxima)), rel=1e-6)
    assert float(weights.sum()) == pytest.approx(1)


def test_subset_weights_by_hand() -> None:
    """Of the three pairs of three numbers the middle one is the largest of one pair."""
    np.testing.assert_allclose(subset_max_weights(3, 2), [0, 1 / 3, 2 / 3], rtol=1e-6)


def drawn_corpus(with_social: bool = True) -> Corpus:
    rng = np.random.default_rng(0)
    labels = rng.random((60, 3)) < 0.4
    labels[np.arange(60), rng.integers(0, 3, 60)] = True
    x_ND = labels @ rng.standard_normal((3, sum(LEVELS))) + 0.5 * rng.standard_normal((60, 8))
    names = np.array(["waves", "rex", "wheels"])
    said = tuple((*names[row], "me")[: 3 * (number % 5 > 0)] for number, row in enumerate(labels))
    return Corpus(
        tuple(f"p{row:02}" for row in rng.permutation(60)),
        x_ND.astype(np.float32),
        sparse.csr_matrix(labels.astype(np.float32)),
        LEVELS,
        said if with_social else None,
    )


def fitted(**settings: object) -> TagNeighbour:
    recipe = TagNeighbourRecipe.model_validate(QUICK | settings)
    return recipe.fit(drawn_corpus(), VOCABULARY, Solo())


def scores(annotator: TagNeighbour, corpus: Corpus, words: object = "own") -> np.ndarray:
    given_words = list(corpus.social_tags or ()) if words == "own" else [words] * len(corpus)
    batch = pa.table(
        {
            schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND),
            schema.SOCIAL_TAGS: pa.array(given_words, schema.OPTIONAL[schema.SOCIAL_TAGS]),
        }
    )
    return annotator.score(batch).scores_BV


def test_the_score_is_the_mean_over_neighbourhoods(rng: np.random.Generator) -> None:
    """Johnson et al. 2015, section 3, a picture and a neighbourhood at a time, in float64."""
    annotator, corpus = fitted(candidates=4, neighbours=2), drawn_corpus()
    found = scores(annotator, corpus)
    own_w, own_b, out_w, out_b = (one.astype(np.float64) for one in annotator.layers)
    words = annotator.bag.words
    stored = [set(row.indices.tolist()) for row in annotator.sets_NW]
    x_ND = normalised_levels(corpus.embeddings_ND, LEVELS).astype(np.float64)
    assert corpus.social_tags is not None
    for row in range(60):
        query = {words.index(word) for word in corpus.social_tags[row] if word in words}
        near = by_force(query, stored, 4, -1)
        v_x = np.maximum(x_ND[row] @ own_w + own_b, 0)
        hidden = [annotator.hidden_NH[n].astype(np.float64) if n >= 0 else 0 * v_x for n in near]
        logits = [
            np.concatenate([v_x, np.maximum(hidden[a], hidden[b])]) @ out_w + out_b
            for a, b in combinations(range(4), 2)
        ]
        expected = 1 / (1 + np.exp(-np.mean(logits, axis=0)))
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_stored_pictures_are_as_the_network_saw_them(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    network = Neighbourhood(6, 5, 0.0, subset_max_weights(3, 2), np.zeros(4, np.float32)).eval()
    x, near = rng.standard_normal((7, 6)), rng.standard_normal((7, 3, 6))
    there = rng.random((7, 3)) < 0.7
    with torch.no_grad():
        found = network(
            torch.from_numpy(x).float(), torch.from_numpy(near).float(), torch.from_numpy(there)
        ).numpy()
    w = network.arrays()
    for row in range(7):
        own = np.maximum(x[row] @ w["own_weights"] + w["own_bias"], 0)
        others = np.maximum(near[row] @ w["other_weights"] + w["other_bias"], 0)
        others[~there[row]] = 0
        pairs = [np.maximum(others[a], others[b]) for a, b in combinations(range(3), 2)]
        both = np.concatenate([own, np.mean(pairs, axis=0)])
        np.testing.assert_allclose(found[row], both @ w["out_weights"] + w["out_bias"], atol=1e-5)


def test_without_known_social_tags_its_own_features_decide() -> None:
    annotator, corpus = fitted(), drawn_corpus()
    alone = scores(annotator, corpus, None)
    assert np.isfinite(alone).all()
    for words in ([], ["unheard of"]):
        np.testing.assert_array_equal(scores(annotator, corpus, words), alone)
    own_w, own_b, out_w, out_b = annotator.layers
    hidden = np.maximum(normalised_levels(corpus.embeddings_ND, LEVELS) @ own_w + own_b, 0)
    logits = hidden @ out_w[: len(own_b)] + out_b
    np.testing.assert_allclose(alone, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert np.abs(scores(annotator, corpus) - alone).max() > 1e-3


@pytest.mark.parametrize("how", ["none at all", "only rare ones"])
def test_a_corpus_without_social_tags_is_refused(how: str) -> None:
    recipe = TagNeighbourRecipe.model_validate(QUICK | {"min_count": 2 if how[0] == "n" else 99})
    with pytest.raises(ConfigError, match="'tag-neighbour' finds neighbours by `social_tags`"):
        recipe.fit(drawn_corpus(with_social=how[0] != "n"), VOCABULARY, Solo())


def test_neighbours_help_where_pictures_say_nothing() -> None:
    corpus = drawn_corpus()
    blind = Corpus(
        corpus.ids,
        np.random.default_rng(1).standard_normal((60, 8)).astype(np.float32),
        corpus.labels_NV,
        LEVELS,
        corpus.social_tags,
    )
    recipe = TagNeighbourRecipe.model_validate({"hidden": 32, "optimisation": {"epochs": 25}})
    taught = recipe.fit(corpus, VOCABULARY, Solo())
    truth = corpus.labels_NV.toarray() > 0
    with_words, alone = scores(taught, blind), scores(taught, blind, None)
    told = np.arange(60) % 5 > 0
    right = {
        name: ((one > 0.5) == truth)[told].mean()
        for name, one in (("with", with_words), ("alone", alone))
    }
    assert right["with"] > right["alone"]


def test_it_is_the_same_once_loaded(tmp_path: Path) -> None:
    annotator, corpus = fitted(), drawn_corpus()
    annotator.save(tmp_path)
    loaded = TagNeighbour.load(tmp_path)
    np.testing.assert_array_equal(scores(loaded, corpus), scores(annotator, corpus))


def test_no_more_are_pooled_than_there_are() -> None:
    with pytest.raises(ValidationError, match="neighbours is 4 and candidates is 3"):
        TagNeighbourRecipe(candidates=3, neighbours=4)
