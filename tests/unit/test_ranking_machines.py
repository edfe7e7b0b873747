"""Linear SVM and rank-SVM: their optima by another solver, their loss by a loop, and poor input."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit
from sklearn.svm import LinearSVC

from engine import schema
from engine.annotators.linear_svm import LinearSvm, LinearSvmRecipe
from engine.annotators.rank_svm import RankSvm, RankSvmRecipe
from engine.corpus import Corpus
from engine.group import Solo
from engine.numerics.losses import ranking_hinge
from engine.vocab import Vocabulary
from engine.whitened import Whitened

MACHINES = pytest.mark.parametrize("recipe", [LinearSvmRecipe, RankSvmRecipe])


def vocabulary_of(tags: int) -> Vocabulary:
    return Vocabulary(tuple(f"t{tag:02d}" for tag in range(tags)), (1,) * tags)


def corpus_of(lists: list[list[int]], tags: int, width: int = 4, seed: int = 0) -> Corpus:
    """Features that the tags cause, the first more than the last, and noise."""
    rng = np.random.default_rng(seed)
    vocabulary = vocabulary_of(tags)
    causes_VD = rng.standard_normal((tags, width))
    x_ND = np.array([sum(causes_VD[tag] / (n + 1) for n, tag in enumerate(one)) for one in lists])
    named = [[vocabulary.tags[tag] for tag in one] for one in lists]
    return Corpus(
        tuple(f"p{row}" for row in range(len(lists))),
        (x_ND + 0.3 * rng.standard_normal(x_ND.shape)).astype(np.float32),
        vocabulary.encode(named),
        (width,),
        places_NV=vocabulary.encode_places(named),
    )


def drawn_lists(count: int, tags: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, tags + 1, count)
    return [rng.permutation(tags)[:size].tolist() for size in sizes]


def margins(fitted: LinearSvm | RankSvm, corpus: Corpus) -> NDArray[np.float64]:
    column = schema.tensor_column(np.asarray(corpus.embeddings_ND))
    scores_BV = fitted.score(pa.table({schema.EMBEDDING: column})).scores_BV
    return np.asarray(logit(scores_BV.astype(np.float64)))


def pairs_of(tags: list[int], vocabulary: int) -> list[tuple[int, int]]:
    """A tag before another: those behind it in the list, and those that are not in it."""
    others = [tag for tag in range(vocabulary) if tag not in tags]
    return [(tag, behind) for n, tag in enumerate(tags) for behind in tags[n + 1 :] + others]


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_ranking_hinge_is_what_a_loop_over_pairs_says(tags: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = drawn_lists(5, tags, seed)
    scores_BV = rng.standard_normal((5, tags))
    padded_BT = np.full((5, tags), -1)
    for row, one in enumerate(lists):
        padded_BT[row, : len(one)] = one
    found_B = ranking_hinge(torch.from_numpy(scores_BV), torch.from_numpy(padded_BT)).numpy()
    for row, one in enumerate(lists):
        pairs = pairs_of(one, tags)
        losses = [max(0.0, 1 - (scores_BV[row, r] - scores_BV[row, s])) ** 2 for r, s in pairs]
        assert found_B[row] == pytest.approx(np.mean(losses) if pairs else 0.0, abs=1e-12)


def test_a_hand_worked_ranking_hinge() -> None:
    """Tag 1 before tag 0, tag 2 not given: pairs (1, 0), (1, 2) and (0, 2)."""
    scores = torch.tensor([[0.5, 1.0, 0.75]])
    # 1 - 0.5 = 0.5, 1 - 0.25 = 0.75, and 1 + 0.25 = 1.25.
    expected = (0.5**2 + 0.75**2 + 1.25**2) / 3
    found = ranking_hinge(scores, torch.tensor([[1, 0, -1]]))
    torch.testing.assert_close(found, torch.tensor([expected]))


@pytest.mark.parametrize("penalty", [0.5, 5.0])
def test_rank_svm_is_a_machine_on_the_differences_of_pairs(penalty: float) -> None:
    """Joachims 2002: each pair is a row, sorted right by a plain SVM (liblinear's dual solver)."""
    tags = 4
    lists = drawn_lists(25, tags)
    corpus = corpus_of(lists, tags)
    features_ND = Whitened.learn(corpus, 1.0, Solo()).features_ND
    x_N1 = np.hstack([features_ND, np.ones((len(corpus), 1))]).astype(np.float64)
    rows, weights = [], []
    for x_D, one in zip(x_N1, lists, strict=True):
        pairs = pairs_of(one, tags)
        for first, second in pairs:
            row_VD = np.zeros((tags, x_N1.shape[1]))
            row_VD[first], row_VD[second] = x_D, -x_D
            rows.append(row_VD.ravel())
            weights.append(1 / len(pairs))
    # A classifier needs two classes: every other row is turned round.
    sign = np.where(np.arange(len(rows)) % 2, 1, -1)
    machine = LinearSVC(C=penalty, fit_intercept=False, tol=1e-8, max_iter=100_000, random_state=0)
    machine.fit(np.array(rows) * sign[:, None], sign, sample_weight=np.array(weights))
    expected_NV = x_N1 @ machine.coef_.reshape(tags, -1).T
    recipe = RankSvmRecipe(penalty=penalty, iterations=300)
    found_NV = margins(recipe.fit(corpus, vocabulary_of(tags), Solo()), corpus)
    np.testing.assert_allclose(found_NV, expected_NV, atol=2e-3)


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_linear_svm_is_at_the_optimum_that_scipy_finds(balance: float) -> None:
    lists = [one[:2] for one in drawn_lists(40, 5)]
    corpus = corpus_of(lists, 5)
    recipe = LinearSvmRecipe(penalty=2.0, balance=balance)
    fitted = recipe.fit(corpus, vocabulary_of(5), Solo())
    assert fitted.notes == ()
    x_N1 = np.hstack([Whitened.learn(corpus, 1.0, Solo()).features_ND, np.ones((40, 1))])
    x_N1 = x_N1.astype(np.float64)
    found_NV = margins(fitted, corpus)
    for tag in range(5):
        carries_N = np.array([tag in one for one in lists])
        y_N = np.where(carries_N, 1.0, -1.0)
        odds = (~carries_N).sum() / carries_N.sum()
        weight_N = np.where(carries_N, odds**balance, 1.0)

        def objective(
            w: NDArray[np.float64], y: NDArray[np.float64] = y_N, s: NDArray[np.float64] = weight_N
        ) -> float:
            return float(w @ w / 2 + 2.0 * (s * np.maximum(0, 1 - y * (x_N1 @ w)) ** 2).sum())

        best = minimize(objective, np.zeros(5), method="BFGS").x
        np.testing.assert_allclose(found_NV[:, tag], x_N1 @ best, atol=5e-3)


def test_a_machine_that_stopped_short_is_told_of() -> None:
    corpus = corpus_of([one[:2] for one in drawn_lists(60, 4)], 4)
    fitted = LinearSvmRecipe(penalty=1000.0, iterations=1).fit(corpus, vocabulary_of(4), Solo())
    assert fitted.notes == (
        "linear-svm stopped short of the optimum for 4 tags; raise its iterations, or lower its "
        "penalty",
    )


@MACHINES
@pytest.mark.parametrize(
    ("lists", "tags"),
    [
        ([[0], [0]], 1),  # a vocabulary of one
        ([[0], [1, 0], [1]], 2),
        ([[2, 1, 0]], 3),  # one picture, and all the tags on it
        ([[0], [0], [0]], 4),  # tags that no picture carries
    ],
)
def test_poor_corpora_give_finite_scores(
    recipe: type[LinearSvmRecipe] | type[RankSvmRecipe], lists: list[list[int]], tags: int
) -> None:
    corpus = corpus_of(lists, tags)
    assert np.isfinite(margins(recipe().fit(corpus, vocabulary_of(tags), Solo()), corpus)).all()


def test_rank_svm_learns_the_order_where_linear_svm_cannot() -> None:
    """All pictures have both tags, so only their order tells the pictures apart."""
    rng = np.random.default_rng(0)
    lists = [rng.permutation(2).tolist() for _ in range(60)]
    corpus = corpus_of(lists, 2, width=16)
    firsts = np.array([one[0] for one in lists])
    rank = RankSvmRecipe().fit(corpus, vocabulary_of(2), Solo())
    assert (margins(rank, corpus).argmax(axis=1) == firsts).mean() > 0.9
    linear = LinearSvmRecipe().fit(corpus, vocabulary_of(2), Solo())
    assert np.ptp(margins(linear, corpus)) < 1e-6
