"""Ranked LSTM and naive RNN: equations a second way, what they learn, and what they refuse."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from engine import schema
from engine.annotators.naive_rnn import NaiveRnn, NaiveRnnRecipe
from engine.annotators.ranked_lstm import RankedLstm, RankedLstmRecipe
from engine.corpus import Corpus, Pixels
from engine.embed import backbone, load_embedder
from engine.errors import ConfigError, TrainingError
from engine.group import Solo
from engine.recurrent import Recurrent
from engine.recurrent_recipe import RecurrentRecipe
from engine.regression import Head, Tuned
from engine.sequence import NOTHING
from engine.training import FolderCheckpoints
from engine.training.recurrent import (
    NaiveRnnNetwork,
    RankedLstmNetwork,
    RecurrentTagger,
    free_logits,
    sequence_loss,
)
from engine.vocab import Vocabulary

D, WIDTH, HIDDEN, V, STEPS = 6, 3, 4, 5, 4
BOTH = pytest.mark.parametrize(
    ("network", "annotator"), [(RankedLstmNetwork, RankedLstm), (NaiveRnnNetwork, NaiveRnn)]
)
RECIPES = pytest.mark.parametrize("recipe", [RankedLstmRecipe, NaiveRnnRecipe])


def made(
    kind: type[RecurrentTagger], annotator: type[Recurrent]
) -> tuple[RecurrentTagger, Recurrent]:
    """A network without dropout, its weights all drawn, and the annotator it makes."""
    torch.manual_seed(0)
    image = nn.Linear(D, WIDTH)
    network = kind(image, WIDTH, HIDDEN, np.zeros(V, np.float32), 0.0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    weights = image.weight.detach().numpy().T.copy(), image.bias.detach().numpy()
    return network, annotator(Head((D,), *weights), network.arrays(), STEPS, "digest")


def table_of(x_BD: NDArray[np.float32]) -> pa.Table:
    return pa.table({schema.EMBEDDING: schema.tensor_column(x_BD)})


@BOTH
def test_numpy_decodes_what_torch_computes(
    network: type[RecurrentTagger], annotator: type[Recurrent], rng: np.random.Generator
) -> None:
    taught, fitted = made(network, annotator)
    x_BD = rng.standard_normal((7, WIDTH)).astype(np.float32)
    taught.image = nn.Identity()
    tags_BT = np.array([rng.permutation(V)[:STEPS] for _ in range(7)])
    with torch.no_grad():
        tags = torch.from_numpy(tags_BT)
        free_BTV = free_logits(taught(torch.from_numpy(x_BD), tags), tags)
        expected_BTV = torch.log_softmax(free_BTV, dim=2).numpy()
    step = fitted.step(x_BD)
    for number in range(STEPS):
        found_BV = step(tags_BT[:, :number])
        assert found_BV.dtype == np.float32
        np.testing.assert_allclose(found_BV, expected_BTV[:, number], atol=1e-5)


@BOTH
def test_decoding_is_what_a_loop_over_the_equations_says(
    network: type[RecurrentTagger], annotator: type[Recurrent], rng: np.random.Generator
) -> None:
    """Yan et al. 2016, Eq. 10 to 18, picture by picture in float64, over the tags not taken."""
    taught, fitted = made(network, annotator)
    w = {name: one.detach().numpy().astype(np.float64) for name, one in taught.named_parameters()}
    x_BD = rng.standard_normal((9, D)).astype(np.float32)
    rooted_BD = np.sign(x_BD) * np.sqrt(np.abs(x_BD.astype(np.float64)))
    scores_BV = fitted.score(table_of(x_BD)).scores_BV
    for row, rooted in enumerate(rooted_BD):
        v = w["image.weight"] @ (rooted / np.linalg.norm(rooted)) + w["image.bias"]
        h, c, taken = np.zeros(HIDDEN), np.zeros(HIDDEN), []
        largest = np.zeros(V)
        for number in range(STEPS):
            x = v
            if annotator is NaiveRnn:
                x = w["words.weight"][taken[-1]] if taken else v + w["start"]
            gates = w["lstm.weight_ih_l0"] @ x + w["lstm.weight_hh_l0"] @ h
            gates += w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
            i, f, g, o = gates.reshape(4, HIDDEN)
            sigma = [1 / (1 + np.exp(-gate)) for gate in (i, f, o)]
            c = sigma[1] * c + sigma[0] * np.tanh(g)
            h = sigma[2] * np.tanh(c)
            z = w["out.weight"] @ h + w["out.bias"]
            free = [tag for tag in range(V) if tag not in taken]
            p = {tag: math.exp(z[tag]) / sum(math.exp(z[other]) for other in free) for tag in free}
            for tag in free:
                largest[tag] = max(largest[tag], p[tag])
            best = max(free, key=lambda tag: p[tag])
            taken.append(best)
            expected = 0.5 + (STEPS - 1 - number + 0.25 + p[best] / 2) / (2 * STEPS)
            assert scores_BV[row, best] == pytest.approx(expected, abs=1e-5)
        (left,) = set(range(V)) - set(taken)
        assert scores_BV[row, left] == pytest.approx(largest[left] / 2, abs=1e-5)
        assert np.argsort(-scores_BV[row]).tolist() == [*taken, left]


def test_the_loss_is_what_its_equation_says(rng: np.random.Generator) -> None:
    """Eq. 19, one step of one picture at a time, over the tags that are free; nothing else has a
    gradient: not what was taken before, nor what is behind a list's end."""
    logits = torch.from_numpy(rng.standard_normal((3, 4, V))).requires_grad_()
    tags = np.array([[2, 0, NOTHING, NOTHING], [4, 1, 3, 0], [1, NOTHING, NOTHING, NOTHING]])
    loss = sequence_loss(logits.float(), torch.from_numpy(tags))
    expected, counts = 0.0, np.zeros((3, 4, V), dtype=np.bool_)
    for row in range(3):
        for step in range(4):
            if tags[row, step] != NOTHING:
                free = [tag for tag in range(V) if tag not in tags[row, :step]]
                z = [float(one) for one in logits[row, step].detach()]
                told = math.exp(z[tags[row, step]]) / sum(math.exp(z[tag]) for tag in free)
                expected -= math.log(told)
                counts[row, step, free] = True
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    np.testing.assert_array_equal(logits.grad.numpy() != 0, counts)


def test_a_hand_worked_ranking() -> None:
    """Without an LSTM's weights every step says softmax(0, log 2, log 5): 1/8, 2/8, 5/8."""
    zeros = {"lstm.weight_ih_l0": (8, 1), "lstm.weight_hh_l0": (8, 2), "out.weight": (3, 2)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    arrays |= {f"lstm.bias_{kind}_l0": np.zeros(8, np.float32) for kind in ("ih", "hh")}
    arrays["out.bias"] = np.log([1, 2, 5]).astype(np.float32)
    head = Head((2,), np.ones((2, 1), np.float32), np.zeros(1, np.float32))
    scores_BV = RankedLstm(head, arrays, 2, "").score(table_of(np.ones((1, 2), "f4"))).scores_BV
    # T = 2, and of the two that are free at the second step 1/3 and 2/3:
    # 1/2 + (1 + 1/4 + 5/16) / 4, then 1/2 + (1/4 + 1/3) / 4, then (1/3) / 2.
    np.testing.assert_allclose(scores_BV, [[1 / 6, 0.5 + 7 / 48, 0.890625]], atol=1e-6)


WORDS = ("sea", "sky", "dog", "cat")
VOCABULARY = Vocabulary(WORDS, (4, 3, 2, 1))
QUICK = {
    "width": 8,
    "hidden": 16,
    "dropout": 0.0,
    "optimisation": {"epochs": 25, "batch": 16, "learning_rate": 0.01},
}


def corpus_of(lists: list[tuple[int, ...]], x_ND: NDArray[np.float32], tags: int) -> Corpus:
    vocabulary = Vocabulary(tuple(f"t{tag:02d}" for tag in range(tags)), (1,) * tags)
    named = [[vocabulary.tags[tag] for tag in one] for one in lists]
    return Corpus(
        tuple(f"p{row}" for row in range(len(lists))),
        x_ND,
        vocabulary.encode(named),
        (x_ND.shape[1],),
        places_NV=vocabulary.encode_places(named),
    )


def importance_corpus(count: int, seed: int) -> Corpus:
    """Every picture has the same three tags; how large each feature is decides their order."""
    rng = np.random.default_rng(seed)
    sizes_N3 = np.array([rng.permutation([0.1, 1.0, 3.0]) for _ in range(count)])
    x_ND = np.hstack([sizes_N3, rng.random((count, 2))]).astype(np.float32)
    return corpus_of([tuple(np.argsort(-one)) for one in sizes_N3], x_ND, 4)


def batch_of(corpus: Corpus) -> pa.Table:
    return table_of(np.asarray(corpus.embeddings_ND))


@RECIPES
def test_it_learns_the_order_and_not_the_set(recipe: type[RecurrentRecipe]) -> None:
    training, test = importance_corpus(150, 0), importance_corpus(60, 1)
    fitted = recipe.model_validate(QUICK).fit(training, VOCABULARY, Solo())
    assert fitted.steps == 3
    scores_BV = fitted.score(batch_of(test)).scores_BV
    order_BT = np.argsort(-scores_BV, axis=1)[:, :3]
    assert (order_BT == np.array(test.tag_lists())).all(axis=1).mean() > 0.9
    assert scores_BV[:, 3].max() < 0.5


@RECIPES
def test_a_list_longer_than_the_limit_is_cut_and_told(recipe: type[RecurrentRecipe]) -> None:
    corpus = importance_corpus(20, 0)
    fitted = recipe.model_validate({**QUICK, "limit": 2}).fit(corpus, VOCABULARY, Solo())
    assert fitted.steps == 2
    assert fitted.notes == (
        f"{fitted.kind} learned from the first 2 tags of 20 pictures that have more; raise its "
        "limit to use them all",
    )
    taken_N = (fitted.score(batch_of(corpus)).scores_BV > 0.5).sum(axis=1)
    assert (taken_N == 2).all()


@RECIPES
@pytest.mark.parametrize(
    ("lists", "tags"),
    [
        ([(0,), (0,)], 1),  # a vocabulary of one
        ([(0,), (1, 0), (1,)], 2),
        ([(2, 1, 0)], 3),  # one picture
        ([(0,), (0,), (0,)], 4),  # tags that no picture carries
    ],
)
def test_poor_corpora_give_whole_orders(
    recipe: type[RecurrentRecipe], lists: list[tuple[int, ...]], tags: int
) -> None:
    x_ND = np.random.default_rng(0).standard_normal((len(lists), 3)).astype(np.float32)
    corpus = corpus_of(lists, x_ND, tags)
    vocabulary = Vocabulary(tuple(f"t{tag:02d}" for tag in range(tags)), (1,) * tags)
    fitted = recipe.model_validate(QUICK).fit(corpus, vocabulary, Solo())
    scores_BV = fitted.score(batch_of(corpus)).scores_BV
    assert np.isfinite(scores_BV).all()
    assert ((scores_BV > 0.5).sum(axis=1) == max(len(one) for one in lists)).all()


def test_a_loss_that_is_no_number_names_its_pictures() -> None:
    recipe = RankedLstmRecipe.model_validate(
        {
            **QUICK,
            "optimisation": {"epochs": 9, "batch": 2, "learning_rate": 3e38, "betas": [0, 0.9]},
        }
    )
    with pytest.raises(TrainingError, match=r"batch of pictures 'p\d+', 'p\d+'"):
        recipe.fit(importance_corpus(4, 0), VOCABULARY, Solo())


def test_scoring_needs_no_torch(tmp_path: Path) -> None:
    corpus = importance_corpus(20, 0)
    expected = []
    for recipe in (RankedLstmRecipe, NaiveRnnRecipe):
        fitted = recipe.model_validate(QUICK).fit(corpus, VOCABULARY, Solo())
        (tmp_path / fitted.kind).mkdir()
        fitted.save(tmp_path / fitted.kind)
        expected.append(fitted.score(batch_of(corpus)).scores_BV)
    np.save(tmp_path / "x.npy", corpus.embeddings_ND)
    program = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from pathlib import Path\n"
        "from engine import schema\n"
        "from engine.annotators.naive_rnn import NaiveRnn\n"
        "from engine.annotators.ranked_lstm import RankedLstm\n"
        "folder = Path(sys.argv[1])\n"
        "x = pa.table({schema.EMBEDDING: schema.tensor_column(np.load(folder / 'x.npy'))})\n"
        "found = [k.load(folder / k.kind).score(x).scores_BV for k in (RankedLstm, NaiveRnn)]\n"
        "np.save(folder / 'found.npy', found)\n"
        "assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


# Every layer, from pixels.


def coloured_corpus(count: int = 36) -> Corpus:
    """Noise with two colours, the stronger of which is named first."""
    rng = np.random.default_rng(0)
    spec = backbone("random")
    size = spec.geometry.size
    pairs = [tuple(int(one) for one in rng.permutation(3)[:2]) for _ in range(count)]
    squares = rng.integers(0, 60, (count, size, size, 3), dtype=np.uint8)
    for row, (first, second) in enumerate(pairs):
        squares[row, :, :, first] += 150
        squares[row, :, :, second] += 60
    corpus = corpus_of(pairs, load_embedder(spec, "torch")(squares), 3)
    return replace(corpus, levels=spec.levels, pixels=Pixels(squares, np.arange(count), "random"))


COLOURS = Vocabulary(("red", "green", "blue"), (24, 24, 24))
TUNED = {
    **QUICK,
    "train": "all",
    "optimisation": {"epochs": 40, "batch": 12, "learning_rate": 0.01},
    "fine_tuning": {"epochs": 2, "batch": 12, "learning_rate": 1e-4, "weight_decay": 1e-3},
}


def pixels_of(corpus: Corpus) -> pa.Table:
    assert corpus.pixels is not None
    squares = corpus.pixels.take(np.arange(len(corpus)))
    return pa.table({schema.PIXELS: schema.tensor_column(squares)})


class InterruptedRunError(Exception):
    """A run that was stopped."""


class StopsOnce(FolderCheckpoints):
    """Stops the run after its first epoch of fine-tuning."""

    def keep(self, epoch: int, *others: object) -> None:  # type: ignore[override]
        super().keep(epoch, *others)  # type: ignore[arg-type]
        if epoch == 1:
            raise InterruptedRunError


@RECIPES
def test_every_layer_is_learned_carried_and_gone_on_with(
    recipe: type[RecurrentRecipe], tmp_path: Path
) -> None:
    corpus = coloured_corpus()
    settings = recipe.model_validate(TUNED)
    assert (settings.by_gradient, settings.wants_pixels) == (True, True)
    fitted = settings.fit(corpus, COLOURS, Solo())
    assert isinstance(fitted.image, Tuned)
    own = dict(fitted.image.network.backbone.network.state_dict())
    given = backbone("random").network().state_dict()
    moved = {name for name in given if not torch.equal(own[name], given[name])}
    assert moved == {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}
    scores_BV = fitted.score(pixels_of(corpus)).scores_BV
    firsts = [one[0] for one in corpus.tag_lists()]
    assert (scores_BV.argmax(axis=1) == firsts).mean() > 0.9
    (tmp_path / "saved").mkdir()
    fitted.save(tmp_path / "saved")
    assert type(fitted).reads_of(tmp_path / "saved") == (schema.PIXELS,)
    loaded = type(fitted).load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.score(pixels_of(corpus)).scores_BV, scores_BV)
    with pytest.raises(InterruptedRunError):
        settings.resumable_fit(corpus, COLOURS, Solo(), StopsOnce(tmp_path))
    resumed = settings.resumable_fit(corpus, COLOURS, Solo(), FolderCheckpoints(tmp_path))
    np.testing.assert_array_equal(resumed.score(pixels_of(corpus)).scores_BV, scores_BV)


def test_without_pixels_all_layers_cannot_be_learned() -> None:
    corpus = replace(coloured_corpus(4), pixels=None)
    with pytest.raises(ConfigError, match="'ranked-lstm' with train = 'all' learns from pixels"):
        RankedLstmRecipe.model_validate(TUNED).fit(corpus, COLOURS, Solo())
