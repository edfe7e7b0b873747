"""A corpus in blocks and parts, and its split into training and validation."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from engine.corpus import Corpus, split_rows
from engine.errors import CorpusError
from engine.vocab import Vocabulary

BOUNDED = settings(max_examples=100, derandomize=True, deadline=None, database=None)
IDS = st.lists(st.text(max_size=6), min_size=2, max_size=60, unique=True)
FRACTION = st.floats(0.01, 0.99)


def validating(ids: list[str], fraction: float, seed: int = 0) -> set[str]:
    return {ids[row] for row in split_rows(ids, fraction, seed)[1]}


@BOUNDED
@given(IDS, FRACTION, st.integers(0, 5))
def test_every_picture_is_on_one_side_and_neither_is_empty(
    ids: list[str], fraction: float, seed: int
) -> None:
    training, validation = split_rows(ids, fraction, seed)
    assert sorted([*training, *validation]) == list(range(len(ids)))
    assert len(training)
    assert len(validation)
    assert abs(len(validation) - fraction * len(ids)) <= 1
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()


@BOUNDED
@given(IDS, FRACTION, st.randoms(use_true_random=False))
def test_order_does_not_matter(ids: list[str], fraction: float, random: Random) -> None:
    turned = random.sample(ids, len(ids))
    assert validating(turned, fraction) == validating(ids, fraction)


@BOUNDED
@given(IDS, IDS, FRACTION)
def test_a_grown_corpus_moves_pictures_at_the_border_alone(
    ids: list[str], more: list[str], fraction: float
) -> None:
    grown = list(dict.fromkeys([*ids, *more]))
    before, after = validating(ids, fraction), validating(grown, fraction) & set(ids)
    assert before <= after or after <= before


def test_growing_by_a_tenth_moves_few() -> None:
    ids = [f"image-{number}" for number in range(1100)]
    before, after = validating(ids[:1000], 0.2), validating(ids, 0.2) & set(ids[:1000])
    assert len(before) == 200
    assert len(before ^ after) < 20


def test_another_seed_is_another_split() -> None:
    ids = [f"image-{number}" for number in range(200)]
    assert validating(ids, 0.5, seed=0) != validating(ids, 0.5, seed=1)


@pytest.mark.parametrize("ids", [[], ["one"]])
def test_fewer_than_two_pictures_are_refused(ids: list[str]) -> None:
    with pytest.raises(CorpusError, match=f"{len(ids)} usable tagged picture"):
        split_rows(ids, 0.1, seed=0)


def small(rows: int = 7) -> Corpus:
    return Corpus(
        tuple(f"image-{row}" for row in range(rows)),
        np.arange(rows * 2, dtype=np.float32).reshape(rows, 2),
        sparse.csr_matrix(np.eye(5, dtype=np.float32)[np.arange(rows) % 5]),
        (2,),
    )


def test_blocks_are_the_corpus_in_order() -> None:
    corpus = small()
    blocks = list(corpus.blocks(3))
    assert [len(embeddings_BD) for embeddings_BD, _ in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in blocks]), corpus.embeddings_ND)
    np.testing.assert_array_equal(
        sparse.vstack([labels for _, labels in blocks]).toarray(), corpus.labels_NV.toarray()
    )


def test_a_subset_keeps_the_rows_together_in_the_order_asked_for() -> None:
    corpus = small()
    part = corpus.subset(np.array([4, 1]))
    assert part.ids == ("image-4", "image-1")
    assert part.embeddings_ND.tolist() == [[8, 9], [2, 3]]
    assert part.labels_NV.toarray().argmax(axis=1).tolist() == [4, 1]
    assert part.levels == corpus.levels


def test_the_order_of_the_tags_follows_the_pictures() -> None:
    tags = [["a", "b", "c"], ["c", "a"], ["b"]]
    vocabulary = Vocabulary(("a", "b", "c"), (2, 2, 2))
    labels_NV = vocabulary.encode(tags)
    whole = Corpus(
        ("x", "y", "z"),
        np.zeros((3, 2), dtype=np.float32),
        labels_NV,
        (2,),
        places_NV=vocabulary.encode_places(tags),
    )
    assert [one.tolist() for one in whole.tag_lists()] == [[0, 1, 2], [2, 0], [1]]
    part = whole.subset(np.array([1, 0]))
    assert [one.tolist() for one in part.tag_lists()] == [[2, 0], [0, 1, 2]]
    unordered = Corpus(whole.ids, whole.embeddings_ND, labels_NV, (2,))
    assert [one.tolist() for one in unordered.tag_lists()] == [[0, 1, 2], [0, 2], [1]]


def test_places_of_other_labels_are_refused() -> None:
    corpus = small(5)
    with pytest.raises(CorpusError, match="5 labels and the places of 5"):
        Corpus(
            corpus.ids,
            corpus.embeddings_ND,
            corpus.labels_NV,
            corpus.levels,
            places_NV=corpus.labels_NV[::-1],
        )


def test_parts_that_do_not_belong_together_are_refused() -> None:
    corpus = small()
    with pytest.raises(CorpusError, match="6 ids, 7 embeddings and 7 tag rows"):
        Corpus(corpus.ids[:-1], corpus.embeddings_ND, corpus.labels_NV, corpus.levels)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_corpus_without_tags_to_learn_from_is_refused(rows: int) -> None:
    untagged = sparse.csr_matrix((rows, 5), dtype=np.float32)
    with pytest.raises(CorpusError, match="at least one tag"):
        Corpus(("a", "b")[:rows], np.zeros((rows, 2), dtype=np.float32), untagged, (2,))
