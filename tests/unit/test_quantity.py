"""Label quantity prediction: its loss, its network and its rounding, each a second way."""

import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
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

from engine import schema
from engine.corpus import Corpus
from engine.errors import TrainingError
from engine.group import Solo
from engine.numerics.levels import normalised_levels
from engine.optimisation import Optimisation
from engine.quantity import (
    Quantity,
    QuantitySettings,
    Regressor,
    learn_regressor,
    rounded,
    squared_error,
)
from engine.training import FolderCheckpoints

QUICK = {"hidden": [16, 8], "dropout": 0.0, "optimisation": {"epochs": 4, "batch": 16}}
LEVELS = (6, 4)


def settings(**more: object) -> QuantitySettings:
    return QuantitySettings.model_validate(QUICK | more)


def drawn_corpus(pictures: int = 60, with_social: bool = True) -> Corpus:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, pictures)
    labels = np.zeros((pictures, 6), dtype=np.float32)
    for row, count in enumerate(counts):
        labels[row, rng.permutation(6)[:count]] = 1
    x_ND = counts[:, None] + 0.5 * rng.standard_normal((pictures, sum(LEVELS)))
    said = tuple(("me", "holiday", "fun")[: count - 1] for count in counts)
    return Corpus(
        tuple(f"p{row}" for row in range(pictures)),
        x_ND.astype(np.float32),
        sparse.csr_matrix(labels),
        LEVELS,
        said if with_social else None,
    )


def batch_of(corpus: Corpus, words: object = "own") -> pa.Table:
    given = list(corpus.social_tags or [None] * len(corpus)) if words == "own" else words
    return pa.table(
        {
            schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND),
            schema.SOCIAL_TAGS: pa.array(given, schema.OPTIONAL[schema.SOCIAL_TAGS]),
        }
    )


def test_the_loss_is_equation_5(rng: np.random.Generator) -> None:
    found, counts = rng.normal(3, 2, 9), rng.integers(1, 7, 9).astype(np.float64)
    expected = sum((float(m_hat) - float(m)) ** 2 for m_hat, m in zip(found, counts, strict=True))
    both = torch.from_numpy(found.astype(np.float32)), torch.from_numpy(counts.astype(np.float32))
    assert float(squared_error(*both)) == pytest.approx(expected, rel=1e-5)


def test_the_regressor_is_what_a_loop_says(rng: np.random.Generator) -> None:
    sizes = (5, 4, 3, 1)
    layers = tuple(
        (
            rng.standard_normal((a, b)).astype(np.float32),
            rng.standard_normal(b).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    )
    x_BD = rng.standard_normal((7, 5)).astype(np.float32)
    regressor = Regressor(layers)
    found = regressor(x_BD)
    assert found.dtype == np.float32
    for row, features in enumerate(x_BD):
        values = [float(one) for one in features]
        for number, (weights, bias) in enumerate(layers):
            values = [
                sum(value * float(weights[i, j]) for i, value in enumerate(values)) + float(bias[j])
                for j in range(weights.shape[1])
            ]
            if number < 2:
                values = [max(value, 0.0) for value in values]
        assert found[row] == pytest.approx(values[0], abs=1e-4)
    again = Regressor.from_arrays(regressor.arrays())
    np.testing.assert_array_equal(again(x_BD), found)
    assert regressor(x_BD[:0]).shape == (0,)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.integers(1, 30))
def test_rounding_gives_the_nearest_number_in_range(values: list[float], most: int) -> None:
    found = rounded(np.array(values), most)
    assert found.dtype == np.int64
    for value, count in zip(values, found, strict=True):
        nearest = math.floor(value) + (value - math.floor(value) >= 0.5)
        assert count == min(max(nearest, 1), most)


def test_rounding_by_hand() -> None:
    quantity = np.array([-3.0, 0.2, 1.49, 1.5, 2.5, 7.9], dtype=np.float32)
    assert rounded(quantity, 5).tolist() == [1, 1, 1, 2, 3, 5]


def test_without_hidden_layers_it_is_least_squares(rng: np.random.Generator) -> None:
    """The minimum of Eq. 5 is known then; the loop has to find it from features of any scale."""
    x_ND = (rng.standard_normal((80, 3)) * 40 + 100).astype(np.float32)
    counts_N = np.round(4 + 0.03 * (x_ND[:, 0] - 100)).astype(np.int64)
    ids = [f"p{row}" for row in range(80)]
    plain = Optimisation(
        optimiser="sgd", learning_rate=0.1, schedule="constant", epochs=60, batch=80
    )
    linear = settings(hidden=[], optimisation=plain)
    found = learn_regressor(x_ND, counts_N, ids, linear, Solo())(x_ND)
    design = np.concatenate([x_ND, np.ones((80, 1))], axis=1)
    solution, *_ = np.linalg.lstsq(design.astype(np.float64), counts_N, rcond=None)
    np.testing.assert_allclose(found, design @ solution, atol=1e-3)


def test_it_is_right_more_often_than_the_best_constant() -> None:
    corpus = drawn_corpus(200)
    train, test = corpus.subset(np.arange(140)), corpus.subset(np.arange(140, 200))
    quick = settings(hidden=[32], optimisation={"epochs": 25, "batch": 32, "learning_rate": 5e-3})
    truth_N = np.diff(test.labels_NV.indptr)
    constant = Counter(np.diff(train.labels_NV.indptr).tolist()).most_common(1)[0][0]
    right = {}
    for name, words in (("with", "own"), ("without", [None] * 60)):
        found = rounded(Quantity.learn(train, quick, Solo())(batch_of(test, words)), 6)
        right[name] = (found == truth_N).mean()
    assert right["with"] > 0.8
    assert right["with"] >= right["without"] > (truth_N == constant).mean()


def test_a_bag_that_says_nothing_is_the_mean_bag() -> None:
    corpus = drawn_corpus()
    quantity = Quantity.learn(corpus, settings(), Solo())
    assert quantity.bag.words == ("me", "holiday", "fun")
    assert quantity.reads == (schema.EMBEDDING, schema.SOCIAL_TAGS)
    carried = [set(words) for words in corpus.social_tags or () if words]
    mean = [sum(word in words for words in carried) / len(carried) for word in quantity.bag.words]
    np.testing.assert_allclose(quantity.mean_W, mean, rtol=1e-6)
    expected = quantity(batch_of(corpus, [None] * 60))
    for words in ([], ["unheard of"], [None]):
        np.testing.assert_array_equal(quantity(batch_of(corpus, [words] * 60)), expected)
    assert np.abs(quantity(batch_of(corpus, [["fun"]] * 60)) - expected).min() > 0
    bags = np.tile(quantity.mean_W, (60, 1))
    x_BD = normalised_levels(corpus.embeddings_ND, LEVELS)
    joined = np.concatenate([x_BD, bags], axis=1)
    np.testing.assert_array_equal(quantity.regressor(joined), expected)


@pytest.mark.parametrize("how", ["none in the corpus", "switched off", "only rare ones"])
def test_without_social_tags_it_reads_the_embedding_alone(how: str, tmp_path: Path) -> None:
    corpus = drawn_corpus(with_social=how != "none in the corpus")
    chosen = {"switched off": {"social": False}, "only rare ones": {"min_count": 99}}.get(how, {})
    quantity = Quantity.learn(corpus, settings(**chosen), Solo())
    assert quantity.reads == (schema.EMBEDDING,)
    batch = batch_of(corpus).select([schema.EMBEDDING])
    found = quantity(batch)
    assert np.isfinite(found).all()
    quantity.save(tmp_path)
    np.testing.assert_array_equal(Quantity.load(tmp_path)(batch), found)
    plain = Quantity.learn(drawn_corpus(with_social=False), settings(), Solo())
    np.testing.assert_array_equal(plain(batch), found)


def test_one_picture_with_one_tag() -> None:
    corpus = drawn_corpus(1)
    found = Quantity.learn(corpus, settings(), Solo())(batch_of(corpus))
    assert rounded(found, 6).tolist() == np.diff(corpus.labels_NV.indptr).tolist()


def test_batches_and_files_change_nothing(tmp_path: Path) -> None:
    corpus = drawn_corpus()
    quantity = Quantity.learn(corpus, settings(), Solo())
    batch = batch_of(corpus)
    whole = quantity(batch)
    assert whole.dtype == np.float32
    parts = [quantity(batch.slice(start, 7)) for start in range(0, 60, 7)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-5)
    assert quantity(batch.slice(0, 0)).shape == (0,)
    quantity.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = Quantity.load(tmp_path)
    np.testing.assert_array_equal(loaded(batch), whole)
    assert loaded.reads == quantity.reads
    again = Quantity.learn(corpus, settings(), Solo())
    np.testing.assert_array_equal(again(batch), whole)


def test_a_run_that_is_stopped_goes_on(tmp_path: Path) -> None:
    corpus = drawn_corpus()
    whole = Quantity.learn(corpus, settings(), Solo())(batch_of(corpus))
    stopped = FolderCheckpoints(tmp_path / "a", most=9)
    Quantity.learn(corpus, settings(), Solo(), stopped)
    for epoch in (3, 4):
        for file in (tmp_path / "a" / f"epoch-{epoch:06d}").iterdir():
            file.unlink()
        (tmp_path / "a" / f"epoch-{epoch:06d}").rmdir()
    found = Quantity.learn(corpus, settings(), Solo(), stopped)(batch_of(corpus))
    np.testing.assert_array_equal(found, whole)


def test_a_picture_that_is_no_number_is_named() -> None:
    x_ND = np.zeros((3, 2), dtype=np.float32)
    x_ND[1] = np.inf
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(TrainingError, match="'b'"),
    ):
        learn_regressor(x_ND, np.array([1, 2, 3]), ["a", "b", "c"], settings(), Solo())


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="layers"):
        QuantitySettings.model_validate({"layers": 3})
    with pytest.raises(ValidationError, match="dropout"):
        QuantitySettings(dropout=1.0)


def test_predicting_needs_no_torch(tmp_path: Path) -> None:
    corpus = drawn_corpus()
    quantity = Quantity.learn(corpus, settings(), Solo())
    quantity.save(tmp_path)
    x_BD: NDArray[np.float32] = corpus.embeddings_ND
    np.save(tmp_path / "x.npy", x_BD)
    program = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from pathlib import Path\n"
        "from engine import schema\n"
        "from engine.quantity import Quantity\n"
        "folder = Path(sys.argv[1])\n"
        "x = np.load(folder / 'x.npy')\n"
        "words = pa.nulls(len(x), schema.OPTIONAL[schema.SOCIAL_TAGS])\n"
        "table = {schema.EMBEDDING: schema.tensor_column(x), schema.SOCIAL_TAGS: words}\n"
        "np.save(folder / 'found.npy', Quantity.load(folder)(pa.table(table)))\n"
        "assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    expected = quantity(batch_of(corpus, [None] * 60))
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)
