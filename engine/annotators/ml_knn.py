"""ML-kNN: the posterior of each tag, given how many of the nearest pictures carry it."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.exemplars import Depths, Exemplars, evidence_column
from engine.group import Group
from engine.numerics.distances import Distance
from engine.numerics.weighted_knn import nearest, vote
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary


class MlKnnRecipe(Recipe):
    """Settings of Zhang and Zhou 2007 ("ML-KNN: A lazy learning approach to multi-label learning").

    Attributes:
        neighbours: k.
        smoothing: s, added to every count; 1 is Laplace's.
        distance: of each level, see `engine.numerics.distances`; their mean is used. With one
            level and 'l2' it is the paper's Euclidean distance.
        levels: how many levels of the embedding are compared; 1 is the network's last layer alone.
    """

    kind: Literal["ml-knn"] = "ml-knn"
    neighbours: PositiveInt = 10
    smoothing: PositiveFloat = 1.0
    distance: Distance = "cosine"
    levels: Depths = 1

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "MlKnn":
        exemplars = Exemplars.of_levels(corpus, self.levels, self.distance, group)
        # A corpus of no more than k pictures has N - 1 neighbours for each of them.
        neighbours = min(self.neighbours, len(exemplars) - 1)
        rows_NK = np.concatenate(
            [
                nearest(distances_MRN.mean(axis=0), neighbours)[0]
                for _, distances_MRN in exemplars.leave_one_out()
            ]
        )
        posterior_VC = count_posteriors(exemplars.labels_NV, rows_NK, self.smoothing)
        return MlKnn(self, exemplars, posterior_VC, vocabulary.digest)


def count_posteriors(
    labels_NV: sparse.csr_matrix, rows_NK: NDArray[np.int64], smoothing: float
) -> NDArray[np.float64]:
    """P(tag | j of the k neighbours carry it) for j = 0 … k: float64 [V, k + 1].

    The prior is (s + n) / (2s + N) with n the tag's frequency, and of the pictures with (without)
    the tag, the share with j such neighbours is (s + c_j) / (s(k + 1) + Σ c): Zhang and Zhou 2007,
    Eq. 2 and steps 1 to 13 of figure 1, joined by Bayes' rule.

    Args:
        rows_NK: each training picture's k nearest others; k = 0 leaves the prior alone.
    """
    pictures, tags = labels_NV.shape
    outcomes = rows_NK.shape[1] + 1
    with_VC = np.zeros((tags, outcomes))
    either_VC = np.zeros((tags, outcomes))
    step = max(1, (1 << 23) // tags)
    for start in range(0, pictures, step):
        rows_RK = rows_NK[start : start + step]
        counts_RV = vote(np.ones(rows_RK.shape), rows_RK, labels_NV).astype(np.int64)
        cells_RV = np.arange(tags) * outcomes + counts_RV
        carried_RV = labels_NV[start : start + step].toarray() > 0
        flat = tags * outcomes
        either_VC += np.bincount(cells_RV.ravel(), minlength=flat).reshape(tags, outcomes)
        with_VC += np.bincount(cells_RV[carried_RV], minlength=flat).reshape(tags, outcomes)
    without_VC = either_VC - with_VC
    prior_V1 = (smoothing + with_VC.sum(axis=1, keepdims=True)) / (2 * smoothing + pictures)
    likely_VC = prior_V1 * _smoothed(with_VC, smoothing)
    unlikely_VC = (1 - prior_V1) * _smoothed(without_VC, smoothing)
    posterior_VC: NDArray[np.float64] = likely_VC / (likely_VC + unlikely_VC)
    return posterior_VC


def _smoothed(counts_VC: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    total_V1 = counts_VC.sum(axis=1, keepdims=True) + smoothing * counts_VC.shape[1]
    shares_VC: NDArray[np.float64] = (counts_VC + smoothing) / total_V1
    return shares_VC


class MlKnn(Annotator):
    """The score is P(tag | count), a posterior: a tag is given by the paper where it passes 0.5."""

    kind = "ml-knn"
    gives_evidence = True

    def __init__(
        self,
        recipe: MlKnnRecipe,
        exemplars: Exemplars,
        posterior_VC: NDArray[np.float64],
        vocabulary_digest: str,
    ) -> None:
        self.recipe = recipe
        self.exemplars = exemplars
        self.posterior_VC = posterior_VC
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        labels_NV = self.exemplars.labels_NV
        tags_V = np.arange(labels_NV.shape[1])
        neighbours = self.posterior_VC.shape[1] - 1
        parts: list[NDArray[np.float32]] = [np.zeros((0, labels_NV.shape[1]), dtype=np.float32)]
        evidence: list[list[dict[str, object]]] = []
        for distances_MBN in self.exemplars.to(embeddings_BD):
            rows_BK, distances_BK = nearest(distances_MBN.mean(axis=0), max(neighbours, 1))
            evidence += self.exemplars.evidence(rows_BK, distances_BK)
            voters_BK = rows_BK[:, :neighbours]
            counts_BV = vote(np.ones(voters_BK.shape), voters_BK, labels_NV).astype(np.int64)
            parts.append(self.posterior_VC[tags_V, counts_BV].astype(np.float32))
        return Verdict(np.concatenate(parts), evidence_column(evidence))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        (folder / "ml_knn.json").write_text(json.dumps(content), encoding="utf-8")
        save_file(
            {"posterior": np.ascontiguousarray(self.posterior_VC)}, folder / "ml_knn.safetensors"
        )
        self.exemplars.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "MlKnn":
        content = json.loads((folder / "ml_knn.json").read_text(encoding="utf-8"))
        return cls(
            MlKnnRecipe.model_validate(content["recipe"]),
            Exemplars.load(folder),
            load_file(folder / "ml_knn.safetensors")["posterior"],
            content["vocabulary"],
        )
