"""CNN+softmax, CNN+WARP, CNN+logistic: one layer on a network's features, under three losses."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy.special import expit, logit, softmax

from engine.corpus import Corpus
from engine.gathering import tag_shares
from engine.group import Group
from engine.numerics.draws import spread_draws
from engine.optimisation import Optimisation
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.regression import Head
from engine.vocab import Vocabulary
from engine.whitened import Whitened

if TYPE_CHECKING:
    import torch

    from engine.training import Batch, Checkpoints


class _CnnHeadRecipe(GradientRecipe):
    """Settings that the three have in common.

    The papers fine-tune the whole CNN; here it is frozen, and the layer learns on its embedding.

    Attributes:
        shrinkage: of the whitening of the embedding, in units of its mean variance.
        dropout: of the features, in training.
        optimisation: of the loop.
    """

    shrinkage: PositiveFloat = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=1e-3, weight_decay=0.05, epochs=12, batch=64, warmup=0.1, average=0.99
        )
    )

    @abstractmethod
    def losses(
        self, logits_BV: "torch.Tensor", labels_BV: "torch.Tensor", draws_B: NDArray[np.float64]
    ) -> "torch.Tensor":
        """The loss of each picture: float [B]."""

    @abstractmethod
    def start(self, frequency_V: NDArray[np.float64]) -> NDArray[np.float64]:
        """The bias [V] to begin with, from each tag's share of the pictures, within (0, 1)."""

    @property
    @abstractmethod
    def fitted(self) -> "type[CnnHead]":
        """What it becomes."""

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "CnnHead":
        """Learn the layer.

        Raises:
            TrainingError: the loss is no number.
        """
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch
        from torch import nn

        from engine.training import train

        whitened = Whitened.learn(corpus, self.shrinkage, group, scale=None)
        inputs = torch.from_numpy(whitened.features_ND)
        layer = nn.Linear(inputs.shape[1], len(vocabulary))
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(torch.from_numpy(self.start(tag_shares(corpus, group))))
        network = nn.Sequential(nn.Dropout(self.dropout), layer)

        def loss(network: nn.Module, batch: "Batch") -> torch.Tensor:
            labels_BV = torch.from_numpy(corpus.labels_NV[batch.rows_B].toarray())
            logits_BV = network(inputs[batch.rows_B].to(batch.device)).float()
            return self.losses(logits_BV, labels_BV.to(batch.device), batch.draws_B).sum()

        train(network, loss, corpus.ids, self.optimisation, group, checkpoints=checkpoints)
        arrays = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
        head = Head(corpus.levels, *whitened.folded(*arrays))
        return self.fitted(head, vocabulary.digest)


class CnnHead(Annotator):
    """sigmoid of a linear layer on the embedding."""

    def __init__(self, head: Head, vocabulary_digest: str) -> None:
        self.head = head
        self.vocabulary_digest = vocabulary_digest

    @staticmethod
    def link(logits_BV: NDArray[np.float32]) -> NDArray[np.float32]:
        """From the layer's outputs to scores in [0, 1]."""
        scores_BV: NDArray[np.float32] = expit(logits_BV)
        return scores_BV

    def score(self, batch: pa.Table) -> Verdict:
        return Verdict(self.link(self.head.predict(batch)))

    def save(self, folder: Path) -> None:
        content = {"vocabulary": self.vocabulary_digest, **self.head.save(folder)}
        (folder / "cnn_head.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / "cnn_head.json").read_text(encoding="utf-8"))
        return cls(Head.load(folder, tuple(content["levels"])), content["vocabulary"])


class CnnSoftmaxRecipe(_CnnHeadRecipe):
    """Settings of CNN+softmax (Gong et al. 2014, section 3.2)."""

    kind: Literal["cnn-softmax"] = "cnn-softmax"

    def losses(
        self, logits_BV: "torch.Tensor", labels_BV: "torch.Tensor", draws_B: NDArray[np.float64]
    ) -> "torch.Tensor":
        from engine.numerics.losses import softmax_loss

        return softmax_loss(logits_BV, labels_BV)

    def start(self, frequency_V: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(frequency_V)

    @property
    def fitted(self) -> "type[CnnSoftmax]":
        return CnnSoftmax


class CnnSoftmax(CnnHead):
    """softmax over the tags: the scores of a picture add up to 1."""

    kind = "cnn-softmax"

    @staticmethod
    def link(logits_BV: NDArray[np.float32]) -> NDArray[np.float32]:
        scores_BV: NDArray[np.float32] = softmax(logits_BV, axis=1)
        return scores_BV


class CnnWarpRecipe(_CnnHeadRecipe):
    """Settings of CNN+WARP (Gong et al. 2014, section 3.2; Weston et al. 2010)."""

    kind: Literal["cnn-warp"] = "cnn-warp"

    def losses(
        self, logits_BV: "torch.Tensor", labels_BV: "torch.Tensor", draws_B: NDArray[np.float64]
    ) -> "torch.Tensor":
        import torch

        from engine.numerics.losses import warp_loss

        uniforms_B2V = torch.from_numpy(spread_draws(draws_B, 2 * labels_BV.shape[1]))
        return warp_loss(logits_BV, labels_BV, uniforms_B2V.to(logits_BV.device))

    def start(self, frequency_V: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(frequency_V)

    @property
    def fitted(self) -> "type[CnnWarp]":
        return CnnWarp


class CnnWarp(CnnHead):
    """sigmoid of a ranking score, which is no probability until it is calibrated."""

    kind = "cnn-warp"


class CnnLogisticRecipe(_CnnHeadRecipe):
    """Settings of CNN+logistic (Hu et al. 2016): a logistic regression for each tag."""

    kind: Literal["cnn-logistic"] = "cnn-logistic"

    def losses(
        self, logits_BV: "torch.Tensor", labels_BV: "torch.Tensor", draws_B: NDArray[np.float64]
    ) -> "torch.Tensor":
        from engine.numerics.losses import logistic_loss

        return logistic_loss(logits_BV, labels_BV)

    def start(self, frequency_V: NDArray[np.float64]) -> NDArray[np.float64]:
        return logit(frequency_V)

    @property
    def fitted(self) -> "type[CnnLogistic]":
        return CnnLogistic


class CnnLogistic(CnnHead):
    """sigmoid of a linear layer."""

    kind = "cnn-logistic"
