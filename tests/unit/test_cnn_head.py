"""CNN+softmax, CNN+WARP, CNN+logistic: each loss a second way, and what the layers learn."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import kstest

from engine import schema
from engine.annotators.cnn_head import CnnHead, CnnLogisticRecipe, CnnSoftmaxRecipe, CnnWarpRecipe
from engine.corpus import Corpus
from engine.group import Solo
from engine.numerics.draws import spread_draws
from engine.numerics.losses import logistic_loss, softmax_loss, warp_loss
from engine.vocab import Vocabulary

RECIPES = (CnnSoftmaxRecipe, CnnWarpRecipe, CnnLogisticRecipe)
LEVELS = (5, 3)


def drawn(rng: np.random.Generator, pictures: int = 6, tags: int = 7) -> tuple[np.ndarray, ...]:
    """Outputs and labels; the last picture carries no tag, the one before it every tag."""
    labels = (rng.random((pictures, tags)) < 0.4).astype(np.float64)
    labels[-1], labels[-2] = 0, 1
    return rng.normal(0, 1, (pictures, tags)), labels


def test_logistic_is_equation_4(rng: np.random.Generator) -> None:
    logits, labels = drawn(rng)
    found = logistic_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    for row in range(6):
        total = 0.0
        for z, y in zip(logits[row], labels[row], strict=True):
            sigma = 1 / (1 + math.exp(-z))
            total += y * -math.log(sigma) + (1 - y) * -math.log(1 - sigma)
        assert float(found[row]) == pytest.approx(total, rel=1e-10)


def test_softmax_is_the_mean_over_the_tags_of_a_picture(rng: np.random.Generator) -> None:
    logits, labels = drawn(rng)
    found = softmax_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    for row in range(5):
        below = sum(math.exp(z) for z in logits[row])
        terms = [
            -math.log(math.exp(z) / below)
            for z, y in zip(logits[row], labels[row], strict=True)
            if y
        ]
        assert float(found[row]) == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    assert float(found[5]) == 0


def warp_of_one(f: np.ndarray, y: np.ndarray, u: np.ndarray) -> float:
    """The WARP loss of a picture in loops; the trials are counted in the same numbers u."""
    tags = len(f)
    negatives = [k for k in range(tags) if not y[k]]
    total = 0.0
    for j in range(tags):
        violators = [k for k in negatives if 1 - f[j] + f[k] > 0]
        if not y[j] or not violators:
            continue
        miss = 1 - len(violators) / len(negatives)
        # The first s for which at least one of s draws violates with more than the chance u.
        trials = 1
        while trials <= tags and 1 - miss**trials <= u[j]:
            trials += 1
        if trials > tags - 1:
            continue
        weight = sum(1 / i for i in range(1, (tags - 1) // trials + 1))
        k = violators[int(u[tags + j] * len(violators))]
        total += weight * (1 - f[j] + f[k])
    return total


def test_warp_is_what_a_loop_says(rng: np.random.Generator) -> None:
    logits, labels = drawn(rng, 40, 9)
    uniforms = rng.random((40, 18))
    found = warp_loss(*map(torch.from_numpy, (logits, labels, uniforms)))
    expected = [warp_of_one(*row) for row in zip(logits, labels, uniforms, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    assert sum(one > 0 for one in expected) > 30
    # Without a negative, or without a tag, nothing can violate anything.
    assert expected[-2:] == [0, 0]


def test_warp_rank_weights_by_hand() -> None:
    """Five tags, the first carried; two of the four others violate: half of the draws do."""
    f = torch.tensor([[0.0, 1.0, -3.0, -0.5, -2.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0, 0, 0, 0]], dtype=torch.float64)

    def loss(trials: float, which: float) -> float:
        uniforms = torch.zeros(1, 10, dtype=torch.float64)
        uniforms[0, 0], uniforms[0, 5] = trials, which
        return float(warp_loss(f, y, uniforms))

    # One draw (chance 1/2): rank 4, 1 + 1/2 + 1/3 + 1/4 = 25/12; the first violator's hinge is 2.
    assert loss(0.49, 0.0) == pytest.approx(25 / 12 * 2)
    assert loss(0.49, 0.5) == pytest.approx(25 / 12 * 0.5)
    # Two draws (up to 3/4): rank 2, 1 + 1/2; three and four: rank 1.
    assert loss(0.51, 0.0) == pytest.approx(1.5 * 2)
    assert loss(0.76, 0.0) == pytest.approx(2)
    assert loss(0.93, 0.0) == pytest.approx(2)
    # Five draws are more than V - 1: none was found.
    assert loss(0.94, 0.0) == 0


def test_warp_draws_as_if_one_negative_after_the_other_were_drawn(
    rng: np.random.Generator,
) -> None:
    f, y = np.array([0.2, 0.9, -2.0, -0.3, -4.0, -3.0, -5.0]), np.array([1.0, 0, 0, 0, 0, 0, 0])
    times = 4000
    total = 0.0
    for _ in range(times):
        for trial in range(1, 7):
            k = int(rng.integers(1, 7))
            if 1 - f[0] + f[k] > 0:
                total += sum(1 / i for i in range(1, 6 // trial + 1)) * (1 - f[0] + f[k])
                break
    rows = torch.from_numpy(np.tile(f, (times, 1))), torch.from_numpy(np.tile(y, (times, 1)))
    uniforms = torch.from_numpy(spread_draws(rng.random(times), 14))
    assert float(warp_loss(*rows, uniforms).mean()) == pytest.approx(total / times, rel=0.06)


@given(st.integers(0, 2**32), st.floats(0.1, 30))
def test_no_loss_has_a_gradient_that_is_not_finite(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = drawn(rng, 5, 4)
    y = torch.from_numpy(labels).float()
    uniforms = torch.from_numpy(rng.random((5, 8)))
    for loss in (softmax_loss, logistic_loss, lambda f, y: warp_loss(f, y, uniforms)):
        f = torch.from_numpy(spread * logits).float().requires_grad_()
        found = loss(f, y)
        assert float(found.detach().min()) >= 0
        found.sum().backward()
        assert f.grad is not None
        assert bool(torch.isfinite(f.grad).all())


def test_draws_are_uniform_and_a_picture_s_own(rng: np.random.Generator) -> None:
    draws = np.concatenate([rng.random(2000), [0.0, 1 - 1e-16]])
    found = spread_draws(draws, 20)
    assert found.min() >= 0
    assert found.max() < 1
    assert kstest(found.ravel(), "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(found.T) - np.eye(20)).max() < 0.1
    np.testing.assert_array_equal(spread_draws(draws[5:6], 20)[0], found[5])
    np.testing.assert_array_equal(spread_draws(draws, 8), found[:, :8])
    assert spread_draws(draws[:0], 20).shape == (0, 20)


def drawn_corpus(labels_NV: np.ndarray) -> Corpus:
    rng = np.random.default_rng(0)
    causes = labels_NV @ rng.standard_normal((labels_NV.shape[1], sum(LEVELS)))
    x_ND = (causes + 0.2 * rng.standard_normal(causes.shape)).astype(np.float32)
    ids = tuple(f"p{row}" for row in range(len(x_ND)))
    return Corpus(ids, x_ND, sparse.csr_matrix(labels_NV.astype(np.float32)), LEVELS)


def scores_of(annotator: CnnHead, corpus: Corpus) -> np.ndarray:
    x = schema.tensor_column(corpus.embeddings_ND)
    return annotator.score(pa.table({schema.EMBEDDING: x})).scores_BV


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_puts_the_tags_of_a_picture_first(
    recipe: type[CnnSoftmaxRecipe | CnnWarpRecipe | CnnLogisticRecipe],
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    labels = rng.random((120, 4)) < 0.3
    labels[np.arange(120), rng.integers(0, 4, 120)] = True
    corpus = drawn_corpus(labels)
    settings = {"optimisation": {"epochs": 20, "learning_rate": 0.05}}
    vocabulary = Vocabulary(("a", "b", "c", "d"), (1, 1, 1, 1))
    fitted = recipe.model_validate(settings).fit(corpus, vocabulary, Solo())
    scores = scores_of(fitted, corpus)
    best = np.argsort(-scores, axis=1)
    right = [labels[row, best[row, : labels[row].sum()]].mean() for row in range(120)]
    assert np.mean(right) > 0.9
    if recipe is CnnSoftmaxRecipe:
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    fitted.save(tmp_path)
    np.testing.assert_array_equal(scores_of(type(fitted).load(tmp_path), corpus), scores)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "labels",
    [
        [[1, 0], [0, 1], [1, 1]],  # a vocabulary of two
        [[1, 0, 0]],  # one picture
        [[1, 1, 0], [1, 0, 0], [1, 1, 0]],  # a tag on every picture, and one that none carries
    ],
)
def test_poor_corpora_give_finite_scores(
    recipe: type[CnnSoftmaxRecipe | CnnWarpRecipe | CnnLogisticRecipe], labels: list[list[int]]
) -> None:
    corpus = drawn_corpus(np.array(labels))
    vocabulary = Vocabulary(("a", "b", "c")[: len(labels[0])], (1, 1, 1)[: len(labels[0])])
    settings = {"optimisation": {"epochs": 2}}
    scores = scores_of(recipe.model_validate(settings).fit(corpus, vocabulary, Solo()), corpus)
    assert np.isfinite(scores).all()
    assert scores.dtype == np.float32
