"""MBRM, SVM-DMBRM and SKL-CRM: by hand, against independent solvers, and on awkward corpora."""

import math

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import sparse
from sklearn.svm import LinearSVC

from engine import schema
from engine.annotators import REGISTRY
from engine.annotators.mbrm import MbrmRecipe
from engine.annotators.skl_crm import SklCrmRecipe
from engine.annotators.svm_dmbrm import SvmDmbrmRecipe, squared_hinge_svm
from engine.corpus import Corpus
from engine.group import Solo
from engine.numerics.density import Density
from engine.numerics.kernel_selection import (
    Candidate,
    annotation_f1,
    select_kernels,
)
from engine.numerics.levels import deepest_levels
from engine.numerics.relevance import bernoulli_words, multinomial_words, posterior
from engine.recipe import Annotator
from engine.vocab import Vocabulary

KINDS = ("mbrm", "svm-dmbrm", "skl-crm")


def corpus_of(
    embeddings: NDArray[np.floating], labels: NDArray[np.generic], levels: tuple[int, ...]
) -> Corpus:
    names = tuple(f"picture-{row}" for row in range(len(embeddings)))
    labels_NV = sparse.csr_matrix(labels.astype(np.float32))
    return Corpus(names, embeddings.astype(np.float32), labels_NV, levels)


def vocabulary_of(tags: int) -> Vocabulary:
    return Vocabulary(tuple(f"tag-{number}" for number in range(tags)), (1,) * tags)


def scores(annotator: Annotator, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    column = schema.tensor_column(embeddings.astype(np.float32))
    return annotator.score(pa.table({schema.EMBEDDING: column})).scores_BV


def drawn(rng: np.random.Generator, pictures: int = 60) -> Corpus:
    """Two levels, the first of which tells the tags apart."""
    labels_NV = rng.random((pictures, 4)) < 0.3
    labels_NV[np.arange(pictures), rng.integers(0, 4, pictures)] = True
    causes = np.abs(labels_NV @ rng.standard_normal((4, 12)) + 0.2 * rng.random((pictures, 12)))
    return corpus_of(np.hstack([causes, rng.standard_normal((pictures, 5))]), labels_NV, (12, 5))


def test_the_deepest_levels_are_the_last_layer_and_the_last_stages() -> None:
    assert deepest_levels((3, 1, 2, 2), 1)[0] == (3,)
    widths, columns = deepest_levels((3, 1, 2, 2), 3)
    assert widths == (3, 2, 2)
    assert columns.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert deepest_levels((3, 1, 2, 2), 9)[1].tolist() == list(range(8))


def test_mbrm_by_hand() -> None:
    """Training pictures at right angles: half squared distance 1, which is the largest, too."""
    corpus = corpus_of(np.eye(2), np.array([[1, 1], [1, 0]]), (2,))
    annotator = MbrmRecipe(bandwidth=0.5, mu=1.0).fit(corpus, vocabulary_of(2), Solo())
    # The query is the first picture: densities exp(0) and exp(-1/0.5); μ = 2 pictures.
    first = 1 / (1 + math.exp(-2))
    expected = [[(2 * 1 + 2) / 4, (2 * first + 1) / 4]]
    np.testing.assert_allclose(scores(annotator, np.array([[1.0, 0.0]])), expected, rtol=1e-6)


def test_mbrm_multiplies_the_kernels_of_its_levels(rng: np.random.Generator) -> None:
    corpus = drawn(rng)
    recipe = MbrmRecipe(bandwidth=0.3, mu=5.0, depth=2)
    found_BV = scores(recipe.fit(corpus, vocabulary_of(4), Solo()), corpus.embeddings_ND[:6])

    def level(row: int, columns: slice) -> NDArray[np.float64]:
        x_D = corpus.embeddings_ND[row, columns].astype(np.float64)
        rooted_D = np.sign(x_D) * np.sqrt(np.abs(x_D))
        rooted_D /= np.linalg.norm(rooted_D)
        return rooted_D

    pictures = len(corpus)
    log_BN = np.zeros((6, pictures))
    for columns in (slice(0, 12), slice(12, 17)):
        rows = [level(row, columns) for row in range(pictures)]
        apart = np.array([[((a - b) ** 2).sum() / 2 for b in rows] for a in rows])
        log_BN -= apart[:6] / apart.max() / 0.3
    labels_NV = corpus.labels_NV.toarray()
    weights_BN = np.exp(log_BN) / np.exp(log_BN).sum(1, keepdims=True)
    mu = 5.0 * pictures
    expected_BV = (mu * weights_BN @ labels_NV + labels_NV.sum(0)) / (mu + pictures)
    np.testing.assert_allclose(found_BV, expected_BV, atol=2e-6)


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_the_machines_are_those_of_liblinear(balance: float, rng: np.random.Generator) -> None:
    x_ND = rng.standard_normal((80, 6)).astype(np.float32)
    carries_NV = x_ND @ rng.standard_normal((6, 3)) + 0.5 * rng.standard_normal((80, 3)) > 0.8
    labels_NV = sparse.csr_matrix(carries_NV.astype(np.float32))
    blocks = [(x_ND[:50], labels_NV[:50]), (x_ND[50:], labels_NV[50:])]
    weights_DV, bias_V = squared_hinge_svm(blocks, 0.5, balance, 400, Solo())
    for tag in range(3):
        frequency = (carries_NV[:, tag].sum() + 0.5) / 81
        # LIBLINEAR penalises its intercept; a large scale leaves next to nothing of that.
        model = LinearSVC(
            C=0.5,
            dual=False,
            loss="squared_hinge",
            tol=1e-10,
            max_iter=10_000,
            intercept_scaling=1e3,
            class_weight={True: (1 / frequency - 1) ** balance},
        ).fit(x_ND.astype(np.float64), carries_NV[:, tag])
        np.testing.assert_allclose(weights_DV[:, tag], model.coef_[0], atol=2e-3)
        assert bias_V[tag] == pytest.approx(float(model.intercept_[0]), abs=2e-3)


def test_the_hybrid_by_hand(rng: np.random.Generator) -> None:
    """With all the share one half has the blend; in between lies the convex combination."""
    corpus = drawn(rng)
    query_BD = corpus.embeddings_ND[:9]
    by_share = {
        share: scores(
            SvmDmbrmRecipe(share=share, draws=7.0, mu=3.0, iterations=15).fit(
                corpus, vocabulary_of(4), Solo()
            ),
            query_BD,
        )
        for share in (0.0, 0.25, 1.0)
    }
    log_density_BN = -Density("multinomial", corpus.embeddings_ND[:, :12]).divergences(
        query_BD[:, :12]
    )
    words_BV = bernoulli_words(
        posterior(np.float32(7) * log_density_BN), corpus.labels_NV, 3.0 * len(corpus)
    )
    np.testing.assert_allclose(by_share[0.0], words_BV, atol=1e-6)
    np.testing.assert_allclose(
        by_share[0.25], 0.25 * by_share[1.0] + 0.75 * by_share[0.0], atol=1e-6
    )
    # The machines learn what they are shown: a picture's own tags are on their positive side.
    carried_BV = corpus.labels_NV[:9].toarray() > 0
    assert by_share[1.0][carried_BV].mean() > 0.75 > 0.3 > by_share[1.0][~carried_BV].mean()


def test_the_choice_of_kernels_by_hand() -> None:
    """Level 0 tells half the truth, level 2 the other half, level 1 nothing: 0 and 2 are taken."""
    far, near = 4.0, 0.0
    first_BN = np.array([[near, far, far], [far, near, near]], dtype=np.float32)
    nothing_BN = np.ones((2, 3), dtype=np.float32)
    second_BN = np.array([[near, far, far], [far, far, near]], dtype=np.float32)
    wanted = np.array([0, 2])

    def f1(log_density_BN: NDArray[np.float32]) -> float:
        weights_BN = posterior(log_density_BN)
        return round(float(weights_BN[np.arange(2), wanted].mean()), 3)

    candidates = [
        Candidate(0, "gaussian", first_BN),
        Candidate(1, "gaussian", nothing_BN),
        Candidate(2, "chi2", second_BN - 7),
        Candidate(2, "laplace", nothing_BN),
    ]
    assert candidates[0].scale == pytest.approx((0 + 4 + 4 + 4 + 0 + 0) / 6)
    assert candidates[2].scale == pytest.approx((0 + 4 + 4 + 4 + 4 + 0) / 6)
    choices, best = select_kernels(candidates, (1.0,), f1, most=4)
    # One kernel more could only sharpen what is sharp: the other on level 0 still helps a little.
    assert [(choice.level, choice.kernel) for choice in choices] == [(2, "chi2"), (0, "gaussian")]
    assert best == f1(-first_BN / 2 - second_BN / np.float32(16 / 6))
    assert select_kernels(candidates, (1.0,), f1, most=1)[0] == choices[:1]
    # A smaller bandwidth reaches at once what the second kernel added.
    assert [c.bandwidth for c in select_kernels(candidates, (1.0, 0.1), f1, most=4)[0]] == [0.1]


def test_skl_crm_is_the_product_of_what_it_chose(rng: np.random.Generator) -> None:
    corpus = drawn(rng)
    recipe = SklCrmRecipe(mu=0.5, bandwidths=(0.1, 0.5))
    annotator = recipe.fit(corpus, vocabulary_of(4), Solo())
    assert 1 <= len(annotator.choices) <= 2
    assert annotator.choices[0].level == 0
    assert f"{annotator.choices[0].kernel} on level 0" in annotator.notes[0]
    log_density_BN = np.zeros((7, len(corpus)))
    for choice in annotator.choices:
        columns = slice(0, 12) if choice.level == 0 else slice(12, 17)
        density = Density(choice.kernel, corpus.embeddings_ND[:, columns])
        found_BN = density.divergences(corpus.embeddings_ND[:7, columns])
        log_density_BN -= found_BN / (choice.bandwidth * choice.scale)
    expected_BV = multinomial_words(posterior(log_density_BN), corpus.labels_NV, 0.5)
    np.testing.assert_allclose(scores(annotator, corpus.embeddings_ND[:7]), expected_BV, atol=2e-6)


def test_f1_of_a_choice_is_the_protocols(rng: np.random.Generator) -> None:
    corpus = drawn(rng, 30)
    log_density_BN = rng.normal(0, 3, (12, 30)).astype(np.float32)
    truth_BV = corpus.labels_NV[:12].toarray() > 0
    found = annotation_f1(log_density_BN, corpus.labels_NV, truth_BV, 1.0, 2)
    scores_BV = multinomial_words(posterior(log_density_BN), corpus.labels_NV, 1.0)
    precision, recall = [], []
    best = [set(np.argsort(-row)[:2].tolist()) for row in scores_BV]
    for tag in range(4):
        right = sum(tag in best[row] and bool(truth_BV[row, tag]) for row in range(12))
        precision.append(right / max(sum(tag in one for one in best), 1))
        recall.append(right / max(int(truth_BV[:, tag].sum()), 1))
    p, r = sum(precision) / 4, sum(recall) / 4
    assert found == pytest.approx(2 * p * r / (p + r))


@pytest.mark.parametrize("kind", KINDS)
def test_awkward_corpora_give_finite_scores(kind: str, rng: np.random.Generator) -> None:
    """Fewer pictures than dimensions, a tag on every picture, one that occurs once, one never."""
    labels_NV = np.zeros((6, 4))
    labels_NV[:, 0] = 1
    labels_NV[2, 1] = 1
    labels_NV[3:5, 2] = 1
    embeddings = rng.standard_normal((6, 20))
    embeddings[1] = 0
    embeddings[4] = embeddings[3]
    corpus = corpus_of(embeddings, labels_NV, (12, 8))
    annotator = (
        REGISTRY[kind].recipe.model_validate({"kind": kind}).fit(corpus, vocabulary_of(4), Solo())
    )
    queries = np.vstack([embeddings, np.zeros((1, 20)), 1e3 * rng.standard_normal((2, 20))])
    scores_BV = scores(annotator, queries)
    assert np.isfinite(scores_BV).all()
    assert (scores_BV >= 0).all()
    assert (scores_BV <= 1).all()
    assert (scores_BV.argmax(axis=1) == 0).sum() >= 6


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_are_all_alike_share_their_tags(kind: str) -> None:
    labels_NV = np.array([[1, 0], [1, 0], [1, 1]])
    corpus = corpus_of(np.ones((3, 6)), labels_NV, (4, 2))
    annotator = (
        REGISTRY[kind].recipe.model_validate({"kind": kind}).fit(corpus, vocabulary_of(2), Solo())
    )
    scores_BV = scores(annotator, np.ones((2, 6)))
    assert np.isfinite(scores_BV).all()
    assert (scores_BV[:, 0] > scores_BV[:, 1]).all()
    np.testing.assert_array_equal(scores_BV[0], scores_BV[1])


def test_a_level_that_an_embedding_does_not_have_is_not_missed(rng: np.random.Generator) -> None:
    corpus = drawn(rng)
    one = Corpus(corpus.ids, corpus.embeddings_ND, corpus.labels_NV, (17,))
    for kind in KINDS:
        recipe = REGISTRY[kind].recipe.model_validate({"kind": kind})
        assert np.isfinite(
            scores(recipe.fit(one, vocabulary_of(4), Solo()), one.embeddings_ND[:3])
        ).all()
