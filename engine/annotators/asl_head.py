"""An attention head over the embedding's levels, trained with the asymmetric loss."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from safetensors.numpy import load_file, save_file
from scipy.special import expit, logit

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.numerics.decoder import decode
from engine.numerics.levels import normalised_levels
from engine.numerics.whitening import Whitening
from engine.optimisation import Optimisation
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.vocab import Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.training import Batch, Checkpoints

SCORED = 256
"""Pictures whose queries are held at a time."""


class AslHeadRecipe(GradientRecipe):
    """Settings of ML-Decoder (Ridnik et al. 2021) under the asymmetric loss (Ridnik et al. 2021).

    Attributes:
        groups: K queries, each of which speaks for ceil(V / K) tags.
        width, heads, hidden: of the tokens, of the attention, of the feed-forward layer.
        dropout: in training.
        gamma_positive, gamma_negative, margin: of the loss, see `engine.numerics.losses`.
        positive_weight: the loss of a picture that carries the tag weighs (the odds against the
            tag) to this power.
        shrinkage: of the whitening of each level, in units of its mean variance.
        optimisation: of the loop.
    """

    kind: Literal["asl-head"] = "asl-head"
    groups: PositiveInt = 16
    width: PositiveInt = 64
    heads: PositiveInt = 4
    hidden: PositiveInt = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    gamma_positive: NonNegativeFloat = 0.0
    gamma_negative: NonNegativeFloat = 1.0
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    positive_weight: NonNegativeFloat = 0.5
    shrinkage: PositiveFloat = 1.0
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=2e-3,
            weight_decay=0.05,
            epochs=8,
            batch=64,
            warmup=0.1,
            clip=1.0,
            average=0.99,
        )
    )

    @model_validator(mode="after")
    def _divides(self) -> "AslHeadRecipe":
        if self.width % self.heads:
            raise ValueError(
                f"width is {self.width} and heads is {self.heads}; make width a multiple of heads"
            )
        return self

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "AslHead":
        """Learn the head on the embedding.

        Raises:
            TrainingError: the loss is no number.
        """
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch

        from engine.numerics.losses import asymmetric_loss
        from engine.training import train
        from engine.training.decoder import Decoder

        whitenings = self._whitenings(corpus, group)
        carriers_V = group.sum(np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel())
        pictures = float(group.sum(np.array([float(len(corpus))]))[0])
        frequency_V = (carriers_V + 0.5) / (pictures + 1)
        positive_V = torch.from_numpy((1 / frequency_V - 1) ** self.positive_weight).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.optimisation.seed)
            network = Decoder(
                corpus.levels,
                len(vocabulary),
                min(self.groups, len(vocabulary)),
                self.width,
                self.heads,
                self.hidden,
                self.dropout,
                logit(frequency_V).astype(np.float32),
            )
        features = torch.from_numpy(_features(corpus, whitenings))

        def loss(network: "nn.Module", batch: "Batch") -> "torch.Tensor":
            labels_BV = torch.from_numpy(corpus.labels_NV[batch.rows_B].toarray())
            labels_BV = labels_BV.to(batch.device)
            logits_BV = network(features[batch.rows_B].to(batch.device)).float()
            losses_BV = asymmetric_loss(
                logits_BV, labels_BV, self.gamma_positive, self.gamma_negative, self.margin
            )
            weights_BV = 1 + labels_BV * (positive_V.to(batch.device) - 1)
            return (losses_BV * weights_BV).sum()

        train(network, loss, corpus.ids, self.optimisation, group, checkpoints=checkpoints)
        weights = network.arrays()
        return AslHead(corpus.levels, self.heads, _folded(weights, whitenings), vocabulary.digest)

    def _whitenings(self, corpus: Corpus, group: Group) -> list[Whitening]:
        """One a level; the squared length of a whitened level is its width on average."""
        found = []
        ends = np.cumsum(corpus.levels)
        for end, width in zip(ends, corpus.levels, strict=True):
            level = slice(int(end) - width, int(end))
            blocks = (
                normalised_levels(x_BD, corpus.levels)[:, level] for x_BD, _ in corpus.blocks()
            )
            one = Whitening.learn(blocks, width, self.shrinkage, group)
            found.append(Whitening(one.mean_D, one.weights_DD * np.sqrt(width)))
        return found


def _features(corpus: Corpus, whitenings: list[Whitening]) -> NDArray[np.float32]:
    """The whitened levels of a corpus's pictures, side by side, float32 [N, D]."""
    places = np.cumsum(corpus.levels)[:-1]
    blocks = []
    for x_BD, _ in corpus.blocks():
        levels = np.split(normalised_levels(x_BD, corpus.levels), places, axis=1)
        white = [one(level) for one, level in zip(whitenings, levels, strict=True)]
        blocks.append(np.concatenate(white, axis=1))
    return np.concatenate(blocks)


def _folded(
    weights: dict[str, NDArray[np.float32]], whitenings: list[Whitening]
) -> dict[str, NDArray[np.float32]]:
    """The weights for features that are not whitened: whitening becomes part of them."""
    folded = dict(weights)
    directs, bias_V = [], weights["bias"].astype(np.float64)
    start = 0
    for number, whitening in enumerate(whitenings):
        token_DW = whitening.weights_DD @ weights[f"token{number}"].astype(np.float64)
        bias_W = weights[f"token{number}_bias"] - whitening.mean_D @ token_DW
        folded[f"token{number}"] = token_DW.astype(np.float32)
        folded[f"token{number}_bias"] = bias_W.astype(np.float32)
        stop = start + len(whitening.mean_D)
        direct_DV = whitening.weights_DD @ weights["direct"][start:stop].astype(np.float64)
        bias_V = bias_V - whitening.mean_D @ direct_DV
        directs.append(direct_DV.astype(np.float32))
        start = stop
    folded["direct"], folded["bias"] = np.concatenate(directs), bias_V.astype(np.float32)
    return folded


class AslHead(Annotator):
    """sigmoid of what the attention head says of the normalised levels."""

    kind = "asl-head"

    def __init__(
        self,
        levels: tuple[int, ...],
        heads: int,
        weights: dict[str, NDArray[np.float32]],
        vocabulary_digest: str,
    ) -> None:
        self.levels = levels
        self.heads = heads
        self.weights = weights
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        x_BD = normalised_levels(schema.float_tensor(batch, schema.EMBEDDING), self.levels)
        tags = len(self.weights["bias"])
        scores_BV = np.empty((len(x_BD), tags), dtype=np.float32)
        for start in range(0, len(x_BD), SCORED):
            rows = slice(start, start + SCORED)
            logits_BV = decode(x_BD[rows], self.weights, self.levels, self.heads, tags)
            scores_BV[rows] = expit(logits_BV)
        return Verdict(scores_BV)

    def save(self, folder: Path) -> None:
        save_file(self.weights, folder / "asl_head.safetensors")
        content = {"vocabulary": self.vocabulary_digest, "levels": self.levels, "heads": self.heads}
        (folder / "asl_head.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "AslHead":
        content = json.loads((folder / "asl_head.json").read_text(encoding="utf-8"))
        return cls(
            tuple(content["levels"]),
            content["heads"],
            load_file(folder / "asl_head.safetensors"),
            content["vocabulary"],
        )
