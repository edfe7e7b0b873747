"""Label quantity prediction: how many tags a picture has, regressed by a network of its own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import BLOCK, Corpus
from engine.group import Group
from engine.numerics.levels import normalised_levels
from engine.optimisation import Optimisation
from engine.settings import Settings
from engine.social_words import Bag, batch_words, corpus_words, frequent_words, known_rows
from engine.whitened import Whitened

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.training import Batch, Checkpoints

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights [in, out] and bias [out]."""

Inputs = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""The features [B, D] of some of this rank's rows."""


class QuantitySettings(Settings):
    """Settings of label quantity prediction (Niu et al. 2017, section III.C).

    Attributes:
        hidden: units of the hidden layers, first to last.
        dropout: in training, of every hidden layer.
        social: whether social tags are read, if any picture to learn from has some.
        words: the most frequent of these count.
        min_count: if so many training pictures have them.
        shrinkage: of the whitening of the embedding, in units of its mean variance.
        optimisation: of the loop.
    """

    hidden: tuple[PositiveInt, ...] = (512, 256)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    social: bool = True
    words: PositiveInt = 1000
    min_count: PositiveInt = 2
    shrinkage: PositiveFloat = 1.0
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=1e-3, weight_decay=0.05, epochs=10, batch=64, warmup=0.1, average=0.99
        )
    )


def rounded(quantity_B: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """How many tags are given: the nearest integer (a half goes up), 1 to `most`; int64 [B].

    Args:
        quantity_B: what was predicted; finite.
    """
    nearest_B = np.floor(quantity_B.astype(np.float64) + 0.5)
    return np.clip(nearest_B, 1, most).astype(np.int64)


@dataclass(frozen=True)
class Regressor:
    """Hidden layers of rectified units, and one unit that says how many.

    Attributes:
        layers: first to last; the last has one unit.
    """

    layers: tuple[Layer, ...]

    def __call__(self, features_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """The predicted number of tags, not rounded and of any sign: float32 [B]."""
        hidden_BH = features_BD
        for weights, bias in self.layers[:-1]:
            hidden_BH = np.maximum(hidden_BH @ weights + bias, 0)
        weights, bias = self.layers[-1]
        found_B1: NDArray[np.float32] = hidden_BH @ weights + bias
        return found_B1[:, 0]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What `from_arrays` takes; to be saved as safetensors."""
        found: dict[str, NDArray[np.float32]] = {}
        for place, (weights, bias) in enumerate(self.layers):
            found |= {f"weights{place}": weights, f"bias{place}": bias}
        return found

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> "Regressor":
        """Put together what `arrays` took apart; other names are passed over."""
        count = sum(name.startswith("weights") for name in arrays)
        return cls(tuple((arrays[f"weights{n}"], arrays[f"bias{n}"]) for n in range(count)))


def learn_regressor(
    features_ND: NDArray[np.float32],
    counts_N: NDArray[np.integer],
    ids: Sequence[str],
    settings: QuantitySettings,
    group: Group,
    checkpoints: "Checkpoints | None" = None,
) -> Regressor:
    """Learn from features and the true numbers of tags, by squared error (Niu et al. 2017, Eq. 5).

    Features are centred and brought to a mean variance of 1 in training; the regressor that comes
    back takes them as they were given.

    Args:
        features_ND: float32, of this rank's pictures; may be memory-mapped.
        counts_N: how many tags each picture has.
        ids: unique over the ranks.
        checkpoints: to go on from, and given one after each epoch.

    Raises:
        TrainingError: the loss is no number.
    """
    mean_D, variance = _centre(features_ND, group)
    scale = max(variance, 1e-12) ** -0.5
    shift_D = -mean_D * scale

    def inputs(rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
        scaled_BD: NDArray[np.float32] = (features_ND[rows_B] * scale + shift_D).astype(np.float32)
        return scaled_BD

    width = features_ND.shape[1]
    learned = _learn(inputs, width, counts_N, ids, settings, group, checkpoints)
    weights, bias = learned.layers[0]
    first = (weights * scale).astype(np.float32), (bias + shift_D @ weights).astype(np.float32)
    return Regressor((first, *learned.layers[1:]))


def _centre(features_ND: NDArray[np.float32], group: Group) -> tuple[NDArray[np.float64], float]:
    """Mean [D] of the features of all the ranks, and the mean over D of their variances."""
    width = features_ND.shape[1]
    sum_D, square_D = np.zeros(width), np.zeros(width)
    for start in range(0, len(features_ND), BLOCK):
        block_BD = np.asarray(features_ND[start : start + BLOCK], dtype=np.float64)
        sum_D += block_BD.sum(0)
        square_D += np.square(block_BD).sum(0)
    count = max(float(group.sum(np.array([float(len(features_ND))]))[0]), 1.0)
    mean_D = group.sum(sum_D) / count
    variance_D = np.maximum(group.sum(square_D) / count - mean_D**2, 0)
    return mean_D, float(variance_D.mean())


def _learn(
    inputs: Inputs,
    width: int,
    counts_R: NDArray[np.integer],
    ids: Sequence[str],
    settings: QuantitySettings,
    group: Group,
    checkpoints: "Checkpoints | None",
) -> Regressor:
    """Learn from rows whose features have about the variance 1."""
    # Here, not above: torch takes seconds that a fitted regressor need not pay.
    import torch
    from torch import nn

    from engine.training import train

    total, rows = group.sum(np.array([float(counts_R.sum()), float(len(counts_R))]))
    linears = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.optimisation.seed)
        for before, after in pairwise([width, *settings.hidden, 1]):
            linears.append(nn.Linear(before, after))
        with torch.no_grad():
            # What is right of most pictures; the layers then say where these differ.
            linears[-1].bias.fill_(total / max(rows, 1.0))
    modules: list[nn.Module] = []
    for linear in linears[:-1]:
        modules += [linear, nn.ReLU(), nn.Dropout(settings.dropout)]
    network = nn.Sequential(*modules, linears[-1])
    targets_R = torch.from_numpy(counts_R.astype(np.float32))

    def loss(network: nn.Module, batch: "Batch") -> torch.Tensor:
        found_B = network(torch.from_numpy(inputs(batch.rows_B)).to(batch.device))[:, 0]
        return squared_error(found_B, targets_R[batch.rows_B].to(batch.device))

    train(network, loss, ids, settings.optimisation, group, checkpoints=checkpoints)
    return Regressor(tuple(_layer(linear) for linear in linears))


def squared_error(found_B: "torch.Tensor", counts_B: "torch.Tensor") -> "torch.Tensor":
    """Niu et al. 2017, Eq. 5: the sum of (predicted - true)² over a batch's pictures."""
    return (found_B.float() - counts_B).square().sum()


def _layer(linear: "nn.Linear") -> Layer:
    weights = np.ascontiguousarray(linear.weight.detach().numpy().T)
    return weights, linear.bias.detach().numpy().copy()


class Quantity:
    """How many tags a picture has, from its embedding and from its social tags, if it has any.

    Niu et al. 2017 concatenate visual and textual features for their regressor; here these are the
    embedding and the bag of social words, brought to the same mean length. A picture without known
    social words is given the mean bag, and every picture is learned from in this way, too.

    Attributes:
        levels: of the embedding.
        bag: of social words; empty: they are not read.
        mean_W: float32, the mean bag.
    """

    def __init__(
        self,
        levels: tuple[int, ...],
        bag: Bag,
        mean_W: NDArray[np.float32],
        regressor: Regressor,
    ) -> None:
        self.levels = levels
        self.bag = bag
        self.mean_W = mean_W
        self.regressor = regressor

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the batch that it needs."""
        return (schema.EMBEDDING, schema.SOCIAL_TAGS) if len(self.bag) else (schema.EMBEDDING,)

    @classmethod
    def learn(
        cls,
        corpus: Corpus,
        settings: QuantitySettings,
        group: Group,
        checkpoints: "Checkpoints | None" = None,
    ) -> "Quantity":
        """Learn from the numbers of tags of this rank's share of a corpus.

        Raises:
            TrainingError: the loss is no number.
        """
        white = Whitened.learn(corpus, settings.shrinkage, group, scale=None)
        lists = corpus_words(corpus) if settings.social else [()] * len(corpus)
        bag = Bag(frequent_words(lists, settings.words, settings.min_count, group))
        words_NW = bag.encode(lists)
        known_M = np.flatnonzero(known_rows(words_NW))
        mean_W, words_scale = _mean_bag(words_NW[known_M], group)
        # All the features together have about the variance 1, and either part the same length.
        width = white.features_ND.shape[1]
        balance = float(np.sqrt((width + len(bag)) / (2 * width))) if len(bag) else 1.0
        words_scale *= float(np.sqrt((width + len(bag)) / 2))
        # Behind the pictures without social tags those that have some, once more, with these.
        picture_R = np.concatenate([np.arange(len(corpus)), known_M])

        def inputs(rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
            chosen_B = picture_R[rows_B]
            bags_BW = words_NW[chosen_B].toarray() - mean_W
            bags_BW[rows_B < len(corpus)] = 0
            seen_BD = white.features_ND[chosen_B] * np.float32(balance)
            return np.concatenate([seen_BD, bags_BW * np.float32(words_scale)], axis=1)

        counts_N = np.diff(corpus.labels_NV.indptr)
        with_words = [f"{corpus.ids[row]} with its social tags" for row in known_M]
        learned = _learn(
            inputs,
            width + len(bag),
            counts_N[picture_R],
            [*corpus.ids, *with_words],
            settings,
            group,
            checkpoints,
        )
        weights, bias_H = learned.layers[0]
        said_WH = weights[width:] * np.float32(words_scale)
        bias_H = bias_H - mean_W @ said_WH
        seen_DH, bias_H = white.folded(weights[:width] * np.float32(balance), bias_H)
        first = np.concatenate([seen_DH, said_WH]), bias_H
        return cls(corpus.levels, bag, mean_W, Regressor((first, *learned.layers[1:])))

    def __call__(self, batch: pa.Table) -> NDArray[np.float32]:
        """The predicted number of tags of each picture, not rounded: float32 [B].

        Args:
            batch: healthy rows with the columns `reads`; B = 0 is allowed.
        """
        x_BD = normalised_levels(schema.float_tensor(batch, schema.EMBEDDING), self.levels)
        if not len(self.bag):
            return self.regressor(x_BD)
        words_BW = self.bag.encode(batch_words(batch))
        bags_BW = words_BW.toarray()
        bags_BW[~known_rows(words_BW)] = self.mean_W
        return self.regressor(np.concatenate([x_BD, bags_BW], axis=1))

    def save(self, folder: Path) -> None:
        """Write everything into an existing folder: `quantity.json`, `quantity.safetensors`."""
        arrays = {**self.regressor.arrays(), "mean": self.mean_W}
        save_file(arrays, folder / "quantity.safetensors")
        content = {"levels": self.levels, "words": self.bag.words}
        text = json.dumps(content, ensure_ascii=False)
        (folder / "quantity.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Quantity":
        """Read what `save` wrote; it predicts to the bit as the saved one."""
        content = json.loads((folder / "quantity.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "quantity.safetensors")
        bag = Bag(tuple(content["words"]))
        regressor = Regressor.from_arrays(arrays)
        return cls(tuple(content["levels"]), bag, arrays["mean"], regressor)


def _mean_bag(words_MW: sparse.csr_matrix, group: Group) -> tuple[NDArray[np.float32], float]:
    """The mean bag [W], and what gives a bag less this mean a squared length of 1 on average."""
    sum_W = group.sum(np.asarray(words_MW.sum(axis=0), dtype=np.float64).ravel())
    count = max(float(group.sum(np.array([float(words_MW.shape[0])]))[0]), 1.0)
    mean_W = sum_W / count
    # A word is there or not: its variance is p · (1 - p).
    spread = float((mean_W * (1 - mean_W)).sum())
    return mean_W.astype(np.float32), float(1 / np.sqrt(max(spread, 1e-12)))
