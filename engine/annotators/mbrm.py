"""MBRM: the multiple Bernoulli relevance model, a kernel density around every training picture."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from engine import schema
from engine.corpus import Corpus
from engine.exemplars import Exemplars, evidence_column
from engine.group import Group
from engine.numerics.distances import Distance
from engine.numerics.levels import deepest_levels
from engine.numerics.relevance import bernoulli_words, posterior
from engine.numerics.weighted_knn import nearest
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary

EVIDENCE = 16
"""Likeliest training pictures of a picture that are named as its neighbours."""


class MbrmRecipe(Recipe):
    """Settings of Feng, Manmatha and Lavrenko 2004, and where this differs from the paper.

    The paper divides a picture into a grid of 24 rectangles with 30 features of colour and texture
    each, and takes P(x | J) = Π_a (1/n) Σ_i N(x_a; r_i, βI) over all regions r_i of J. An embedding
    has no regions in space: here its levels take their place, each compared with the same level of
    J alone, so that P(x | J) = Π_m exp(-d_m / β).

    Attributes:
        bandwidth: β, in units of the largest distance of a level between two training pictures.
        mu: μ of the words' estimate, in units of the number of training pictures. The smaller it
            is, the more a word's frequency in training counts.
        depth: levels compared, the last layer and the deepest stages of the network.
        distance: 'cosine' is half the squared distance of vectors of unit length, so that the
            kernel is the paper's Gaussian; the others are in `engine.numerics.distances`.
    """

    kind: Literal["mbrm"] = "mbrm"
    bandwidth: PositiveFloat = 0.06
    mu: PositiveFloat = 1000.0
    depth: PositiveInt = 4
    distance: Distance = "cosine"

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Mbrm":
        levels, columns = deepest_levels(corpus.levels, self.depth)
        vectors_ND = corpus.embeddings_ND[:, columns]
        exemplars = Exemplars.gather(corpus, vectors_ND, levels, self.distance, group)
        return Mbrm(self, corpus.levels, exemplars, vocabulary.digest)


class Mbrm(Annotator):
    """P(w | x) = Σ_J P(J | x) P(w | J) (Feng et al. 2004), for each word by itself."""

    kind = "mbrm"
    gives_evidence = True

    def __init__(
        self,
        recipe: MbrmRecipe,
        levels: tuple[int, ...],
        exemplars: Exemplars,
        vocabulary_digest: str,
    ) -> None:
        self.recipe = recipe
        self.levels = levels
        self.exemplars = exemplars
        self.vocabulary_digest = vocabulary_digest
        self._columns = deepest_levels(levels, recipe.depth)[1]

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)[:, self._columns]
        labels_NV = self.exemplars.labels_NV
        mu = self.recipe.mu * len(self.exemplars)
        parts = [np.zeros((0, labels_NV.shape[1]), dtype=np.float32)]
        evidence: list[list[dict[str, object]]] = []
        for distances_MBN in self.exemplars.to(embeddings_BD):
            density_BN = log_density(distances_MBN, self.recipe.bandwidth)
            parts.append(bernoulli_words(posterior(density_BN), labels_NV, mu))
            rows_BK, distances_BK = nearest(distances_MBN.mean(axis=0), EVIDENCE)
            evidence += self.exemplars.evidence(rows_BK, distances_BK)
        return Verdict(np.concatenate(parts), evidence_column(evidence))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.levels,
        }
        (folder / "mbrm.json").write_text(json.dumps(content), encoding="utf-8")
        self.exemplars.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "Mbrm":
        content = json.loads((folder / "mbrm.json").read_text(encoding="utf-8"))
        recipe = MbrmRecipe.model_validate(content["recipe"])
        levels = tuple(content["levels"])
        return cls(recipe, levels, Exemplars.load(folder), content["vocabulary"])


def log_density(distances_MBN: NDArray[np.float32], bandwidth: float) -> NDArray[np.float32]:
    """log P(x | J) of B pictures and N training ones, from M distances, but for a constant."""
    total_BN: NDArray[np.float32] = distances_MBN.sum(axis=0, dtype=np.float32)
    return -total_BN / np.float32(bandwidth)
