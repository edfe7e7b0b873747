"""The recurrent peers of JVSP a second way, and what all four share: order, END, length, limits."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import sparse
from torch import nn

from engine import schema
from engine.annotators import REGISTRY
from engine.corpus import Corpus
from engine.errors import CorpusError
from engine.group import Solo
from engine.numerics import propagation as steps
from engine.propagation import Order, PropagationRecipe, ordered_lists, with_end
from engine.recipe import Annotator
from engine.sequence import padded_targets
from engine.training.propagation import CnnRnn, Ria, SrCnnRnn, arrays_of
from engine.vocab import Vocabulary

KINDS = ("cnn-rnn", "ria", "sr-cnn-rnn", "jvsp")
TAGS, EMBEDDING, HIDDEN, FEATURES = 4, 5, 6, 3
START = END = TAGS
QUICK = {"epochs": 20, "learning_rate": 0.02, "batch": 30}

Floats = list[float]
Matrix = list[Floats]


def made(kind: str, semantic: float = 0.7) -> nn.Module:
    torch.manual_seed(1)
    network: nn.Module
    if kind == "sr-cnn-rnn":
        network = SrCnnRnn(FEATURES, np.zeros(TAGS, np.float32), EMBEDDING, HIDDEN, 0.5, semantic)
    else:
        network = {"cnn-rnn": CnnRnn, "ria": Ria}[kind](FEATURES, TAGS, EMBEDDING, HIDDEN, 0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network.eval()


def linear(w: dict[str, Matrix], name: str, x: Floats) -> Floats:
    bias = w.get(f"{name}.bias", [0.0] * len(w[f"{name}.weight"]))
    return [
        sum(a * b for a, b in zip(row, x, strict=True)) + float(np.asarray(one))
        for row, one in zip(w[f"{name}.weight"], bias, strict=True)
    ]


def squash(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def looped(kind: str, network: nn.Module, x_D: Floats, inputs: list[int]) -> Matrix:
    """Scores of each step, one picture and one number at a time, as the docstrings say."""
    w = {name: one.astype(np.float64).tolist() for name, one in arrays_of(network).items()}
    image = linear(w, "image", x_D)
    h, c = [0.0] * HIDDEN, [0.0] * HIDDEN
    if kind == "ria":
        h = image
    if kind == "sr-cnn-rnn":
        h = linear(w, "state", [squash(one) for one in image])
    scores = []
    for tag in inputs:
        gates = []
        for row in range(4 * HIDDEN):
            total = w["lstm.bias_ih_l0"][row] + w["lstm.bias_hh_l0"][row]
            for place, value in enumerate(w["words.weight"][tag]):
                total += w["lstm.weight_ih_l0"][row][place] * value
            for place, value in enumerate(h):
                total += w["lstm.weight_hh_l0"][row][place] * value
            gates.append(total)
        i, f, n, o = (gates[part * HIDDEN : (part + 1) * HIDDEN] for part in range(4))
        c = [squash(f[m]) * c[m] + squash(i[m]) * math.tanh(n[m]) for m in range(HIDDEN)]
        h = [squash(o[m]) * math.tanh(c[m]) for m in range(HIDDEN)]
        if kind == "cnn-rnn":
            said = linear(w, "project", h)
            joined = [max(a + b, 0.0) for a, b in zip(said, image, strict=True)]
            scores.append(
                [sum(a * b for a, b in zip(row, joined, strict=True)) for row in w["words.weight"]]
            )
        else:
            scores.append(linear(w, "out", h))
    return scores


def negative_log(scores: Floats, tag: int) -> float:
    return math.log(sum(math.exp(one) for one in scores)) - scores[tag]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_loss_is_what_a_loop_says(kind: str, rng: np.random.Generator) -> None:
    network = made(kind)
    x_BD = rng.standard_normal((3, FEATURES)).astype(np.float32)
    targets = [[2, 0, END, -1], [3, END, -1, -1], [1, 2, 3, 0]]
    labels_BV = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], dtype=np.float32)
    given = [torch.from_numpy(x_BD), torch.tensor(targets)]
    if kind == "sr-cnn-rnn":
        given.append(torch.from_numpy(labels_BV))
    with torch.no_grad():
        found_B = network(*given)
    for row, padded in enumerate(targets):
        known = [tag for tag in padded if tag >= 0]
        scores = looped(kind, network, x_BD[row].tolist(), [START, *known[:-1]])
        losses = [negative_log(y, tag) for y, tag in zip(scores, known, strict=True)]
        expected = sum(losses) / len(losses)
        if kind == "sr-cnn-rnn":
            w = {name: one.astype(np.float64).tolist() for name, one in arrays_of(network).items()}
            for z, label in zip(
                linear(w, "image", x_BD[row].tolist()), labels_BV[row], strict=True
            ):
                expected += 0.7 * (math.log1p(math.exp(-z)) if label else math.log1p(math.exp(z)))
        assert float(found_B[row]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_numpy_steps_as_a_loop_does(kind: str, rng: np.random.Generator) -> None:
    network = made(kind)
    x_BD = rng.standard_normal((4, FEATURES)).astype(np.float32)
    inputs_BT = np.column_stack([np.full(4, START), rng.integers(0, TAGS, (4, 3))])
    fitted = {"cnn-rnn": steps.CnnRnn, "ria": steps.Ria, "sr-cnn-rnn": steps.SrCnnRnn}[kind](
        arrays_of(network)
    )
    with torch.no_grad():
        state = fitted.start(network.get_submodule("image")(torch.from_numpy(x_BD)).numpy())
    for step in range(4):
        log_BO, state = fitted.step(state, inputs_BT[:, step])
        assert log_BO.dtype == np.float32
        for row in range(4):
            scores = looped(kind, network, x_BD[row].tolist(), inputs_BT[row, : step + 1].tolist())
            expected = [-negative_log(scores[-1], tag) for tag in range(TAGS + 1)]
            np.testing.assert_allclose(log_BO[row], expected, atol=1e-5)


def test_the_orders_by_hand() -> None:
    carriers_V = np.array([9.0, 5.0, 5.0, 1.0])
    lists = [np.array([1, 0, 3, 2]), np.array([2, 1])]

    def told(order: Order) -> list[list[int]]:
        return [one.tolist() for one in ordered_lists(lists, carriers_V, order)]

    assert told("given") == [[1, 0, 3, 2], [2, 1]]
    # Equally frequent ones stay as they were.
    assert told("rare-first") == [[3, 1, 2, 0], [2, 1]]
    assert told("frequent-first") == [[0, 1, 2, 3], [2, 1]]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 6))
def test_end_stands_behind_a_whole_list_alone(lengths: list[int], limit: int) -> None:
    lists = [np.arange(length) for length in lengths]
    targets_NT = with_end(padded_targets(lists, limit).tags_NT, lists, 6)
    for row, length in enumerate(lengths):
        known = targets_NT[row][targets_NT[row] >= 0].tolist()
        assert known == ([*range(length), 6] if length <= limit else list(range(limit)))


def drawn(labels_NV: NDArray[np.bool_], in_order: bool = False) -> Corpus:
    rng = np.random.default_rng(0)
    causes_VD = rng.standard_normal((labels_NV.shape[1], 12))
    x_ND = labels_NV @ causes_VD + 0.1 * rng.standard_normal((len(labels_NV), 12))
    labels = sparse.csr_matrix(labels_NV.astype(np.float32))
    places = labels.copy()
    # The later in the vocabulary, the earlier in the list.
    for start, stop in zip(labels.indptr, labels.indptr[1:], strict=False):
        places.data[start:stop] = np.arange(stop - start, 0, -1)
    return Corpus(
        tuple(f"p{row}" for row in range(len(labels_NV))),
        x_ND.astype(np.float32),
        labels,
        (12,),
        places_NV=places if in_order else None,
    )


def vocabulary_of(size: int) -> Vocabulary:
    return Vocabulary(tuple("abcdefgh"[:size]), tuple(range(size, 0, -1)))


def some_labels(pictures: int) -> NDArray[np.bool_]:
    """From one to five tags a picture, the first of which is on most and the last on few."""
    rng = np.random.default_rng(1)
    labels_NV = rng.random((pictures, 5)) < (0.7, 0.5, 0.4, 0.3, 0.2)
    labels_NV[np.arange(pictures), rng.integers(0, 5, pictures)] = True
    return labels_NV


def fitted(kind: str, corpus: Corpus, tags: int, **settings: object) -> Annotator:
    recipe = REGISTRY[kind].recipe.model_validate({"optimisation": QUICK, **settings})
    return recipe.fit(corpus, vocabulary_of(tags), Solo())


def batch_of(corpus: Corpus) -> pa.Table:
    return pa.table({schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND)})


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("cnn-rnn", "frequent-first"),
        ("ria", "rare-first"),
        ("sr-cnn-rnn", "frequent-first"),
        ("jvsp", "rare-first"),
    ],
)
def test_it_learns_which_tags_how_many_and_in_which_order(kind: str, order: Order) -> None:
    labels_NV = some_labels(160)
    assert (np.diff(labels_NV.sum(0)) < 0).all()
    corpus = drawn(labels_NV)
    verdict = fitted(kind, corpus, 5, order=order, dropout=0.0).score(batch_of(corpus))
    counts_N = labels_NV.sum(1)
    assert verdict.quantity_B is not None
    assert verdict.quantity_B.dtype == np.float32
    assert (verdict.quantity_B == counts_N).mean() > 0.8
    step = 1 if order == "frequent-first" else -1
    ranked_NV = np.argsort(-verdict.scores_BV, axis=1)
    right = [
        ranked[:count].tolist() == np.flatnonzero(labels)[::step].tolist()
        for ranked, count, labels in zip(ranked_NV, counts_N, labels_NV, strict=True)
    ]
    assert np.mean(right) > 0.8


def test_the_given_order_is_that_of_the_corpus() -> None:
    labels_NV = some_labels(160)
    corpus = drawn(labels_NV, in_order=True)
    scores_NV = (
        fitted("ria", corpus, 5, order="given", dropout=0.0).score(batch_of(corpus)).scores_BV
    )
    right = [
        np.argsort(-scores)[: labels.sum()].tolist() == np.flatnonzero(labels)[::-1].tolist()
        for scores, labels in zip(scores_NV, labels_NV, strict=True)
    ]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tags", [1, 2])
def test_a_vocabulary_of_one_or_two_tags(kind: str, tags: int, tmp_path: Path) -> None:
    labels_NV = np.ones((20, tags), dtype=np.bool_)
    labels_NV[::3, 1:] = False
    corpus = drawn(labels_NV)
    annotator = fitted(kind, corpus, tags, beam=3, optimisation={"epochs": 2})
    verdict = annotator.score(batch_of(corpus))
    assert verdict.scores_BV.shape == (20, tags)
    assert np.isfinite(verdict.scores_BV).all()
    assert verdict.quantity_B is not None
    assert set(verdict.quantity_B.tolist()) <= {1.0, float(tags)}
    annotator.save(tmp_path)
    again = type(annotator).load(tmp_path).score(batch_of(corpus))
    np.testing.assert_array_equal(again.scores_BV, verdict.scores_BV)
    np.testing.assert_array_equal(again.quantity_B, verdict.quantity_B)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_longer_than_the_limit_is_cut_and_told(kind: str) -> None:
    corpus = drawn(some_labels(60))
    longer = int((np.diff(corpus.labels_NV.indptr) > 2).sum())
    annotator = fitted(kind, corpus, 5, limit=2, optimisation={"epochs": 1})
    (note,) = annotator.notes
    assert f"first 2 tags of {longer} pictures" in note
    quantity_B = annotator.score(batch_of(corpus)).quantity_B
    assert quantity_B is not None
    assert quantity_B.max() <= 2
    assert not fitted(kind, corpus, 5, limit=5, optimisation={"epochs": 1}).notes


def test_least_gives_every_picture_so_many_tags_in_their_order() -> None:
    corpus = drawn(some_labels(80))
    free = fitted("ria", corpus, 5).score(batch_of(corpus))
    forced = fitted("ria", corpus, 5, least=5).score(batch_of(corpus))
    # A tag that was decoded has more than 1/2, any other at most that.
    assert ((free.scores_BV > 0.5).sum(1) == free.quantity_B).all()
    assert ((forced.scores_BV > 0.5).sum(1) == 5).all()
    np.testing.assert_array_equal(forced.quantity_B, free.quantity_B)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 4])
def test_neither_the_order_nor_the_number_hangs_on_the_batch(kind: str, beam: int) -> None:
    corpus = drawn(some_labels(50))
    annotator = fitted(kind, corpus, 5, beam=beam, optimisation={"epochs": 3})
    whole = annotator.score(batch_of(corpus))
    batch = batch_of(corpus)
    parts = [annotator.score(batch.slice(start, 7)) for start in range(0, 50, 7)]
    scores_BV = np.concatenate([part.scores_BV for part in parts])
    np.testing.assert_allclose(scores_BV, whole.scores_BV, atol=2e-5)
    np.testing.assert_array_equal(
        np.argsort(-scores_BV, axis=1), np.argsort(-whole.scores_BV, axis=1)
    )
    quantities = [part.quantity_B for part in parts if part.quantity_B is not None]
    np.testing.assert_array_equal(np.concatenate(quantities), whole.quantity_B)


def test_a_picture_without_a_tag_is_refused() -> None:
    labels_NV = some_labels(6)
    labels_NV[3] = False
    with pytest.raises(CorpusError, match="at least one tag"):
        drawn(labels_NV)


def test_settings_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ValidationError, match="least is 7 and limit is 5; make limit 7 or more"):
        REGISTRY["jvsp"].recipe.model_validate({"least": 7, "limit": 5})
    with pytest.raises(ValidationError, match="order"):
        REGISTRY["jvsp"].recipe.model_validate({"order": "alphabetical"})


def test_every_one_is_of_the_family() -> None:
    family = {k for k, method in REGISTRY.items() if issubclass(method.recipe, PropagationRecipe)}
    assert family == set(KINDS)


def test_a_fitted_one_needs_no_torch(tmp_path: Path) -> None:
    fitted("jvsp", drawn(some_labels(20)), 5, optimisation={"epochs": 1}).save(tmp_path)
    script = (
        "import sys, numpy, pyarrow; from pathlib import Path; from engine import schema\n"
        "from engine.annotators.jvsp import Jvsp\n"
        f"annotator = Jvsp.load(Path({str(tmp_path)!r}))\n"
        "x = schema.tensor_column(numpy.ones((3, 12), numpy.float32))\n"
        "annotator.score(pyarrow.table({schema.EMBEDDING: x}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
