"""JEC: the tags of the nearest pictures by the mean of several distances, greedily transferred."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.exemplars import Depths, Exemplars, evidence_column
from engine.group import Group
from engine.numerics.distances import Distance
from engine.numerics.weighted_knn import nearest, vote
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary


class JecRecipe(Recipe):
    """Settings of Makadia, Pavlovic and Kumar 2008 ("A New Baseline for Image Annotation").

    Attributes:
        distance: of each level, see `engine.numerics.distances`; the mean over the levels is
            taken after each is divided by its largest training distance.
        levels: how many levels of the embedding are compared; 1 is the network's last layer alone.
        neighbours: K, the nearest pictures whose tags are transferred.
    """

    kind: Literal["jec"] = "jec"
    distance: Distance = "cosine"
    levels: Depths = "all"
    neighbours: PositiveInt = 5

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Jec":
        exemplars = Exemplars.of_levels(corpus, self.levels, self.distance, group)
        return Jec(self, exemplars, vocabulary.digest)


def transfer_order(
    rows_BK: NDArray[np.int64], labels_NV: sparse.csr_matrix, together_VV: sparse.csr_matrix
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order in which tags are transferred (Makadia et al. 2008, section 3.3).

    First the nearest neighbour's tags, the most frequent in training first. Then the tags of the
    other neighbours, by how often each occurs in training beside the tags of the first step, and
    by how many of the other neighbours carry it. The paper names these two factors and not how
    they are joined: it is their product here, then the second alone, then the training frequency,
    then the vocabulary's order.

    Returns the tags [B, V] in that order, and how many of them are transferred [B]; behind these
    come the tags that no neighbour carries.

    Args:
        rows_BK: nearest first; at least one.
        together_VV: pictures that carry both tags, LᵀL; its diagonal has the frequencies.
    """
    batch, tags = len(rows_BK), labels_NV.shape[1]
    first_BV = vote(np.ones((batch, 1)), rows_BK[:, :1], labels_NV)
    others_BV = vote(np.ones((batch, rows_BK.shape[1] - 1)), rows_BK[:, 1:], labels_NV)
    beside_BV = (sparse.csr_matrix(first_BV) @ together_VV).toarray()
    frequency_BV = np.broadcast_to(together_VV.diagonal(), (batch, tags))
    group_BV = np.where(first_BV > 0, 0, np.where(others_BV > 0, 1, 2))
    behind_BV = group_BV == 1
    order_BV = np.lexsort(
        (-frequency_BV, -others_BV * behind_BV, -beside_BV * others_BV * behind_BV, group_BV),
        axis=-1,
    )
    return order_BV.astype(np.int64), (group_BV < 2).sum(axis=1)


class Jec(Annotator):
    """Joint equal contribution. The tag in place p of the transfer scores 1 / (1 + p), p from 0;
    a tag that no neighbour carries scores 0. The k best scores are thus the paper's k tags."""

    kind = "jec"
    gives_evidence = True

    def __init__(self, recipe: JecRecipe, exemplars: Exemplars, vocabulary_digest: str) -> None:
        self.recipe = recipe
        self.exemplars = exemplars
        self.vocabulary_digest = vocabulary_digest
        labels_NV = exemplars.labels_NV.astype(np.float64)
        self._together_VV = sparse.csr_matrix(labels_NV.T @ labels_NV)

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        labels_NV = self.exemplars.labels_NV
        parts: list[NDArray[np.float32]] = [np.zeros((0, labels_NV.shape[1]), dtype=np.float32)]
        evidence: list[list[dict[str, object]]] = []
        for distances_MBN in self.exemplars.to(embeddings_BD):
            rows_BK, distances_BK = nearest(distances_MBN.mean(axis=0), self.recipe.neighbours)
            order_BV, counts_B = transfer_order(rows_BK, labels_NV, self._together_VV)
            places_V = np.arange(order_BV.shape[1], dtype=np.float32)
            by_place_BV = np.where(places_V < counts_B[:, None], 1 / (1 + places_V), 0)
            scores_BV = np.zeros(order_BV.shape, dtype=np.float32)
            np.put_along_axis(scores_BV, order_BV, by_place_BV.astype(np.float32), axis=1)
            parts.append(scores_BV)
            evidence += self.exemplars.evidence(rows_BK, distances_BK)
        return Verdict(np.concatenate(parts), evidence_column(evidence))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        (folder / "jec.json").write_text(json.dumps(content), encoding="utf-8")
        self.exemplars.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "Jec":
        content = json.loads((folder / "jec.json").read_text(encoding="utf-8"))
        recipe = JecRecipe.model_validate(content["recipe"])
        return cls(recipe, Exemplars.load(folder), content["vocabulary"])
