"""The asymmetric loss and the attention head, each a second way: loops, differences, NumPy."""

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
from pydantic import ValidationError
from scipy import sparse

from engine import schema
from engine.annotators.asl_head import AslHead, AslHeadRecipe
from engine.corpus import Corpus
from engine.group import Solo
from engine.numerics.decoder import decode
from engine.numerics.losses import asymmetric_loss
from engine.training.decoder import Decoder
from engine.vocab import Vocabulary

LEVELS = (5, 3, 4)


def loss_of_one(z: float, y: int, plus: float, minus: float, margin: float) -> float:
    """Ridnik et al. 2021, Eq. 4 to 7, one tag of one picture in Python's floats."""
    p = 1 / (1 + math.exp(-z))
    if y:
        return float(-((1 - p) ** plus) * math.log(p))
    shifted = max(p - margin, 0.0)
    if shifted == 0:
        return 0.0
    return float(-(shifted**minus) * math.log(1 - shifted))


@pytest.mark.parametrize("plus", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("minus", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
def test_the_loss_is_what_its_equations_say(
    plus: float, minus: float, margin: float, rng: np.random.Generator
) -> None:
    logits = torch.from_numpy(rng.normal(0, 3, (6, 7)))
    labels = torch.from_numpy((rng.random((6, 7)) < 0.4).astype(np.float64))
    found = asymmetric_loss(logits, labels, plus, minus, margin)
    for row in range(6):
        for tag in range(7):
            expected = loss_of_one(
                float(logits[row, tag]), int(labels[row, tag]), plus, minus, margin
            )
            assert float(found[row, tag]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("plus", "minus", "margin"), [(0, 4, 0.05), (1, 2, 0.0), (2, 0.5, 0.2)])
def test_its_gradient_is_that_of_finite_differences(
    plus: float, minus: float, margin: float, rng: np.random.Generator
) -> None:
    values = rng.normal(0, 2, (5, 6))
    labels = torch.from_numpy((rng.random((5, 6)) < 0.5).astype(np.float64))
    logits = torch.from_numpy(values.copy()).requires_grad_()
    asymmetric_loss(logits, labels, plus, minus, margin).sum().backward()
    assert logits.grad is not None
    step = 1e-6
    for row in range(5):
        for tag in range(6):
            sides = []
            for sign in (1, -1):
                moved = values.copy()
                moved[row, tag] += sign * step
                total = asymmetric_loss(torch.from_numpy(moved), labels, plus, minus, margin)
                sides.append(float(total.sum()))
            expected = (sides[0] - sides[1]) / (2 * step)
            assert float(logits.grad[row, tag]) == pytest.approx(expected, abs=1e-6)


def test_without_its_powers_it_is_cross_entropy(rng: np.random.Generator) -> None:
    logits = torch.from_numpy(rng.normal(0, 5, (4, 5)))
    labels = torch.from_numpy((rng.random((4, 5)) < 0.5).astype(np.float64))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels, reduction="none"
    )
    torch.testing.assert_close(asymmetric_loss(logits, labels, 0, 0, 0), expected)


@given(st.floats(-200, 200), st.integers(0, 1), st.floats(0, 5), st.floats(0, 5), st.floats(0, 0.9))
def test_neither_loss_nor_gradient_is_ever_not_finite(
    z: float, y: int, plus: float, minus: float, margin: float
) -> None:
    logits = torch.tensor([[z]], dtype=torch.float32, requires_grad=True)
    loss = asymmetric_loss(logits, torch.tensor([[float(y)]]), plus, minus, margin)
    loss.sum().backward()
    assert logits.grad is not None
    assert float(loss.detach()) >= 0
    assert math.isfinite(float(loss.detach()))
    assert math.isfinite(float(logits.grad))


def test_an_easy_negative_has_no_gradient() -> None:
    logits = torch.tensor([[-4.0, -1.0]], requires_grad=True)
    asymmetric_loss(logits, torch.zeros(1, 2), 0, 2, 0.05).sum().backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 0]) == 0
    assert float(logits.grad[0, 1]) > 0


def made_decoder(tags: int, groups: int) -> Decoder:
    torch.manual_seed(0)
    prior = np.linspace(-2, 1, tags).astype(np.float32)
    decoder = Decoder(LEVELS, tags, groups, 8, 2, 16, 0.5, prior)
    with torch.no_grad():
        # No zeros and ones left in what is usually one of both.
        for parameter in decoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder.eval()


@pytest.mark.parametrize(("tags", "groups"), [(7, 3), (6, 3), (5, 5), (4, 1)])
def test_numpy_decodes_what_torch_decodes(tags: int, groups: int, rng: np.random.Generator) -> None:
    decoder = made_decoder(tags, groups)
    x_BD = rng.standard_normal((9, sum(LEVELS))).astype(np.float32)
    with torch.no_grad():
        expected = decoder(torch.from_numpy(x_BD)).numpy()
    found = decode(x_BD, decoder.arrays(), LEVELS, 2, tags)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert decode(x_BD[:0], decoder.arrays(), LEVELS, 2, tags).shape == (0, tags)


def test_the_attention_is_what_a_loop_says(rng: np.random.Generator) -> None:
    """One picture, one query, one tag at a time, in float64."""
    decoder = made_decoder(7, 3)
    w = {name: one.astype(np.float64) for name, one in decoder.arrays().items()}
    x_D = rng.standard_normal(sum(LEVELS))

    def norm(v: np.ndarray, name: str) -> np.ndarray:
        scaled = (v - v.mean()) / np.sqrt(v.var() + 1e-5)
        return np.asarray(scaled * w[f"{name}_scale"] + w[f"{name}_shift"])

    tokens, start = [], 0
    for level, width in enumerate(LEVELS):
        part = x_D[start : start + width]
        tokens.append(np.maximum(part @ w[f"token{level}"] + w[f"token{level}_bias"], 0))
        start += width
    logits = []
    for group in range(3):
        query = norm(w["queries"][group], "norm1")
        heads = []
        for head in range(2):
            cut = slice(head * 4, head * 4 + 4)
            q = (query @ w["query_weight"] + w["query_bias"])[cut]
            keys = [(t @ w["key_weight"] + w["key_bias"])[cut] for t in tokens]
            values = [(t @ w["value_weight"] + w["value_bias"])[cut] for t in tokens]
            shares = np.exp([q @ key / 2 for key in keys])
            shares /= shares.sum()
            heads.append(sum(s * v for s, v in zip(shares, values, strict=True)))
        mixed = np.concatenate(heads) @ w["mix_weight"] + w["mix_bias"]
        hidden = norm(query + mixed, "norm2")
        wide = np.maximum(hidden @ w["wide_weight"] + w["wide_bias"], 0)
        hidden = norm(hidden + wide @ w["narrow_weight"] + w["narrow_bias"], "norm3")
        logits.extend(hidden @ w["out"][group])
    expected = np.array(logits[:7]) + x_D @ w["direct"] + w["bias"]
    found = decode(x_D[None].astype(np.float32), decoder.arrays(), LEVELS, 2, 7)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def drawn_corpus(labels_NV: np.ndarray) -> Corpus:
    rng = np.random.default_rng(0)
    causes = labels_NV @ rng.standard_normal((labels_NV.shape[1], sum(LEVELS)))
    x_ND = (causes + 0.2 * rng.standard_normal(causes.shape)).astype(np.float32)
    ids = tuple(f"p{row}" for row in range(len(x_ND)))
    return Corpus(ids, x_ND, sparse.csr_matrix(labels_NV.astype(np.float32)), LEVELS)


def batch_of(corpus: Corpus) -> pa.Table:
    return pa.table(
        {
            schema.IMAGE_ID: list(corpus.ids),
            schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND),
        }
    )


def test_it_learns_which_pictures_a_tag_suits(rng: np.random.Generator) -> None:
    labels = rng.random((120, 4)) < 0.3
    labels[np.arange(120), rng.integers(0, 4, 120)] = True
    corpus = drawn_corpus(labels)
    vocabulary = Vocabulary(("a", "b", "c", "d"), (1, 1, 1, 1))
    recipe = AslHeadRecipe.model_validate({"optimisation": {"epochs": 30, "learning_rate": 3e-3}})
    scores = recipe.fit(corpus, vocabulary, Solo()).score(batch_of(corpus)).scores_BV
    assert ((scores > 0.5) == labels).mean() > 0.9


@pytest.mark.parametrize(
    "labels",
    [
        [[1, 1, 0], [1, 0, 1], [1, 1, 1]],  # a tag on every picture
        [[1, 0, 0]],  # one picture
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],  # each tag once
        [[1, 0, 0], [1, 0, 0]],  # tags that no picture carries
    ],
)
def test_poor_corpora_give_finite_scores(labels: list[list[int]]) -> None:
    corpus = drawn_corpus(np.array(labels))
    vocabulary = Vocabulary(("a", "b", "c"), (1, 1, 1))
    recipe = AslHeadRecipe.model_validate({"optimisation": {"epochs": 2}})
    scores = recipe.fit(corpus, vocabulary, Solo()).score(batch_of(corpus)).scores_BV
    assert np.isfinite(scores).all()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="width is 10 and heads is 4"):
        AslHeadRecipe(width=10)


def test_scoring_needs_no_torch(tmp_path: Path, rng: np.random.Generator) -> None:
    corpus = drawn_corpus(np.eye(3, dtype=bool))
    recipe = AslHeadRecipe.model_validate({"optimisation": {"epochs": 1}})
    fitted = recipe.fit(corpus, Vocabulary(("a", "b", "c"), (1, 1, 1)), Solo())
    fitted.save(tmp_path)
    expected = fitted.score(batch_of(corpus)).scores_BV
    np.save(tmp_path / "x.npy", corpus.embeddings_ND)
    program = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from pathlib import Path\n"
        "from engine import schema\n"
        "from engine.annotators.asl_head import AslHead\n"
        "folder = Path(sys.argv[1])\n"
        "x = schema.tensor_column(np.load(folder / 'x.npy'))\n"
        "found = AslHead.load(folder).score(pa.table({schema.EMBEDDING: x})).scores_BV\n"
        "np.save(folder / 'found.npy', found)\n"
        "assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)
    assert AslHead.load(tmp_path).levels == LEVELS
