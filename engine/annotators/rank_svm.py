"""Rank-SVM: linear tag scores whose order is to be that of each picture's list, by a margin."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat, PositiveInt
from scipy.special import expit

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.recipe import Annotator, Recipe, Verdict
from engine.regression import Head
from engine.sequence import padded_targets
from engine.vocab import Vocabulary
from engine.whitened import Whitened

MARGINS = 4_000_000
"""Margins of pairs that are held at a time."""


class RankSvmRecipe(Recipe):
    """Settings of the ranking support vector machine, a peer in Yan et al. 2016, section 5.1.

    With f_v(x) = w_v·x + b_v, it minimises ½ (|w|² + |b|²) + C Σ_i h_i, where h_i is the mean
    squared hinge of picture i's pairs of tags, see `engine.numerics.losses.ranking_hinge`. b is the
    weight of a feature that is always 1.

    Attributes:
        shrinkage: of the whitening of the embedding, see `engine.numerics.whitening`.
        penalty: C, the squared length of a whitened picture being 1 on average.
        iterations: of L-BFGS, at the most.
    """

    kind: Literal["rank-svm"] = "rank-svm"
    shrinkage: PositiveFloat = 1.0
    penalty: PositiveFloat = 100.0
    iterations: PositiveInt = 400

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "RankSvm":
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch
        from torch import nn

        from engine.numerics.losses import ranking_hinge
        from engine.training import minimise

        whitened = Whitened.learn(corpus, self.shrinkage, group)
        features = torch.from_numpy(whitened.features_ND)
        tags = torch.from_numpy(padded_targets(corpus.tag_lists(), len(vocabulary)).tags_NT)
        pictures = float(group.sum(np.array([float(len(corpus))]))[0])
        layer = nn.Linear(features.shape[1], len(vocabulary))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        rows = max(1, MARGINS // (tags.shape[1] * len(vocabulary)))

        def block_loss(number: int) -> torch.Tensor:
            block = slice(number * rows, (number + 1) * rows)
            return ranking_hinge(layer(features[block]), tags[block]).sum()

        def penalty() -> torch.Tensor:
            squares = layer.weight.square().sum() + layer.bias.square().sum()
            return squares / (2 * self.penalty * pictures)

        blocks = range(-(-len(corpus) // rows))
        parameters = list(layer.parameters())
        minimise(parameters, block_loss, blocks, pictures, penalty, self.iterations, group)
        weights_DV, bias_V = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
        return RankSvm(whitened.head(weights_DV, bias_V), vocabulary.digest)


class RankSvm(Annotator):
    """sigmoid(f): the order of the tags is that of f."""

    kind = "rank-svm"
    reads = (schema.EMBEDDING,)

    def __init__(self, machine: Head, vocabulary_digest: str) -> None:
        self.machine = machine
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        return Verdict(expit(self.machine.predict(batch)))

    def save(self, folder: Path) -> None:
        content = {"vocabulary": self.vocabulary_digest, **self.machine.save(folder)}
        (folder / "rank_svm.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "RankSvm":
        content = json.loads((folder / "rank_svm.json").read_text(encoding="utf-8"))
        return cls(Head.load(folder, tuple(content["levels"])), content["vocabulary"])
