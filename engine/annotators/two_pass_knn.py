"""2PKNN: the tags of each tag's nearest pictures, weighed by a distance that may be learned."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file

from engine import schema
from engine.corpus import Corpus
from engine.exemplars import EVIDENCE, Exemplars, evidence_column
from engine.group import Group
from engine.numerics.distances import Distance
from engine.numerics.metric_learning import MarginLearner, MarginSettings
from engine.numerics.semantic import SemanticNeighbours
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary


class TwoPassKnnRecipe(Recipe):
    """Settings of Verma and Jawahar 2012.

    Attributes:
        distance: of each level, see `engine.numerics.distances`; D is their mean after each is
            divided by its largest training distance, or a learned sum.
        neighbours: K₁, the nearest carriers of each tag: the first pass.
        temperature: D is divided by it in exp(-D): the second pass.
        voters: 'union': all the candidates of the first pass that carry a tag vote for it, which
            is the paper's way; 'own': only the tag's own K₁ do.
        metric_learning: learn the levels' weights (2PKNN+ML).
        dimension_weights: and the weights of each level's dimensions.
        push, rate, steps, anchors, seed: of the learning, see `MarginSettings`.
    """

    kind: Literal["2pknn"] = "2pknn"
    distance: Distance = "l1"
    neighbours: PositiveInt = 5
    temperature: PositiveFloat = 0.05
    voters: Literal["union", "own"] = "union"
    metric_learning: bool = False
    dimension_weights: bool = False
    push: NonNegativeFloat = 10.0
    rate: PositiveFloat = 0.3
    steps: PositiveInt = 150
    anchors: PositiveInt = 32
    seed: int = 0

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "TwoPassKnn":
        exemplars = Exemplars.gather(
            corpus, corpus.embeddings_ND, corpus.levels, self.distance, group
        )
        levels = len(exemplars.features)
        weights_M = np.full(levels, 1 / (levels * self.temperature))
        if self.metric_learning:
            learner = MarginLearner(
                exemplars.features,
                exemplars.scales_M,
                self.distance,
                exemplars.labels_NV,
                self.neighbours,
            )
            settings = MarginSettings(
                self.push, self.rate, self.steps, self.anchors, self.dimension_weights, self.seed
            )
            metric = learner.learn(weights_M, settings)
            weights_M = metric.levels_M
            if self.dimension_weights:
                exemplars = exemplars.weighted(metric.dimensions)
        return TwoPassKnn(self, exemplars, weights_M, vocabulary.digest)


class TwoPassKnn(Annotator):
    """P(tag) by Verma and Jawahar 2012, section 3: Σ exp(-D) over the candidates that carry it.

    The sum is read as odds, which keeps its order and brings it into [0, 1].
    """

    kind = "2pknn"
    gives_evidence = True

    def __init__(
        self,
        recipe: TwoPassKnnRecipe,
        exemplars: Exemplars,
        weights_M: NDArray[np.float64],
        vocabulary_digest: str,
    ) -> None:
        self.recipe = recipe
        self.exemplars = exemplars
        self.weights_M = weights_M
        self.vocabulary_digest = vocabulary_digest
        self._semantic = SemanticNeighbours(exemplars.labels_NV, recipe.neighbours)

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        parts = [np.zeros((0, self.exemplars.labels_NV.shape[1]), dtype=np.float32)]
        evidence: list[list[dict[str, object]]] = []
        for distances_MBN in self.exemplars.to(embeddings_BD):
            combined_BN = np.einsum("m,mbn->bn", self.weights_M.astype(np.float32), distances_MBN)
            candidates = self._semantic.among_all(1 - combined_BN)
            votes_BV = self._semantic.votes(candidates, 1.0, pooled=self.recipe.voters == "union")
            parts.append(votes_BV / (1 + votes_BV))
            rows_BE, similarities_BE = candidates.nearest(EVIDENCE)
            mean_BE = np.maximum(1 - similarities_BE, 0) / max(float(self.weights_M.sum()), 1e-12)
            evidence += self.exemplars.evidence(rows_BE, mean_BE)
        return Verdict(np.concatenate(parts), evidence_column(evidence))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        (folder / "two_pass_knn.json").write_text(json.dumps(content), encoding="utf-8")
        save_file(
            {"weights": np.ascontiguousarray(self.weights_M)}, folder / "two_pass_knn.safetensors"
        )
        self.exemplars.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "TwoPassKnn":
        content = json.loads((folder / "two_pass_knn.json").read_text(encoding="utf-8"))
        return cls(
            TwoPassKnnRecipe.model_validate(content["recipe"]),
            Exemplars.load(folder),
            load_file(folder / "two_pass_knn.safetensors")["weights"],
            content["vocabulary"],
        )
