"""One-vs-rest logistic regression on the whitened embedding."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.numerics.levels import normalised_levels
from engine.numerics.whitening import Whitening
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary

BLOCK = 1024
"""Pictures whose logits are held at a time."""


class LinearRecipe(Recipe):
    """Settings of the logistic regression.

    Attributes:
        shrinkage: added to the eigenvalues of the embedding's covariance before whitening, in
            units of their mean.
        weight_decay: half the L2 penalty on the weights of the whitened features.
        positive_weight: the loss of a picture that carries the tag weighs (the odds against the
            tag) to this power.
        iterations: of L-BFGS.
    """

    kind: Literal["linear"] = "linear"
    shrinkage: PositiveFloat = 1.0
    weight_decay: NonNegativeFloat = 1e-4
    positive_weight: NonNegativeFloat = 0.5
    iterations: PositiveInt = 25

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Linear":
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch
        from torch import nn

        from engine.training import minimise

        mean_D, whiten_DD, frequency_V = self._statistics(corpus, group)
        pictures = float(group.sum(np.array([float(len(corpus))]))[0])
        layer = nn.Linear(whiten_DD.shape[1], len(vocabulary))
        parameters = list(layer.parameters())
        against_V = torch.from_numpy(1 / frequency_V - 1).float()
        positive_V = against_V**self.positive_weight
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(torch.log(positive_V / against_V))
        blocks = [
            (
                torch.from_numpy((normalised_levels(x_BD, corpus.levels) - mean_D) @ whiten_DD),
                labels_BV,
            )
            for x_BD, labels_BV in corpus.blocks(BLOCK)
        ]

        def block_loss(number: int) -> torch.Tensor:
            features_BD, labels_BV = blocks[number]
            return nn.functional.binary_cross_entropy_with_logits(
                layer(features_BD),
                torch.from_numpy(labels_BV.toarray()),
                pos_weight=positive_V,
                reduction="sum",
            )

        minimise(
            parameters,
            block_loss,
            range(len(blocks)),
            pictures,
            lambda: self.weight_decay / 2 * layer.weight.square().sum(),
            self.iterations,
            group,
        )
        # Whitening becomes part of the weights.
        weights_DV = whiten_DD @ layer.weight.detach().numpy().T
        bias_V = layer.bias.detach().numpy() - mean_D @ weights_DV
        return Linear(
            corpus.levels,
            np.ascontiguousarray(weights_DV, dtype=np.float32),
            bias_V.astype(np.float32),
            vocabulary.digest,
        )

    def _statistics(
        self, corpus: Corpus, group: Group
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """Mean [D] and whitening [D, D] of the embedding, and each tag's smoothed frequency [V]."""
        whitening = Whitening.learn(
            (normalised_levels(x_BD, corpus.levels) for x_BD, _ in corpus.blocks()),
            corpus.embeddings_ND.shape[1],
            self.shrinkage,
            group,
        )
        mean_D, whiten_DD = whitening.in_float32()
        carriers_V = np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel()
        count = float(group.sum(np.array([float(len(corpus))]))[0])
        frequency_V = (group.sum(carriers_V) + 0.5) / (count + 1)
        return mean_D, whiten_DD, frequency_V


class Linear(Annotator):
    """sigmoid(x·w + b) of the normalised embedding x, for each tag by itself."""

    kind = "linear"

    def __init__(
        self,
        levels: tuple[int, ...],
        weights_DV: NDArray[np.float32],
        bias_V: NDArray[np.float32],
        vocabulary_digest: str,
    ) -> None:
        self.levels = levels
        self.weights_DV = weights_DV
        self.bias_V = bias_V
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        x_BD = normalised_levels(schema.float_tensor(batch, schema.EMBEDDING), self.levels)
        return Verdict(expit(x_BD @ self.weights_DV + self.bias_V))

    def save(self, folder: Path) -> None:
        save_file({"weights": self.weights_DV, "bias": self.bias_V}, folder / "linear.safetensors")
        content = {"vocabulary": self.vocabulary_digest, "levels": self.levels}
        (folder / "linear.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Linear":
        content = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "linear.safetensors")
        return cls(
            tuple(content["levels"]), arrays["weights"], arrays["bias"], content["vocabulary"]
        )
