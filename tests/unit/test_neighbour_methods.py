"""JEC, 2PKNN and ML-kNN against hand-worked cases and loops; what all neighbour methods bear."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import sparse

from engine.annotators import REGISTRY
from engine.annotators.jec import JecRecipe
from engine.annotators.ml_knn import MlKnnRecipe, count_posteriors
from engine.annotators.two_pass_knn import TwoPassKnnRecipe
from engine.corpus import Corpus
from engine.exemplars import Exemplars
from engine.fitting import score_corpus
from engine.group import Solo
from engine.vocab import Vocabulary

TAGS = 7


def vocabulary_of(labels: NDArray[np.bool_]) -> Vocabulary:
    counts = tuple(int(count) for count in labels.sum(axis=0))
    return Vocabulary(tuple(f"tag{tag}" for tag in range(labels.shape[1])), counts)


def corpus_of(
    x_ND: NDArray[np.floating], labels: NDArray[np.bool_], levels: tuple[int, ...]
) -> Corpus:
    return Corpus(
        tuple(f"p{row}" for row in range(len(x_ND))),
        np.asarray(x_ND, dtype=np.float32),
        sparse.csr_matrix(labels.astype(np.float32)),
        levels,
    )


def drawn(pictures: int, seed: int = 0) -> tuple[Corpus, NDArray[np.bool_]]:
    """Features of two levels, from which the tags follow in part; not negative."""
    rng = np.random.default_rng(seed)
    labels = rng.random((pictures, TAGS)) < 0.5 / np.arange(1, TAGS + 1)
    labels[np.arange(pictures), rng.integers(0, TAGS, pictures)] = True
    x_ND = np.abs(labels @ rng.standard_normal((TAGS, 9)) + rng.standard_normal((pictures, 9)))
    return corpus_of(x_ND, labels, (5, 4)), labels


def cosine_distances(queries: Corpus, stored: Corpus) -> NDArray[np.float64]:
    """The mean over the levels of 1 - cos of rooted features, each over its largest in training."""
    total = np.zeros((len(queries), len(stored)))
    for part in (slice(0, 5), slice(5, 9)):
        q, s = (np.sqrt(c.embeddings_ND[:, part].astype(np.float64)) for c in (queries, stored))
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        s /= np.linalg.norm(s, axis=1, keepdims=True)
        total += (1 - q @ s.T) / (1 - s @ s.T).max() / 2
    return total


def test_jec_by_hand() -> None:
    """Four pictures whose shares of one bin are 0, 1, 2 and 4 fifths; the query's is 0. The nearest
    has rock and sea: sea is the more frequent. Of the others' tags sun is beside sea once and
    carried once (1 · 1), sky is beside sea and rock twice and carried twice (2 · 2)."""
    tags = ("sky", "sea", "sun", "rock", "car")
    carried = [("sea", "rock"), ("sky", "sea"), ("sky", "sea", "sun"), ("car",)]
    labels = np.array([[tag in row for tag in tags] for row in carried])
    corpus = corpus_of(np.array([[5, 0], [4, 1], [3, 2], [1, 4]]), labels, (2,))
    recipe = JecRecipe(distance="l1", neighbours=3)
    fitted = recipe.fit(corpus, vocabulary_of(labels), Solo())
    query = corpus_of(np.array([[5, 0]]), labels[:1], (2,))
    scores = dict(zip(tags, score_corpus(fitted, query)[0].tolist(), strict=True))
    assert scores == pytest.approx({"sea": 1, "rock": 1 / 2, "sky": 1 / 3, "sun": 1 / 4, "car": 0})


def test_jec_is_the_papers_walk() -> None:
    training, labels = drawn(50)
    queries, _ = drawn(12, seed=1)
    fitted = JecRecipe(distance="cosine", neighbours=6).fit(training, vocabulary_of(labels), Solo())
    scores_NV = score_corpus(fitted, queries)
    far_NN = cosine_distances(queries, training)
    frequency = labels.sum(axis=0)
    for query in range(len(queries)):
        rows = np.argsort(far_NN[query], kind="stable")[:6]
        first = sorted(np.flatnonzero(labels[rows[0]]), key=lambda tag: -frequency[tag])
        local = Counter(int(tag) for row in rows[1:] for tag in np.flatnonzero(labels[row]))
        beside = {
            tag: sum(int((labels[:, tag] & labels[:, one]).sum()) for one in first) for tag in local
        }
        rest = sorted(
            (tag for tag in sorted(local) if tag not in first),
            key=lambda tag: (-beside[tag] * local[tag], -local[tag], -frequency[tag]),
        )
        walk = [int(tag) for tag in first] + rest
        given = np.argsort(-scores_NV[query], kind="stable")[: len(walk)]
        assert given.tolist() == walk
        assert (scores_NV[query] > 0).sum() == len(walk)


def test_ml_knn_by_hand() -> None:
    """Two tags, four pictures, k = 1, s = 1. Sea is on p0 and p1, each the other's neighbour, and
    so are p2 and p3 without it. P(sea) = 3/6; with sea the one neighbour has it (1 + 2)/(2 + 2) of
    the time, without it 1/4: the posterior is 3/4 after one, and 1/4 after none."""
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], dtype=np.bool_)
    rows_NK = np.array([[1], [0], [3], [2]])
    found = count_posteriors(sparse.csr_matrix(labels.astype(np.float32)), rows_NK, 1.0)
    np.testing.assert_allclose(found[0], [1 / 4, 3 / 4])
    # Sky is on p1, p2, p3; P = 4/6. With it: counts 0, 1, 1, so (1 + 1)/5 and (1 + 2)/5; without:
    # p0, whose neighbour has it, (1 + 0)/3 and (1 + 1)/3.
    none = (4 / 6 * 2 / 5) / (4 / 6 * 2 / 5 + 2 / 6 * 1 / 3)
    one = (4 / 6 * 3 / 5) / (4 / 6 * 3 / 5 + 2 / 6 * 2 / 3)
    np.testing.assert_allclose(found[1], [none, one])


@pytest.mark.parametrize("smoothing", [1.0, 0.5])
def test_ml_knn_is_the_papers_algorithm(smoothing: float) -> None:
    training, labels = drawn(40)
    queries, _ = drawn(9, seed=1)
    recipe = MlKnnRecipe(neighbours=4, smoothing=smoothing, distance="cosine", levels="all")
    fitted = recipe.fit(training, vocabulary_of(labels), Solo())
    scores_NV = score_corpus(fitted, queries)
    among_NN = cosine_distances(training, training)
    np.fill_diagonal(among_NN, np.inf)
    far_NN = cosine_distances(queries, training)
    for tag in range(TAGS):
        prior = (smoothing + labels[:, tag].sum()) / (2 * smoothing + len(labels))
        counts = {True: np.zeros(5), False: np.zeros(5)}
        for row in range(len(labels)):
            nearest = np.argsort(among_NN[row], kind="stable")[:4]
            counts[bool(labels[row, tag])][labels[nearest, tag].sum()] += 1
        for query in range(len(queries)):
            j = labels[np.argsort(far_NN[query], kind="stable")[:4], tag].sum()
            chance = {
                side: (smoothing + c[j]) / (5 * smoothing + c.sum()) for side, c in counts.items()
            }
            yes, no = prior * chance[True], (1 - prior) * chance[False]
            assert scores_NV[query, tag] == pytest.approx(yes / (yes + no), rel=1e-6)


@pytest.mark.parametrize("voters", ["union", "own"])
def test_2pknn_is_its_two_passes(voters: str) -> None:
    training, labels = drawn(50)
    queries, _ = drawn(8, seed=1)
    recipe = TwoPassKnnRecipe.model_validate(
        {
            "distance": "cosine",
            "levels": "all",
            "neighbours": 3,
            "temperature": 0.2,
            "voters": voters,
        }
    )
    fitted = recipe.fit(training, vocabulary_of(labels), Solo())
    scores_NV = score_corpus(fitted, queries)
    far_NN = cosine_distances(queries, training)
    for query in range(len(queries)):
        first_pass = {
            tag: sorted(np.flatnonzero(labels[:, tag]), key=lambda row: far_NN[query, row])[:3]
            for tag in range(TAGS)
        }
        union = {row for rows in first_pass.values() for row in rows}
        for tag in range(TAGS):
            voting = union if voters == "union" else first_pass[tag]
            votes = sum(np.exp(-far_NN[query, row] / 0.2) for row in voting if labels[row, tag])
            assert scores_NV[query, tag] == pytest.approx(votes / (1 + votes), rel=1e-4)


def test_2pknn_by_hand() -> None:
    """Shares of one bin 0, 1/4 and 1, of L1 distance 0, 1/2 and 2 to the query at 0, over 2: D is
    0, 1/4 and 1. Sea is on the first two, sky on the last two; K₁ = 1 keeps p0 for sea and p1 for
    sky. In the union p1 votes for sea too."""
    labels = np.array([[1, 0], [1, 1], [0, 1]], dtype=np.bool_)
    corpus = corpus_of(np.array([[4, 0], [3, 1], [0, 4]]), labels, (2,))
    for voters, sea in (("union", 1 + np.exp(-0.5)), ("own", 1.0)):
        recipe = TwoPassKnnRecipe.model_validate(
            {"distance": "l1", "neighbours": 1, "temperature": 0.5, "voters": voters}
        )
        fitted = recipe.fit(corpus, vocabulary_of(labels), Solo())
        scores = score_corpus(fitted, corpus_of(np.array([[1, 0]]), labels[:1], (2,)))[0]
        sky = np.exp(-0.5)
        np.testing.assert_allclose(scores, [sea / (1 + sea), sky / (1 + sky)], rtol=1e-5)


def test_the_space_decides_the_kernel() -> None:
    with pytest.raises(ValidationError, match="say space='kcca'"):
        TwoPassKnnRecipe(kernel="chi2")


def test_what_cannot_be_learned_is_said() -> None:
    with pytest.raises(ValidationError, match="set metric_learning=true too"):
        TwoPassKnnRecipe(dimension_weights=True)
    training, labels = drawn(20)
    recipe = TwoPassKnnRecipe(metric_learning=True, levels=1, steps=2)
    fitted = recipe.fit(training, vocabulary_of(labels), Solo())
    assert len(fitted.notes) == 1
    assert "one level" in fitted.notes[0]
    assert (
        recipe.model_copy(update={"levels": "auto"})
        .fit(training, vocabulary_of(labels), Solo())
        .notes
        == ()
    )


METHODS: list[tuple[str, dict[str, object]]] = [
    ("jec", {}),
    ("tagprop", {}),
    ("tagprop", {"weights": "rank"}),
    ("tagprop", {"sigmoid": False, "metric_learning": False}),
    ("2pknn", {}),
    ("2pknn", {"levels": "all", "distance": "chi2"}),
    ("2pknn", {"metric_learning": True, "steps": 4}),
    ("2pknn", {"metric_learning": True, "dimension_weights": True, "steps": 4}),
    ("2pknn", {"space": "cca", "tag_vectors": "binary"}),
    ("kcca-2pknn", {"tag_vectors": "binary"}),
    ("ml-knn", {}),
]
EVERY = pytest.mark.parametrize(
    ("kind", "settings"), METHODS, ids=[f"{kind}-{'-'.join(s)}" for kind, s in METHODS]
)


def awkward() -> tuple[Corpus, NDArray[np.bool_]]:
    """Fewer pictures than dimensions; the first tag on every picture, the last on one alone, one
    on none; two pictures alike, and one whose features are all 0."""
    rng = np.random.default_rng(0)
    labels = rng.random((6, 5)) < 0.4
    labels[:, 0], labels[:, 3], labels[:, 4] = True, False, [0, 0, 0, 1, 0, 0]
    x_ND = np.abs(rng.standard_normal((6, 20)))
    x_ND[1] = x_ND[0]
    x_ND[2] = 0
    return corpus_of(x_ND, labels, (12, 8)), labels


@EVERY
def test_awkward_corpora_give_scores(
    kind: str, settings: dict[str, object], tmp_path: Path
) -> None:
    corpus, labels = awkward()
    method = REGISTRY[kind]
    fitted = method.recipe.model_validate(settings).fit(corpus, vocabulary_of(labels), Solo())
    far = np.concatenate([corpus.embeddings_ND, np.full((1, 20), 1e4), np.zeros((1, 20))])
    asked = corpus_of(far, np.concatenate([labels, labels[:2]]), (12, 8))
    scores_NV = score_corpus(fitted, asked)
    assert np.isfinite(scores_NV).all()
    assert scores_NV.min() >= 0
    assert scores_NV.max() <= 1
    fitted.save(tmp_path)
    loaded = method.annotator.load(tmp_path)
    np.testing.assert_array_equal(score_corpus(loaded, asked), scores_NV)


def test_pictures_that_are_all_alike_are_at_no_distance() -> None:
    labels = np.array([[1, 0], [1, 1]], dtype=np.bool_)
    corpus = corpus_of(np.ones((2, 3)), labels, (2, 1))
    exemplars = Exemplars.gather(corpus, corpus.embeddings_ND, corpus.levels, "l1", Solo())
    assert exemplars.scales_M.tolist() == [1, 1]
    for kind in ("jec", "tagprop", "2pknn", "ml-knn"):
        fitted = REGISTRY[kind].recipe.model_validate({}).fit(corpus, vocabulary_of(labels), Solo())
        assert np.isfinite(score_corpus(fitted, corpus)).all()


def test_one_picture_is_enough_for_methods_that_learn_nothing_from_pairs() -> None:
    labels = np.array([[1, 0]], dtype=np.bool_)
    corpus = corpus_of(np.ones((1, 3)), labels, (3,))
    for kind in ("jec", "2pknn", "ml-knn"):
        fitted = REGISTRY[kind].recipe.model_validate({}).fit(corpus, vocabulary_of(labels), Solo())
        scores = score_corpus(fitted, corpus)[0]
        assert scores[0] > scores[1]


def test_the_first_levels_alone_can_be_compared() -> None:
    training, labels = drawn(30)
    queries, _ = drawn(5, seed=1)
    first = corpus_of(training.embeddings_ND[:, :5], labels, (5,))
    only = corpus_of(queries.embeddings_ND[:, :5], labels[:5], (5,))
    for kind in ("jec", "tagprop", "2pknn", "ml-knn"):
        method = REGISTRY[kind].recipe
        whole = method.model_validate({"levels": 1}).fit(training, vocabulary_of(labels), Solo())
        part = method.model_validate({}).fit(first, vocabulary_of(labels), Solo())
        np.testing.assert_array_equal(score_corpus(whole, queries), score_corpus(part, only))
