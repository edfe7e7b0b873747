"""One-vs-rest logistic regression on the embedding."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat
from safetensors.numpy import load_file, save_file
from scipy.special import expit
from torch import nn

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.recipe import Annotator, Recipe, Verdict
from engine.training import TrainingSettings, train
from engine.vocab import Vocabulary


class LinearRecipe(Recipe):
    """Attributes:
    weight_decay: L2 penalty on the weights of standardised features, in units of one
        picture's loss.
    """

    kind: Literal["linear"] = "linear"
    weight_decay: NonNegativeFloat = 1e-3
    training: TrainingSettings = TrainingSettings()

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Linear":
        mean_D, scale_D, frequency_V = _statistics(corpus, group)
        layer = nn.Linear(len(mean_D), len(vocabulary))
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(torch.from_numpy(np.log(frequency_V / (1 - frequency_V))))

        def loss_of_rows(rows_B: NDArray[np.int64]) -> torch.Tensor:
            embeddings_BD = (corpus.embeddings_ND[rows_B] - mean_D) / scale_D
            labels_BV = torch.from_numpy(corpus.labels_NV[rows_B].toarray())
            logits_BV = layer(torch.from_numpy(embeddings_BD.astype(np.float32)))
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits_BV, labels_BV, reduction="sum"
            )
            return loss + len(rows_B) * self.weight_decay * layer.weight.square().sum()

        train(layer, loss_of_rows, len(corpus), self.training, group)
        # Standardisation is folded into the weights, so that scoring is one product.
        weights_DV = layer.weight.detach().numpy().T / scale_D[:, None]
        bias_V = layer.bias.detach().numpy() - mean_D @ weights_DV
        return Linear(
            np.ascontiguousarray(weights_DV, dtype=np.float32),
            bias_V.astype(np.float32),
            vocabulary.digest,
        )


def _statistics(
    corpus: Corpus, group: Group
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and spread [D] of the embedding, and the smoothed frequency of each tag [V]."""
    width = corpus.embeddings_ND.shape[1]
    sums_2D = np.zeros((2, width))
    counts_V = np.zeros(corpus.labels_NV.shape[1])
    for embeddings_BD, labels_BV in corpus.blocks():
        block = embeddings_BD.astype(np.float64)
        sums_2D += np.stack([block.sum(0), np.square(block).sum(0)])
        counts_V += np.asarray(labels_BV.sum(axis=0)).ravel()
    pictures = group.sum(np.array([float(len(corpus))]))[0]
    mean_D, square_D = group.sum(sums_2D) / pictures
    scale_D = np.sqrt(np.maximum(square_D - mean_D**2, 0))
    scale_D[scale_D < 1e-6] = 1.0
    return mean_D, scale_D, (group.sum(counts_V) + 0.5) / (pictures + 1)


class Linear(Annotator):
    """P(tag | picture) = sigmoid(x·w + b), for each tag by itself."""

    kind = "linear"

    def __init__(
        self,
        weights_DV: NDArray[np.float32],
        bias_V: NDArray[np.float32],
        vocabulary_digest: str,
    ) -> None:
        self.weights_DV = weights_DV
        self.bias_V = bias_V
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        return Verdict(expit(embeddings_BD @ self.weights_DV + self.bias_V))

    def save(self, folder: Path) -> None:
        save_file({"weights": self.weights_DV, "bias": self.bias_V}, folder / "linear.safetensors")
        content = {"vocabulary": self.vocabulary_digest}
        (folder / "linear.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Linear":
        content = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "linear.safetensors")
        return cls(arrays["weights"], arrays["bias"], content["vocabulary"])
