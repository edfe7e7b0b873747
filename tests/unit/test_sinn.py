"""SINN: its correlations, its pass down and up in loops, and what social tags tell the tags."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from engine import schema
from engine.annotators.sinn import Sinn, SinnRecipe
from engine.corpus import Corpus
from engine.group import Solo
from engine.numerics.label_inference import correlations, infer, observed
from engine.numerics.levels import normalised_levels
from engine.training.label_inference import LabelInference
from engine.vocab import Vocabulary

LEVELS = (5, 3)
QUICK = {"optimisation": {"epochs": 3, "batch": 16}}


def test_correlations_are_pearson_s(rng: np.random.Generator) -> None:
    left = (rng.random((50, 4)) < 0.4).astype(np.float64)
    right = (rng.random((50, 3)) < 0.5).astype(np.float64)
    left[:, 3] = 1
    found = correlations(left.T @ right, left.sum(0), right.sum(0), 50)
    for u in range(3):
        for v in range(3):
            assert found[u, v] == pytest.approx(np.corrcoef(left[:, u], right[:, v])[0, 1])
    # One that every picture has goes with nothing.
    np.testing.assert_array_equal(found[3], 0)
    assert correlations(np.zeros((2, 2)), np.zeros(2), np.zeros(2), 0).tolist() == [[0, 0], [0, 0]]


def test_observed_labels_are_reversed_sigmoids() -> None:
    found = observed(sparse.csr_matrix(np.array([[1, 0]], dtype=np.float32)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), [[0.99, 0.01]], rtol=1e-5)


def network(sizes: tuple[int, ...], rng: np.random.Generator) -> LabelInference:
    """One whose every matrix has entries of either sign, and entries that stay 0."""
    within = [np.corrcoef(rng.standard_normal((size, 9))) for size in sizes]
    between = [
        np.where(rng.random((a, b)) < 0.7, rng.uniform(-1, 1, (a, b)), 0)
        for a, b in pairwise(sizes)
    ]
    priors = [rng.standard_normal(size).astype(np.float32) for size in sizes]
    torch.manual_seed(0)
    made = LabelInference(6, 0.5, within, between, priors)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def passed(x: list[list[float]], w: dict[str, np.ndarray]) -> list[list[float]]:
    """Hu et al. 2016, section 3: one picture, one label at a time, in float64."""

    def signed(name: str, values: list[float], v: int) -> float:
        sums = {
            sign: sum(a * float(w[f"{name}.{sign}"][u, v]) for u, a in enumerate(values))
            for sign in ("plus", "minus")
        }
        return max(sums["plus"], 0.0) - max(sums["minus"], 0.0)

    ways: dict[str, dict[int, list[float]]] = {"down": {}, "up": {}}
    for way, order in (("down", range(len(x))), ("up", reversed(range(len(x))))):
        before: int | None = None
        for t in order:
            ways[way][t] = []
            for v in range(len(x[t])):
                a = signed(f"{way}{t}.within", x[t], v) + float(w[f"{way}{t}.bias"][v])
                if before is not None:
                    a += signed(f"{way}{t}.between", ways[way][before], v)
                ways[way][t].append(a)
            before = t
    return [
        [
            float(w[f"mix{t}.down"][v]) * ways["down"][t][v]
            + float(w[f"mix{t}.up"][v]) * ways["up"][t][v]
            + float(w[f"mix{t}.bias"][v])
            for v in range(len(x[t]))
        ]
        for t in range(len(x))
    ]


@pytest.mark.parametrize("sizes", [(4, 5), (3,), (2, 3, 4)])
def test_the_pass_is_what_loops_say(sizes: tuple[int, ...], rng: np.random.Generator) -> None:
    weights = network(sizes, rng).arrays()
    x = [rng.standard_normal((5, size)).astype(np.float32) for size in sizes]
    found = infer(x, weights)
    for row in range(5):
        expected = passed([one[row].tolist() for one in x], weights)
        for layer, values in enumerate(expected):
            np.testing.assert_allclose(found[layer][row], values, atol=1e-5)


@pytest.mark.parametrize("sizes", [(4, 5), (3,)])
def test_numpy_infers_what_torch_infers(sizes: tuple[int, ...], rng: np.random.Generator) -> None:
    made = network(sizes, rng)
    weights = made.arrays()
    features = rng.standard_normal((7, 6)).astype(np.float32)
    words = sparse.csr_matrix((rng.random((7, sizes[-1])) < 0.5).astype(np.float32))
    known = rng.random((7, 1)) < 0.5
    with torch.no_grad():
        expected = made(
            torch.from_numpy(features), torch.from_numpy(known), torch.from_numpy(observed(words))
        )
    x = [
        features @ weights[f"seen{n}.weights"] + weights[f"seen{n}.bias"] for n in range(len(sizes))
    ]
    if len(sizes) > 1:
        x[-1] = np.where(known, observed(words), x[-1])
    for found, one in zip(infer(x, weights), expected, strict=True):
        np.testing.assert_allclose(found, one.numpy(), atol=1e-5)


def test_what_is_not_correlated_stays_apart(rng: np.random.Generator) -> None:
    within = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, -0.5], [0.0, -0.5, 1.0]])
    made = LabelInference(6, 0.0, [within], [], [np.zeros(3, np.float32)])
    features = torch.from_numpy(rng.standard_normal((8, 6)).astype(np.float32))
    optimiser = torch.optim.SGD(made.parameters(), lr=0.5)
    for _ in range(5):
        optimiser.zero_grad()
        known = torch.zeros(8, 1, dtype=torch.bool)
        (logits,) = made(features, known, torch.zeros(8, 0))
        (logits - torch.randn(8, 3)).square().sum().backward()
        optimiser.step()
    weights = made.arrays()
    plus, minus = weights["down0.within.plus"], weights["down0.within.minus"]
    assert plus[0, 1] != 0
    assert minus[1, 2] != 0
    assert plus[0, 2] == plus[1, 2] == minus[0, 1] == minus[0, 2] == 0


def test_a_single_label_begins_as_it_is_seen() -> None:
    made = LabelInference(2, 0.0, [np.ones((1, 1))], [], [np.array([-1.5], np.float32)])
    known = torch.zeros(3, 1, dtype=torch.bool)
    (logits,) = made(torch.zeros(3, 2), known, torch.zeros(3, 0))
    np.testing.assert_allclose(logits.detach().numpy(), -1.5)


def drawn_corpus(tags: int = 3, with_social: bool = True) -> Corpus:
    rng = np.random.default_rng(0)
    labels = rng.random((120, tags)) < 0.4
    labels[np.arange(120), rng.integers(0, tags, 120)] = True
    x_ND = labels @ rng.standard_normal((tags, sum(LEVELS))) + rng.standard_normal((120, 8))
    names = np.array(["waves", "rex", "wheels"])[:tags]
    said = tuple((*names[row], "me")[: 3 * (number % 5 > 0)] for number, row in enumerate(labels))
    return Corpus(
        tuple(f"p{row}" for row in range(120)),
        x_ND.astype(np.float32),
        sparse.csr_matrix(labels.astype(np.float32)),
        LEVELS,
        said if with_social else None,
    )


def vocabulary(tags: int = 3) -> Vocabulary:
    return Vocabulary(("sea", "dog", "car")[:tags], (3, 2, 1)[:tags])


def scores(annotator: Sinn, corpus: Corpus, words: object = "own") -> np.ndarray:
    given = list(corpus.social_tags or ()) if words == "own" else [words] * len(corpus)
    columns = {
        schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND),
        schema.SOCIAL_TAGS: pa.array(given, schema.OPTIONAL[schema.SOCIAL_TAGS]),
    }
    return annotator.score(pa.table(columns).select(list(annotator.reads))).scores_BV


def test_social_tags_help_and_are_not_needed() -> None:
    corpus = drawn_corpus()
    recipe = SinnRecipe.model_validate({"optimisation": {"epochs": 20, "learning_rate": 0.02}})
    annotator = recipe.fit(corpus, vocabulary(), Solo())
    assert annotator.reads == (schema.EMBEDDING, schema.SOCIAL_TAGS)
    truth = corpus.labels_NV.toarray() > 0
    told = np.arange(120) % 5 > 0
    right = {
        name: ((one > 0.5) == truth)[told].mean()
        for name, one in (
            ("with", scores(annotator, corpus)),
            ("no", scores(annotator, corpus, None)),
        )
    }
    assert right["with"] > 0.9
    assert right["with"] > right["no"] > 0.7
    alone = scores(annotator, corpus, None)
    for words in ([], ["unheard of"]):
        np.testing.assert_array_equal(scores(annotator, corpus, words), alone)


def test_without_social_tags_there_is_one_layer(tmp_path: Path) -> None:
    corpus = drawn_corpus(with_social=False)
    annotator = SinnRecipe.model_validate(QUICK).fit(corpus, vocabulary(), Solo())
    assert annotator.reads == (schema.EMBEDDING,)
    found = scores(annotator, corpus, None)
    w = annotator.weights
    x_ND = normalised_levels(corpus.embeddings_ND, LEVELS)
    x = (x_ND @ w["seen0.weights"] + w["seen0.bias"]).tolist()
    for row in range(0, 120, 17):
        expected = [1 / (1 + math.exp(-a)) for a in passed([x[row]], w)[0]]
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    annotator.save(tmp_path)
    loaded = Sinn.load(tmp_path)
    assert loaded.reads == Sinn.reads_of(tmp_path) == annotator.reads
    np.testing.assert_array_equal(scores(loaded, corpus, None), found)


def test_a_vocabulary_of_two(tmp_path: Path) -> None:
    corpus = drawn_corpus(2)
    annotator = SinnRecipe.model_validate(QUICK).fit(corpus, vocabulary(2), Solo())
    found = scores(annotator, corpus)
    assert found.shape == (120, 2)
    assert np.isfinite(found).all()
    annotator.save(tmp_path)
    loaded = Sinn.load(tmp_path)
    assert loaded.reads == Sinn.reads_of(tmp_path) == annotator.reads
    np.testing.assert_array_equal(scores(loaded, corpus), found)


def test_one_picture_gives_finite_scores() -> None:
    corpus = drawn_corpus().subset(np.array([1]))
    annotator = SinnRecipe.model_validate(QUICK).fit(corpus, vocabulary(), Solo())
    assert np.isfinite(scores(annotator, corpus)).all()
