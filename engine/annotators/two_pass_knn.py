"""2PKNN: the tags of each tag's nearest pictures, weighed by a distance that may be learned."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from safetensors.numpy import load_file, save_file

from engine import schema
from engine.cca_space import ImageProjection, SpaceRecipe
from engine.corpus import Corpus
from engine.exemplars import EVIDENCE, Depths, Exemplars, evidence_column
from engine.group import Group
from engine.numerics.distances import Distance
from engine.numerics.metric_learning import MarginLearner, MarginSettings
from engine.numerics.semantic import SemanticNeighbours
from engine.placement import Placement
from engine.recipe import Annotator, Verdict
from engine.vocab import Vocabulary


class TwoPassRecipe(SpaceRecipe):
    """Settings of Verma and Jawahar 2012, and of the space in which pictures are compared.

    Attributes:
        space: 'features': the levels of the embedding, each with a distance of its own; 'cca': the
            pictures' projection by CCA, one level, with the correlation distance; 'kcca': by CCA
            with the χ² kernel (Ballan et al. 2014). The settings of `SpaceRecipe` are of these
            two; `kernel` follows from `space`.
        distance: of each level, see `engine.numerics.distances`; D is their mean after each is
            divided by its largest training distance, or a learned mean.
        levels: how many levels of the embedding are compared; 1 is the network's last layer alone.
            'auto': all where their weights are learned, else 1. A space of CCA is made of all.
        neighbours: K₁, the nearest carriers of each tag: the first pass.
        temperature: D is divided by it in exp(-D): the second pass.
        voters: 'union': all the candidates of the first pass that carry a tag vote for it, which
            is the paper's way; 'own': only the tag's own K₁ do.
        metric_learning: learn the levels' weights (2PKNN+ML).
        dimension_weights: and the weights of each level's dimensions.
        push, rate, steps, anchors, seed: of the learning, see `MarginSettings`.
    """

    space: Literal["features", "cca", "kcca"] = "features"
    distance: Distance = "cosine"
    levels: Depths | Literal["auto"] = "auto"
    neighbours: PositiveInt = 5
    temperature: PositiveFloat = 0.025
    voters: Literal["union", "own"] = "union"
    metric_learning: bool = False
    dimension_weights: bool = False
    push: NonNegativeFloat = 1.0
    rate: PositiveFloat = 0.3
    steps: PositiveInt = 150
    anchors: PositiveInt = 32
    seed: int = 0

    @model_validator(mode="after")
    def _kernel_follows_from_space(self) -> "TwoPassRecipe":
        if self.kernel != "linear":
            raise ValueError(f"kernel is '{self.kernel}'; say space='kcca' for the χ² kernel")
        return self

    @model_validator(mode="after")
    def _dimensions_are_learned_with_the_levels(self) -> "TwoPassRecipe":
        if self.dimension_weights and not self.metric_learning:
            raise ValueError(
                "dimension_weights is part of metric_learning, which is off; set "
                "metric_learning=true too"
            )
        return self

    def learn(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "TwoPass":
        """Gather the training pictures, and learn the distance if asked to."""
        exemplars, project, notes = self._compared(corpus, vocabulary, group)
        levels = len(exemplars.features)
        weights_M = np.full(levels, 1 / (levels * self.temperature))
        if self.metric_learning and levels == 1 and not self.dimension_weights:
            notes += (
                f"{self.kind}: pictures are compared by one level, so there are no weights of "
                "levels to learn; dimension_weights=true learns those of its dimensions",
            )
        elif self.metric_learning:
            learner = MarginLearner(
                exemplars.features,
                exemplars.scales_M,
                exemplars.distance,
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
        return TwoPass(exemplars, weights_M, project, notes)

    def _compared(
        self, corpus: Corpus, vocabulary: Vocabulary, group: Group
    ) -> tuple[Exemplars, ImageProjection | None, tuple[str, ...]]:
        """The training pictures in the space of the settings, and the way into it."""
        if self.space == "features":
            auto: Depths = "all" if self.metric_learning else 1
            depths = auto if self.levels == "auto" else self.levels
            return Exemplars.of_levels(corpus, depths, self.distance, group), None, ()
        kernel = "chi2" if self.space == "kcca" else "linear"
        space = self.model_copy(update={"kernel": kernel}).learn_space(corpus, vocabulary, group)
        vectors_NL = Placement.of(space, "image").corpus(corpus)
        width = (vectors_NL.shape[1],)
        exemplars = Exemplars.gather(corpus, vectors_NL, width, "correlation", group)
        return exemplars, space.images, space.notes


class TwoPassKnnRecipe(TwoPassRecipe):
    """Settings of 2PKNN, and with `metric_learning` of 2PKNN+ML."""

    kind: Literal["2pknn"] = "2pknn"

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "TwoPassKnn":
        return TwoPassKnn(self, self.learn(corpus, vocabulary, group), vocabulary.digest)


class KccaTwoPassKnnRecipe(TwoPassRecipe):
    """Settings of KCCA-2PKNN (Ballan, Uricchio, Seidenari and Del Bimbo 2014)."""

    kind: Literal["kcca-2pknn"] = "kcca-2pknn"
    space: Literal["cca", "kcca"] = "kcca"
    temperature: PositiveFloat = 0.03

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "KccaTwoPassKnn":
        return KccaTwoPassKnn(self, self.learn(corpus, vocabulary, group), vocabulary.digest)


@dataclass(frozen=True)
class TwoPass:
    """What is learned: the training pictures, the weights [M] of their distances, and the way
    from an embedding to what these compare (None: as it is)."""

    exemplars: Exemplars
    weights_M: NDArray[np.float64]
    project: ImageProjection | None
    notes: tuple[str, ...] = ()


class TwoPassKnn(Annotator):
    """P(tag) by Verma and Jawahar 2012, section 3: Σ exp(-D) over the candidates that carry it.

    The sum is read as odds, which keeps its order and brings it into [0, 1].
    """

    kind = "2pknn"
    gives_evidence = True
    recipe_type: ClassVar[type[TwoPassRecipe]] = TwoPassKnnRecipe

    def __init__(self, recipe: TwoPassRecipe, learned: TwoPass, vocabulary_digest: str) -> None:
        self.recipe = recipe
        self.learned = learned
        self.vocabulary_digest = vocabulary_digest
        self.notes = learned.notes
        self._semantic = SemanticNeighbours(learned.exemplars.labels_NV, recipe.neighbours)

    def score(self, batch: pa.Table) -> Verdict:
        exemplars, weights_M = self.learned.exemplars, self.learned.weights_M
        vectors_BD = schema.float_tensor(batch, schema.EMBEDDING)
        if self.learned.project is not None:
            vectors_BD = self.learned.project(vectors_BD)
        parts: list[NDArray[np.float32]] = [
            np.zeros((0, exemplars.labels_NV.shape[1]), dtype=np.float32)
        ]
        evidence: list[list[dict[str, object]]] = []
        for distances_MBN in exemplars.to(vectors_BD):
            combined_BN = np.einsum("m,mbn->bn", weights_M.astype(np.float32), distances_MBN)
            candidates = self._semantic.among_all(1 - combined_BN)
            votes_BV = self._semantic.votes(candidates, 1.0, pooled=self.recipe.voters == "union")
            parts.append(votes_BV / (1 + votes_BV))
            rows_BE, similarities_BE = candidates.nearest(EVIDENCE)
            mean_BE = np.maximum(1 - similarities_BE, 0) / max(float(weights_M.sum()), 1e-12)
            evidence += exemplars.evidence(rows_BE, mean_BE)
        return Verdict(np.concatenate(parts), evidence_column(evidence))

    def save(self, folder: Path) -> None:
        project = self.learned.project
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": None if project is None else project.levels,
        }
        (folder / "two_pass_knn.json").write_text(json.dumps(content), encoding="utf-8")
        arrays: dict[str, NDArray[np.generic]] = {} if project is None else project.arrays()
        arrays["distance_weights"] = self.learned.weights_M
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "two_pass_knn.safetensors",
        )
        self.learned.exemplars.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "TwoPassKnn":
        content = json.loads((folder / "two_pass_knn.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "two_pass_knn.safetensors")
        project = None
        if content["levels"] is not None:
            project = ImageProjection.from_arrays(arrays, tuple(content["levels"]))
        learned = TwoPass(Exemplars.load(folder), arrays["distance_weights"], project)
        recipe = cls.recipe_type.model_validate(content["recipe"])
        return cls(recipe, learned, content["vocabulary"])


class KccaTwoPassKnn(TwoPassKnn):
    """2PKNN on pictures that kernel CCA has projected."""

    kind = "kcca-2pknn"
    recipe_type = KccaTwoPassKnnRecipe
