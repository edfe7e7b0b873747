"""CNN-R: its regression against least squares, tags it never saw, and what it cannot learn from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from sklearn.metrics import average_precision_score

from engine import schema
from engine.annotators.cnn_r import CnnR, CnnRRecipe
from engine.corpus import Corpus
from engine.embed import backbone, load_embedder
from engine.embed.tuned import new_regressor, outputs
from engine.errors import ConfigError, CorpusError
from engine.fitting import Material
from engine.group import Solo
from engine.numerics.text_view import TextSpace, mean_word_vectors
from engine.numerics.whitening import Whitening
from engine.optimisation import Optimisation
from engine.regression import Head, Tuned
from engine.tensors import Pixels
from engine.vocab import Vocabulary

WORDS = ("sea", "sky", "dog", "zzz")


def glove(folder: Path, rows: dict[str, tuple[float, ...]]) -> str:
    path = folder / "words.txt"
    lines = [" ".join([word, *map(str, vector)]) for word, vector in rows.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"glove:{path}"


def small_corpus(labels: list[list[int]], width: int = 5, tags: int = 4, seed: int = 0) -> Corpus:
    rng = np.random.default_rng(seed)
    labels_NV = np.zeros((len(labels), tags), dtype=np.float32)
    for row, carried in enumerate(labels):
        labels_NV[row, carried] = 1
    causes_ND = labels_NV @ rng.standard_normal((tags, width))
    x_ND = (causes_ND + 0.1 * rng.standard_normal((len(labels), width))).astype(np.float32)
    ids = tuple(f"p{row}" for row in range(len(labels)))
    return Corpus(ids, x_ND, sparse.csr_matrix(labels_NV), (width,))


def batch_of(corpus: Corpus) -> pa.Table:
    columns = {schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND)}
    if corpus.pixels is not None:
        squares = corpus.pixels.take(np.arange(len(corpus)))
        columns[schema.PIXELS] = schema.tensor_column(squares)
    return pa.table({schema.IMAGE_ID: list(corpus.ids), **columns})


def test_mean_word_vectors_by_hand() -> None:
    labels = sparse.csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=np.float32))
    vectors = np.array([[2, 0], [0, 4], [9, 9]], dtype=np.float32)
    means, taught = mean_word_vectors(labels, vectors, np.array([True, True, False]))
    np.testing.assert_array_equal(means, [[1, 2], [0, 4], [0, 0]])
    np.testing.assert_array_equal(taught, [True, True, False])


def test_whitened_rows_have_no_correlation(rng: np.random.Generator) -> None:
    x_ND = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 3)) + 5
    x_ND = np.hstack([x_ND, np.full((400, 1), 7.0)])
    white = Whitening.learn([x_ND[:150], x_ND[150:]], 4, 1e-9, Solo())(x_ND)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-5)
    covariance = np.cov(white.T, bias=True)
    np.testing.assert_allclose(np.trace(covariance), 1, rtol=1e-4)
    values = np.linalg.eigvalsh(covariance)
    np.testing.assert_allclose(values, [0, 1 / 3, 1 / 3, 1 / 3], atol=1e-4)


@pytest.mark.parametrize("decorrelate", [None, 0.5])
def test_the_text_space_is_centred_and_of_unit_length(
    decorrelate: float | None, rng: np.random.Generator
) -> None:
    corpus = small_corpus([[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]] * 4)
    vectors = (3 + rng.standard_normal((4, 6))).astype(np.float32)
    known = np.array([True, True, True, False])
    space = TextSpace.learn(corpus.labels_NV, vectors, known, decorrelate, Solo())
    np.testing.assert_allclose(space.targets_NE.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.square(space.targets_NE).sum(1).mean(), 1, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(space.tags_VE, axis=1), known, atol=1e-6)


def test_the_new_layer_is_ridge_regression(tmp_path: Path) -> None:
    """To the bit of a solver no, but to a thousandth of the closed form, in float64."""
    corpus = small_corpus([[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]] * 10)
    source = glove(tmp_path, {"sea": (1, 0, 0), "sky": (0, 1, 0), "dog": (0.5, 0, 1)})
    decay = 0.02
    settings = Optimisation(
        optimiser="sgd", learning_rate=0.5, weight_decay=decay, epochs=150, batch=60
    )
    recipe = CnnRRecipe(tag_vectors=source, decorrelate="no", prior=0, optimisation=settings)
    vocabulary = Vocabulary(WORDS, (3, 3, 3, 0))
    fitted = recipe.fit(corpus, vocabulary, Solo())
    x = corpus.embeddings_ND.astype(np.float64)
    x = np.sign(x) * np.sqrt(np.abs(x))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    features = Whitening.learn([x], 5, 1.0, Solo())
    f = (x - features.mean_D) @ features.weights_DD
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0, 1]])
    labels = corpus.labels_NV.toarray()[:, :3]
    means = labels @ vectors / labels.sum(1, keepdims=True)
    centred = means - means.mean(0)
    targets = centred / np.sqrt(np.square(centred).sum(1).mean())
    weights = np.linalg.solve(f.T @ f / 60 + decay * np.eye(5), f.T @ targets / 60)
    expected = f @ weights
    assert isinstance(fitted.regression, Head)
    found = fitted.regression.predict(batch_of(corpus))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    tags = vectors - means.mean(0)
    cosines = (expected / np.linalg.norm(expected, axis=1, keepdims=True)) @ (
        tags / np.linalg.norm(tags, axis=1, keepdims=True)
    ).T
    scores = fitted.score(batch_of(corpus)).scores_BV
    np.testing.assert_allclose(scores[:, :3], expit(10 * cosines), atol=2e-2)
    np.testing.assert_array_equal(scores[:, 3], 0)
    assert fitted.notes == (f"1 tags have no vector in '{source}' (zzz); cnn-r never gives them",)


def test_the_prior_lifts_frequent_tags(tmp_path: Path) -> None:
    corpus = small_corpus([[0], [0], [0], [1]] * 5, tags=3)
    source = glove(tmp_path, {"sea": (1, 0), "sky": (0, 1), "dog": (1, 1)})
    vocabulary = Vocabulary(WORDS[:3], (15, 5, 0))
    plain = CnnRRecipe(tag_vectors=source, prior=0).fit(corpus, vocabulary, Solo())
    lifted = CnnRRecipe(tag_vectors=source, prior=0.5).fit(corpus, vocabulary, Solo())
    # Seen in 15 and 5 of 20, and never: as often as these on average.
    np.testing.assert_allclose(lifted.offsets_V, 0.5 * np.log([0.75, 0.25, 0.5]), rtol=1e-6)
    np.testing.assert_array_equal(plain.offsets_V, 0)


def test_it_names_tags_that_it_never_saw(material: Material) -> None:
    """Six words of the drawn corpus are taken off it; pictures of them are then told apart."""
    corpus, tags = material.corpus, material.vocabulary.tags
    counts = np.asarray(corpus.labels_NV.sum(axis=0)).ravel()
    candidates = [tag for tag in np.argsort(-counts)[8:60:4] if counts[tag] >= 8][:8]
    held_V = np.isin(np.arange(len(tags)), candidates)
    seen = corpus.labels_NV @ sparse.diags((~held_V).astype(np.float32), format="csr")
    seen.eliminate_zeros()
    rows = np.flatnonzero(np.diff(seen.indptr))
    learned = Vocabulary(
        tuple(tag for tag, held in zip(tags, held_V, strict=True) if not held),
        tuple(int(n) for n, held in zip(counts, held_V, strict=True) if not held),
    ).including(tags[place] for place in candidates)
    order = [material.vocabulary.index[tag] for tag in learned.tags]
    labels_NV = seen[rows][:, order].tocsr()
    training = replace(corpus.subset(rows), labels_NV=labels_NV, places_NV=None)
    fitted = CnnRRecipe().fit(training, learned, Solo())
    scores = fitted.score(batch_of(corpus)).scores_BV[:, -len(candidates) :]
    truth = corpus.labels_NV.toarray()[:, candidates] > 0
    precision = average_precision_score(truth, scores)
    assert learned.counts[-len(candidates) :] == (0,) * len(candidates)
    assert precision > 1.3 * truth.mean(), (precision, truth.mean())


def test_pictures_whose_tags_have_no_vector_are_left_out(tmp_path: Path) -> None:
    source = glove(tmp_path, {"sea": (1, 0), "sky": (0, 1), "dog": (1, 1)})
    vocabulary = Vocabulary(WORDS, (1, 1, 1, 1))
    corpus = small_corpus([[0], [1], [2], [3], [0, 3], [1, 2]])
    fitted = CnnRRecipe(tag_vectors=source).fit(corpus, vocabulary, Solo())
    assert any("left 1 pictures out" in note for note in fitted.notes)
    scores = fitted.score(batch_of(corpus)).scores_BV
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[:, 3], 0)
    without = CnnRRecipe(tag_vectors=source).fit(
        replace(corpus.subset(np.array([0, 1, 2, 4, 5]))), vocabulary, Solo()
    )
    assert without.notes == fitted.notes[:1]
    with pytest.raises(CorpusError, match="no picture has a tag that the word vectors know"):
        CnnRRecipe(tag_vectors=source).fit(corpus.subset(np.array([3])), vocabulary, Solo())


@pytest.mark.parametrize(
    "labels",
    [
        [[0, 1], [0, 2], [0], [0, 1, 2]],  # one tag on every picture
        [[0], [0], [0]],  # the same tags on every picture
        [[0]],  # one picture, fewer than dimensions
        [[0], [1], [2]],  # each tag once
    ],
)
@pytest.mark.parametrize("decorrelate", [3.0, "no"])
def test_poor_corpora_give_finite_scores(
    labels: list[list[int]], decorrelate: float | str, tmp_path: Path
) -> None:
    source = glove(tmp_path, {"sea": (1, 0), "sky": (0, 1), "dog": (1, 1)})
    corpus = small_corpus(labels, tags=3)
    counts = tuple(int(n) for n in np.asarray(corpus.labels_NV.sum(axis=0)).ravel())
    recipe = CnnRRecipe.model_validate({"tag_vectors": source, "decorrelate": decorrelate})
    scores = recipe.fit(corpus, Vocabulary(WORDS[:3], counts), Solo()).score(batch_of(corpus))
    assert np.isfinite(scores.scores_BV).all()


def test_word_vectors_too_wide_to_be_decorrelated_are_refused() -> None:
    corpus = small_corpus([[0], [1]], tags=5000)
    vocabulary = Vocabulary(tuple(f"t{n}" for n in range(5000)), (1, 1) + (0,) * 4998)
    with pytest.raises(ConfigError, match="5,000 numbers, and at most 4,096"):
        CnnRRecipe(tag_vectors="binary").fit(corpus, vocabulary, Solo())


# Every layer, from pixels.


def coloured_corpus(count: int = 48) -> Corpus:
    """Red, green and blue noise, tagged by its colour, as the seeded network sees it."""
    rng = np.random.default_rng(0)
    spec = backbone("random")
    size = spec.geometry.size
    colours = rng.integers(0, 3, count)
    squares = rng.integers(0, 120, (count, size, size, 3), dtype=np.uint8)
    squares[np.arange(count), :, :, colours] += 100
    embeddings = load_embedder(spec, "torch")(squares)
    labels = sparse.csr_matrix(np.eye(3, dtype=np.float32)[colours])
    pixels = Pixels(squares, np.arange(count), "random")
    ids = tuple(f"p{row}" for row in range(count))
    return Corpus(ids, embeddings, labels, spec.levels, pixels=pixels)


TUNED = {
    "train": "all",
    "tag_vectors": "binary",
    "decorrelate": "no",
    "optimisation": {"epochs": 3, "batch": 8, "learning_rate": 0.01},
}


def test_every_layer_is_learned_and_carried(tmp_path: Path) -> None:
    corpus = coloured_corpus()
    vocabulary = Vocabulary(("red", "green", "blue"), (16, 16, 16))
    recipe = CnnRRecipe.model_validate(TUNED)
    assert (recipe.by_gradient, recipe.wants_pixels) == (True, True)
    fitted = recipe.fit(corpus, vocabulary, Solo())
    assert isinstance(fitted.regression, Tuned)
    assert fitted.reads == (schema.PIXELS,)
    own = dict(fitted.regression.network.backbone.network.state_dict())
    given = backbone("random").network().state_dict()
    moved = {name for name in given if not torch.equal(own[name], given[name])}
    assert moved == {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}
    scores = fitted.score(batch_of(corpus)).scores_BV
    assert (scores.argmax(1) == corpus.labels_NV.indices).mean() > 0.9
    fitted.save(tmp_path)
    assert CnnR.reads_of(tmp_path) == (schema.PIXELS,)
    loaded = CnnR.load(tmp_path)
    assert loaded.reads == (schema.PIXELS,)
    np.testing.assert_array_equal(loaded.score(batch_of(corpus)).scores_BV, scores)
    again = recipe.fit(corpus, vocabulary, Solo())
    np.testing.assert_array_equal(again.score(batch_of(corpus)).scores_BV, scores)
    parts = [fitted.score(batch_of(corpus).slice(at, 5)).scores_BV for at in range(0, 48, 5)]
    np.testing.assert_allclose(np.concatenate(parts), scores, atol=2e-5)
    assert fitted.score(batch_of(corpus).slice(0, 0)).scores_BV.shape == (0, 3)


def test_with_old_layers_at_rest_only_the_new_one_moves() -> None:
    recipe = CnnRRecipe.model_validate({**TUNED, "old_layers": 0})
    corpus = coloured_corpus()
    fitted = recipe.fit(corpus, Vocabulary(("r", "g", "b"), (16, 16, 16)), Solo())
    assert isinstance(fitted.regression, Tuned)
    own = fitted.regression.network.backbone.network.state_dict()
    for name, given in backbone("random").network().state_dict().items():
        assert torch.equal(own[name], given)


def test_without_pixels_all_layers_cannot_be_learned() -> None:
    corpus = replace(coloured_corpus(4), pixels=None)
    with pytest.raises(ConfigError, match="learns from pixels"):
        CnnRRecipe.model_validate(TUNED).fit(corpus, Vocabulary(("a", "b", "c"), (1, 1, 1)), Solo())


def test_pixels_of_other_pictures_are_refused() -> None:
    corpus = coloured_corpus(4)
    pixels = corpus.pixels
    assert pixels is not None
    with pytest.raises(CorpusError, match="pixels of 3 pictures"):
        replace(corpus, pixels=pixels.subset(np.arange(3)))
    chosen = corpus.subset(np.array([2, 0]))
    assert chosen.pixels is not None
    np.testing.assert_array_equal(chosen.pixels.take(np.array([1])), pixels.take(np.array([0])))


@pytest.mark.parametrize("name", ["random", "efficientnet-lite0"])
def test_the_regressor_starts_as_the_backbone_with_scaled_features(name: str) -> None:
    spec = backbone(name)
    rng = np.random.default_rng(0)
    size = spec.geometry.size
    squares = rng.integers(0, 255, (2, size, size, 3), dtype=np.uint8)
    expected: NDArray[np.float32] = load_embedder(spec, "torch")(squares)
    network = new_regressor(name, spec.width, np.zeros(spec.width), np.ones(spec.width))
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(spec.width))
    found = outputs(network, squares) * np.sqrt(spec.width)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    unused = [n for n, one in network.named_parameters() if not one.requires_grad]
    assert [n for n in unused if "classifier" not in n] == []
    assert unused
