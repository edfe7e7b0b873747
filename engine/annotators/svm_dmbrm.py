"""SVM-DMBRM: a support vector machine a word, blended with a discrete relevance model."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse
from scipy.special import expit

from engine import schema
from engine.corpus import Corpus
from engine.gathering import binary_matrix, gathered
from engine.group import Group
from engine.numerics.density import Density
from engine.numerics.levels import normalised_levels
from engine.numerics.relevance import bernoulli_words, posterior
from engine.numerics.whitening import Whitening
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary

BLOCK = 1024
"""Pictures whose margins are held at a time."""


class SvmDmbrmRecipe(Recipe):
    """Settings of Murthy, Can and Manmatha 2014 ("A Hybrid Model"), and how gaps were settled.

    The paper joins a support vector machine a word, for pictures whose tags are incomplete, with a
    discrete MBRM, for words that are rare; the latter sees quantised local features, of which there
    are thousands, through LDA. The rest is settled here.

    The generative half: a picture is a bag of visual words, drawn from the smoothed multinomial of
    a training picture. The channels of the network's last layer, some hundred non-negative features
    a picture, are the visual words as they are, without LDA.

    The discriminative half: the machines are linear and see the whitened embedding. Their loss is
    the squared hinge, and the pictures with a word weigh together as much as those without it.

    The two become one by P(w | x) = share · sigmoid(slope · margin) + (1 - share) · P_MBRM(w | x).

    Attributes:
        shrinkage: of the whitening, see `engine.numerics.whitening`.
        penalty: C, what the squared hinge of a picture costs beside ½ |w|², the squared length of
            a whitened picture being 1 on average.
        balance: the loss of a picture with the word weighs (the odds against it) to this power.
        iterations: of L-BFGS, at the most.
        slope: of the logistic function that makes a probability of a margin.
        share: of the SVM in the blend, from 0 to 1.
        draws: visual words that a picture counts for in the relevance model.
        mu: μ of the Bernoulli words, in units of the number of training pictures.
    """

    kind: Literal["svm-dmbrm"] = "svm-dmbrm"
    shrinkage: PositiveFloat = 1.0
    penalty: PositiveFloat = 10.0
    balance: NonNegativeFloat = 1.0
    iterations: PositiveInt = 25
    slope: PositiveFloat = 2.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.7
    draws: PositiveFloat = 50.0
    mu: PositiveFloat = 1000.0

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "SvmDmbrm":
        whitening = Whitening.learn(
            (normalised_levels(x_BD, corpus.levels) for x_BD, _ in corpus.blocks()),
            corpus.embeddings_ND.shape[1],
            self.shrinkage,
            group,
        )
        mean_D, whiten_DD = whitening.in_float32()
        blocks = [
            (np.matmul(normalised_levels(x_BD, corpus.levels) - mean_D, whiten_DD), labels_BV)
            for x_BD, labels_BV in corpus.blocks(BLOCK)
        ]
        weights_DV, bias_V = squared_hinge_svm(
            blocks, self.penalty, self.balance, self.iterations, group
        )
        # Whitening becomes part of the weights.
        weights_DV = whiten_DD @ weights_DV
        whole = gathered(corpus, group)
        return SvmDmbrm(
            self,
            corpus.levels,
            np.ascontiguousarray(weights_DV, dtype=np.float32),
            (bias_V - mean_D @ weights_DV).astype(np.float32),
            np.ascontiguousarray(whole.embeddings_ND[:, : corpus.levels[0]], dtype=np.float32),
            whole.labels_NV,
            vocabulary.digest,
        )


def squared_hinge_svm(
    blocks: list[tuple[NDArray[np.float32], sparse.csr_matrix]],
    penalty: float,
    balance: float,
    iterations: int,
    group: Group,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Minimise ½ |w|² + C Σ_i s_i max(0, 1 - y_i (w·x_i + b))² for every word at once.

    s_i is the odds against the word to the power of `balance` where picture i carries it, else 1.
    A word on every picture or on none gets a machine that says so of all.

    Args:
        blocks: features [B, D] and labels [B, V] of this rank's pictures; at least one block.
        penalty: C.

    Returns:
        w, float32 [D, V], and b, float32 [V].
    """
    # Here, not above: torch takes seconds that a fitted annotator need not pay.
    import torch
    from torch import nn

    from engine.training import minimise

    pictures = float(group.sum(np.array([float(sum(len(x) for x, _ in blocks))]))[0])
    carriers_V = sum(np.asarray(y.sum(axis=0), dtype=np.float64).ravel() for _, y in blocks)
    frequency_V = (group.sum(np.asarray(carriers_V)) + 0.5) / (pictures + 1)
    weight_V = torch.from_numpy((1 / frequency_V - 1) ** balance).float()
    layer = nn.Linear(blocks[0][0].shape[1], len(frequency_V))
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(2 * frequency_V - 1))

    def block_loss(number: int) -> torch.Tensor:
        x_BD, labels_BV = blocks[number]
        carries_BV = torch.from_numpy(labels_BV.toarray()) > 0
        margin_BV = torch.where(carries_BV, 1.0, -1.0) * layer(torch.from_numpy(x_BD))
        loss_BV = torch.clamp(1 - margin_BV, min=0).square()
        return torch.where(carries_BV, weight_V * loss_BV, loss_BV).sum()

    minimise(
        list(layer.parameters()),
        block_loss,
        range(len(blocks)),
        pictures,
        lambda: layer.weight.square().sum() / (2 * penalty * pictures),
        iterations,
        group,
    )
    return layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()


class SvmDmbrm(Annotator):
    """share · sigmoid(slope · (x·w + b)) + (1 - share) · Σ_J P(J | x) P(w | J)."""

    kind = "svm-dmbrm"

    def __init__(
        self,
        recipe: SvmDmbrmRecipe,
        levels: tuple[int, ...],
        weights_DV: NDArray[np.float32],
        bias_V: NDArray[np.float32],
        training_NE: NDArray[np.float32],
        labels_NV: sparse.csr_matrix,
        vocabulary_digest: str,
    ) -> None:
        self.recipe = recipe
        self.levels = levels
        self.weights_DV = weights_DV
        self.bias_V = bias_V
        self.labels_NV = labels_NV
        self.vocabulary_digest = vocabulary_digest
        self._density = Density("multinomial", training_NE)

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        recipe = self.recipe
        x_BD = normalised_levels(embeddings_BD, self.levels)
        margins_BV = x_BD @ self.weights_DV + self.bias_V
        log_density_BN = -self._density.divergences(embeddings_BD[:, : self.levels[0]])
        words_BV = bernoulli_words(
            posterior(np.float32(recipe.draws) * log_density_BN),
            self.labels_NV,
            recipe.mu * self.labels_NV.shape[0],
        )
        svm_BV = expit(recipe.slope * margins_BV)
        blend_BV = recipe.share * svm_BV + (1 - recipe.share) * words_BV
        return Verdict(blend_BV.astype(np.float32))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.levels,
        }
        (folder / "svm-dmbrm.json").write_text(json.dumps(content), encoding="utf-8")
        arrays: dict[str, NDArray[np.generic]] = {
            "weights": self.weights_DV,
            "bias": self.bias_V,
            "training": self._density.training_ND,
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
        }
        save_file(arrays, folder / "svm-dmbrm.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "SvmDmbrm":
        content = json.loads((folder / "svm-dmbrm.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "svm-dmbrm.safetensors")
        return cls(
            SvmDmbrmRecipe.model_validate(content["recipe"]),
            tuple(content["levels"]),
            arrays["weights"],
            arrays["bias"],
            arrays["training"],
            binary_matrix(arrays["label_indices"], arrays["label_indptr"], len(arrays["bias"])),
            content["vocabulary"],
        )
