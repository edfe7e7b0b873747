"""Stacked: the network against scikit-learn, folds that see nothing of themselves, odd corpora."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from engine import schema
from engine.annotators.stacked import Stacked, StackedRecipe
from engine.corpus import Corpus
from engine.errors import CorpusError
from engine.fitting import Material, ranked_tags, score_corpus
from engine.group import Solo
from engine.numerics.metrics import word_metrics
from engine.stacking import scorers
from engine.stacking.folds import Folds, row_blocks
from engine.stacking.network import TagNetwork, fit_tag_network
from engine.stacking.scorers import Projections, ScorerSettings
from engine.vocab import Vocabulary

QUICK = StackedRecipe(views=("binary",), folds=3, votes=((5, 0.05),), iterations=40)


def corpus_of(tags: list[list[str]], width: int = 6, seed: int = 0) -> tuple[Corpus, Vocabulary]:
    vocabulary = Vocabulary.learn(tags)
    embeddings_ND = np.random.default_rng(seed).random((len(tags), width)).astype(np.float32)
    ids = tuple(f"p{row}" for row in range(len(tags)))
    return Corpus(ids, embeddings_ND, vocabulary.encode(tags), (width,)), vocabulary


def pairs(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    signals_PF = rng.normal(size=(1500, 3)).astype(np.float32)
    logits_P = 1.5 * signals_PF[:, 0] - signals_PF[:, 1] - 2
    carried_P = rng.random(1500) < 1 / (1 + np.exp(-logits_P))
    weight_P = np.where(carried_P, 1.0, 3.0).astype(np.float32)
    return signals_PF, carried_P, weight_P


def test_the_network_does_as_well_as_logistic_regression_where_that_is_the_truth() -> None:
    signals_PF, carried_P, weight_P = pairs()
    network = fit_tag_network(signals_PF, carried_P, weight_P, 8, 1.0, 50, 0, Solo())
    peer = LogisticRegression(C=1e6).fit(signals_PF, carried_P, sample_weight=weight_P)
    fresh_PF, fresh_P, fresh_weight_P = pairs(1)

    def surprise(p: NDArray[np.floating]) -> float:
        right = np.where(fresh_P, p, 1 - p)
        return float(-(fresh_weight_P * np.log(right)).sum() / fresh_weight_P.sum())

    own = surprise(network(fresh_PF[None])[0].astype(np.float64))
    best = surprise(peer.predict_proba(fresh_PF)[:, 1])
    prior = (weight_P * carried_P).sum() / weight_P.sum()
    assert own < best + 0.02 < surprise(np.full(1500, prior)) - 0.05


def test_a_hand_worked_network() -> None:
    network = TagNetwork(
        np.float32([1.0]),
        np.float32([2.0]),
        (
            (np.float32([[1.0, -1.0]]), np.float32([0.0, 0.0])),
            (np.float32([[3.0], [1.0]]), np.float32([-4.0])),
        ),
    )
    found = network(np.float32([[[2.0], [0.0]]]))
    expected = 1 / (1 + np.exp(-np.array([3 * 2.0 - 4, 2.0 - 4])))
    np.testing.assert_allclose(found, expected[None], atol=1e-6)
    same = TagNetwork.from_arrays(network.arrays())
    np.testing.assert_array_equal(same(np.float32([[[0.5]]])), network(np.float32([[[0.5]]])))


def test_a_signal_that_never_varies_does_no_harm() -> None:
    signals_PF, carried_P, weight_P = pairs()
    signals_PF[:, 2] = 7
    network = fit_tag_network(signals_PF, carried_P, weight_P, 4, 1.0, 20, 0, Solo())
    assert np.isfinite(network(signals_PF[None])).all()


def test_a_fold_sees_nothing_of_itself(
    material: Material, halves: tuple[Corpus, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tags on a fold's pictures change no signal of that fold, and do change the others'."""
    training = halves[0]
    settings = ScorerSettings((1.0,), 0.2, ((5, 0.05),), 2000)
    x_NL = training.embeddings_ND - training.embeddings_ND.mean(0)
    text_VV = np.eye(len(material.vocabulary), dtype=np.float32)
    order_N = np.arange(len(training))
    rows_F = order_N[0::3]
    other_NV = training.labels_NV.copy().tolil()
    other_NV[rows_F] = training.labels_NV[rows_F[::-1]]
    signals = []
    for labels_NV in (training.labels_NV, other_NV.tocsr()):
        folds = Folds.of(Solo(), x_NL, labels_NV, order_N, 3, [text_VV])
        found = []
        for fold in (0, 1):
            projections = Projections.solve(folds.sums_without(fold), settings)
            spread_SV = np.ones((1, labels_NV.shape[1]), dtype=np.float32)
            without = folds.scorers_without(fold, projections, settings, spread_SV)
            found.append(without.signals(x_NL[rows_F[:9]])[0])
        signals.append(found)
    np.testing.assert_allclose(signals[1][0], signals[0][0], atol=1e-5)
    assert np.abs(signals[1][1] - signals[0][1]).max() > 0.1


def test_above_the_exact_size_a_shortlist_of_everything_changes_nothing(
    material: Material,
    halves: tuple[Corpus, Corpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, held_out = halves
    fitted = QUICK.fit(training, material.vocabulary, Solo())
    fitted.save(tmp_path)
    monkeypatch.setattr(scorers, "EXACT_UP_TO", 0)
    listed = Stacked.load(tmp_path)
    expected_NV = score_corpus(fitted, held_out)
    np.testing.assert_allclose(score_corpus(listed, held_out), expected_NV, atol=2e-5)


def test_balanced_words_find_more_of_the_words(
    material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    training, held_out = halves
    truth_NV = held_out.labels_NV.toarray() > 0
    plus = []
    for balance in (0, 300):
        recipe = QUICK.model_copy(update={"balance": balance})
        scores_NV = score_corpus(recipe.fit(training, material.vocabulary, Solo()), held_out)
        assert np.isfinite(scores_NV).all()
        plus.append(word_metrics(ranked_tags(scores_NV, 5), truth_NV).n_plus)
    assert plus[1] > plus[0]


def test_too_few_pictures_are_refused() -> None:
    corpus, vocabulary = corpus_of([["a"], ["b"], ["a", "b"]] * 2)
    with pytest.raises(CorpusError, match="8 pictures or more, found 6"):
        QUICK.fit(corpus, vocabulary, Solo())


@pytest.mark.parametrize("balance", [0, 300])
def test_odd_corpora_give_finite_scores(balance: int) -> None:
    """Fewer pictures than dimensions, a tag on every picture, tags that occur once."""
    tags = [
        ["everywhere", f"kind{row % 3}", *([f"once{row}"] if row < 4 else [])] for row in range(15)
    ]
    corpus, vocabulary = corpus_of(tags, width=40)
    recipe = QUICK.model_copy(update={"balance": balance, "components": 30})
    scores_NV = score_corpus(recipe.fit(corpus, vocabulary, Solo()), corpus)
    assert np.isfinite(scores_NV).all()
    if not balance:
        everywhere = vocabulary.index["everywhere"]
        assert scores_NV[:, everywhere].min() > np.median(scores_NV)


def test_a_batch_of_two_gets_two_rows() -> None:
    corpus, vocabulary = corpus_of([["a", "x"], ["b"], ["a"], ["b", "c"]] * 6)
    fitted = QUICK.fit(corpus, vocabulary, Solo())
    assert fitted.notes == ()
    batch = pa.table({schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND[:2])})
    assert fitted.score(batch).scores_BV.shape == (2, 4)


def test_rows_come_in_blocks() -> None:
    blocks = list(row_blocks(np.arange(7), 50_000))
    assert [list(block) for block in blocks] == [[0, 1], [2, 3], [4, 5], [6]]
    assert list(row_blocks(np.arange(0), 5)) == []
