"""The space of pictures and tags on corpora that are small, odd or broken."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine.annotators import REGISTRY
from engine.annotators.cca_knn import CcaKnn, CcaKnnRecipe
from engine.cca_space import image_features
from engine.config import load_config
from engine.corpus import Corpus
from engine.errors import ConfigError, CorpusError
from engine.fitting import score_corpus
from engine.group import Solo
from engine.numerics.kernels import Chi2Map
from engine.numerics.levels import normalised_levels
from engine.vocab import Vocabulary
from engine.words import BinaryVectors

KINDS = pytest.mark.parametrize("kind", ["cca", "cca-knn"])
KERNELS = pytest.mark.parametrize("kernel", ["linear", "chi2"])
SPREAD = 24


def drawn(
    labels_NV: NDArray[np.bool_], levels: tuple[int, ...] = (SPREAD, 8), seed: int = 0
) -> tuple[Corpus, Vocabulary]:
    """Pictures whose features follow their tags; those of the first level are not negative."""
    rng = np.random.default_rng(seed)
    rows, tags = labels_NV.shape
    values_ND = labels_NV @ rng.standard_normal((tags, sum(levels)))
    values_ND += 0.3 * rng.standard_normal(values_ND.shape)
    values_ND[:, : levels[0]] = np.maximum(values_ND[:, : levels[0]], 0)
    corpus = Corpus(
        tuple(f"p{row}" for row in range(rows)),
        values_ND.astype(np.float32),
        sparse.csr_matrix(labels_NV.astype(np.float32)),
        levels,
    )
    counts = labels_NV.sum(axis=0)
    return corpus, Vocabulary(tuple(f"tag{v}" for v in range(tags)), tuple(map(int, counts)))


def some_labels(rows: int, tags: int, seed: int = 1) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    labels_NV = rng.random((rows, tags)) < 0.3
    labels_NV[np.arange(rows), rng.integers(0, tags, rows)] = True
    return labels_NV


def check_finite(kind: str, corpus: Corpus, vocabulary: Vocabulary, **settings: object) -> object:
    recipe = REGISTRY[kind].recipe.model_validate({"tag_vectors": "binary"} | settings)
    fitted = recipe.fit(corpus, vocabulary, Solo())
    scores_NV = score_corpus(fitted, corpus)
    assert np.isfinite(scores_NV).all()
    assert scores_NV.min() >= 0
    assert scores_NV.max() <= 1
    return fitted


@KINDS
@KERNELS
@pytest.mark.parametrize("regulariser", [0.0, 0.1])
@pytest.mark.parametrize("rows", [2, 3, 7])
def test_fewer_pictures_than_dimensions(
    kind: str, kernel: str, regulariser: float, rows: int
) -> None:
    labels_NV = some_labels(rows, 4)
    labels_NV[0], labels_NV[1] = [1, 0, 0, 0], [0, 1, 1, 0]
    check_finite(kind, *drawn(labels_NV), kernel=kernel, regulariser=regulariser)


@KINDS
@KERNELS
def test_a_tag_that_occurs_once_and_one_on_every_picture(kind: str, kernel: str) -> None:
    labels_NV = some_labels(40, 6)
    labels_NV[:, 2] = True
    labels_NV[:, 5] = False
    labels_NV[17, 5] = True
    corpus, vocabulary = drawn(labels_NV)
    fitted = check_finite(kind, corpus, vocabulary, kernel=kernel)
    assert isinstance(fitted, REGISTRY[kind].annotator)
    scores_NV = score_corpus(fitted, corpus)
    # The picture that carries the single tag is its own nearest neighbour.
    assert scores_NV[17, 5] == scores_NV[:, 5].max()
    assert (scores_NV[:, 2].mean() > scores_NV.mean(axis=0)).sum() >= 5


@KINDS
def test_every_picture_with_the_same_tags_is_refused(kind: str) -> None:
    corpus, vocabulary = drawn(np.ones((9, 3), dtype=bool))
    with pytest.raises(CorpusError, match="all the tags' vectors are the same"):
        check_finite(kind, corpus, vocabulary)


@KINDS
def test_pictures_whose_tags_have_no_vector(kind: str, tmp_path: Path) -> None:
    corpus, vocabulary = drawn(some_labels(30, 5))
    vectors = "\n".join(f"tag{v} {v} {v * v} {1 - v}" for v in range(3))
    (tmp_path / "words.txt").write_text(vectors, encoding="utf-8")
    source = f"glove:{tmp_path / 'words.txt'}"
    fitted = check_finite(kind, corpus, vocabulary, tag_vectors=source)
    assert isinstance(fitted, REGISTRY[kind].annotator)
    assert "2 words of tags have no vector" in fitted.notes[0]
    for match in ("image", "text"):
        check_finite(kind, corpus, vocabulary, tag_vectors=source, match=match)


@KINDS
@KERNELS
def test_a_dead_feature_is_left_out_with_a_note(kind: str, kernel: str) -> None:
    corpus, vocabulary = drawn(some_labels(30, 5))
    corpus.embeddings_ND[:, [3, 9]] = 0
    fitted = check_finite(kind, corpus, vocabulary, kernel=kernel)
    assert isinstance(fitted, REGISTRY[kind].annotator)
    told = [note for note in fitted.notes if "never vary" in note]
    assert told == (
        ["2 of the 32 features never vary in this corpus, and are left out of CCA"]
        if kernel == "linear"
        else []
    )


@KINDS
def test_a_feature_that_is_not_finite_is_named(kind: str) -> None:
    corpus, vocabulary = drawn(some_labels(30, 5), levels=(SPREAD,))
    corpus.embeddings_ND[4, 11] = np.nan
    # The picture's whole level is divided by its length, so all of it is lost.
    with pytest.raises(CorpusError, match=r"features 0, 1, 2, 3, 4 and 19 others of the pictures'"):
        check_finite(kind, corpus, vocabulary)


@KINDS
def test_chi2_refuses_negative_features_of_the_first_level_alone(kind: str) -> None:
    corpus, vocabulary = drawn(some_labels(30, 5))
    assert (corpus.embeddings_ND[:, SPREAD:] < 0).any()
    check_finite(kind, corpus, vocabulary, kernel="chi2", landmarks=10)
    corpus.embeddings_ND[4, 11] = -1
    for landmarks in (10, 1000):
        with pytest.raises(CorpusError, match=r"feature 11 of row .* is -1, and the χ² kernel"):
            check_finite(kind, corpus, vocabulary, kernel="chi2", landmarks=landmarks)


def test_chi2_of_tags_is_for_binary_vectors() -> None:
    settings = ['annotators={near={kind="cca-knn",text_kernel="chi2"}}']
    with pytest.raises(ConfigError, match=r"annotators.near.*text_kernel 'chi2' needs vectors"):
        load_config(None, settings)
    corpus, vocabulary = drawn(some_labels(40, 5))
    for match in ("image", "text"):
        check_finite("cca-knn", corpus, vocabulary, text_kernel="chi2", match=match, landmarks=20)


def test_mapped_levels_weigh_the_same() -> None:
    corpus, _ = drawn(some_labels(30, 5))
    x_ND = corpus.embeddings_ND
    mapped = Chi2Map.of(x_ND[:, :SPREAD])
    features = image_features(x_ND, corpus.levels, mapped)
    rest = features[:, -8:]
    np.testing.assert_array_equal(rest, normalised_levels(x_ND[:, SPREAD:], (8,)))
    np.testing.assert_allclose((features[:, :-8] ** 2).sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose((rest**2).sum(axis=1), 1, atol=1e-5)
    single = Chi2Map.of(x_ND[:, :SPREAD])
    np.testing.assert_array_equal(
        image_features(x_ND[:, :SPREAD], (SPREAD,), single), features[:, :-8]
    )


@KINDS
def test_landmarks_owe_nothing_to_the_order_of_the_corpus(kind: str) -> None:
    corpus, vocabulary = drawn(some_labels(60, 5))
    order = np.random.default_rng(0).permutation(60)
    settings = {"kernel": "chi2", "landmarks": 12, "tag_vectors": "binary"}
    recipe = REGISTRY[kind].recipe.model_validate(settings)
    straight = recipe.fit(corpus, vocabulary, Solo())
    shuffled = recipe.fit(corpus.subset(order), vocabulary, Solo())
    one, other = straight.placement.images.image_map, shuffled.placement.images.image_map  # type: ignore[attr-defined]
    np.testing.assert_array_equal(one.landmarks_MD, other.landmarks_MD)
    assert one.landmarks_MD.shape == (12, SPREAD)
    np.testing.assert_allclose(
        score_corpus(straight, corpus), score_corpus(shuffled, corpus), atol=1e-3
    )


class Halves:
    """A group of two that are asked one after the other, the second with what the first brought."""

    size = 2

    def __init__(self, rank: int, other: list[NDArray[np.generic]] | None) -> None:
        self.rank, self.other = rank, other
        self.brought: list[NDArray[np.generic]] = []

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        self.brought.append(values)
        if self.other is None:
            return [values]
        theirs = self.other[len(self.brought) - 1]
        return [theirs, values] if self.rank else [values, theirs]

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values


def test_ranks_choose_the_landmarks_that_one_would() -> None:
    corpus, vocabulary = drawn(some_labels(60, 5))
    recipe = CcaKnnRecipe(kernel="chi2", landmarks=12, tag_vectors="binary")
    first = Halves(0, None)
    recipe.learn_space(corpus.subset(np.arange(25)), vocabulary, first)
    space = recipe.learn_space(
        corpus.subset(np.arange(25, 60)), vocabulary, Halves(1, first.brought)
    )
    whole = recipe.learn_space(corpus, vocabulary, Solo())
    assert space.views.image_map is not None
    assert whole.views.image_map is not None
    np.testing.assert_array_equal(
        space.views.image_map.landmarks_MD, whole.views.image_map.landmarks_MD
    )


@KINDS
@pytest.mark.parametrize("match", ["image", "text"])
def test_a_kernel_is_saved_and_loaded_to_the_bit(kind: str, match: str, tmp_path: Path) -> None:
    corpus, vocabulary = drawn(some_labels(50, 5))
    settings = {"kernel": "chi2", "landmarks": 20, "match": match, "dimensions": "auto"}
    fitted = check_finite(kind, corpus, vocabulary, **settings)
    assert isinstance(fitted, REGISTRY[kind].annotator)
    fitted.save(tmp_path)
    loaded = REGISTRY[kind].annotator.load(tmp_path)
    np.testing.assert_array_equal(score_corpus(loaded, corpus), score_corpus(fitted, corpus))


def test_a_batch_equals_its_sub_batches_behind_a_kernel() -> None:
    corpus, vocabulary = drawn(some_labels(50, 5))
    fitted = check_finite("cca-knn", corpus, vocabulary, kernel="chi2")
    assert isinstance(fitted, CcaKnn)
    whole_NV = score_corpus(fitted, corpus)
    parts = [
        score_corpus(fitted, corpus.subset(np.arange(start, min(start + 13, 50))))
        for start in range(0, 50, 13)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole_NV, atol=2e-5)


def test_the_rule_keeps_fewer_directions_where_tags_are_dealt_at_random() -> None:
    corpus, vocabulary = drawn(some_labels(400, 6))
    rng = np.random.default_rng(0)
    dealt = replace(corpus, labels_NV=corpus.labels_NV[rng.permutation(400)])
    recipe = CcaKnnRecipe(dimensions="auto", tag_vectors="binary", regulariser=0.01)
    kept = recipe.learn_space(corpus, vocabulary, Solo())
    noise = recipe.learn_space(dealt, vocabulary, Solo())
    assert kept.cca.weights_x_DL.shape[1] >= 5
    assert re.match(r"\d canonical directions correlate by more than 0\.\d\d,", kept.notes[0])
    assert noise.cca.weights_x_DL.shape[1] == 1
    assert noise.notes[0].startswith("no canonical direction correlates by more than 0.")


def test_binary_vectors_have_a_limit() -> None:
    assert BinaryVectors().embed(["a", "b"]).vectors_VE.shape == (2, 2)
    with pytest.raises(ConfigError, match=r"at most 8,192 tags, but the vocabulary has 20,000"):
        BinaryVectors().embed([str(number) for number in range(20_000)])
