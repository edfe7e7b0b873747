"""Multimodal: deep networks on many views of a picture, and what each of them weighs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from safetensors.numpy import load_file, save_file

from engine import schema
from engine.corpus import Corpus
from engine.features import FEATURES
from engine.group import Group
from engine.modalities.blend import Blend
from engine.modalities.fit import Part, fit_part, held_apart
from engine.modalities.scoring import Arrays, chances
from engine.modalities.settings import (
    EMBEDDING,
    PIXELS,
    DenseSettings,
    PixelSettings,
    TrainingSettings,
    modality_name,
)
from engine.modalities.views import Scale, batch_views
from engine.numerics.similarity import Similarity
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.vocab import Vocabulary

if TYPE_CHECKING:
    from engine.training import Checkpoints

SCORED = 256
"""Pictures whose views are held at a time."""

TOLD = 5
"""So many of the modalities that weigh most are named in the notes."""


class MultimodalRecipe(GradientRecipe):
    """Settings of Sun, Zhu and Shi ("Image Annotation Via Deep Neural Network"), and what differs.

    A modality is a view of the picture and a similarity; each has a network of its own, taught
    layer by layer without tags and then with them. The paper's 36 are twelve hand-crafted features
    by three similarities.

    Attributes:
        features: the hand-crafted features that are views.
        embedding: whether the backbone's embedding is one too. The paper, of 2016, has none; a
            network that has seen a million pictures knows more than those features do.
        pixels: whether the squares themselves are, through the paper's eight-layer network. That
            is slow without a GPU.
        similarities: of Eq. 4.
        dense: the network of a vector. convolution: that of the pixels.
        training: of the networks.
        margin: of Eq. 9, in calibrated score.
        rate: µ of Eq. 8.
    """

    kind: Literal["multimodal"] = "multimodal"
    features: tuple[str, ...] = tuple(FEATURES)
    embedding: bool = True
    pixels: bool = False
    similarities: Annotated[tuple[Similarity, ...], Field(min_length=1)] = (
        "cosine",
        "linear",
        "rbf",
    )
    dense: DenseSettings = DenseSettings()
    convolution: PixelSettings = PixelSettings()
    training: TrainingSettings = TrainingSettings()
    margin: NonNegativeFloat = 0.5
    rate: PositiveFloat = 0.2

    @model_validator(mode="after")
    def _known_views(self) -> "MultimodalRecipe":
        for name in self.features:
            if name not in FEATURES:
                raise ValueError(f"features: no '{name}'; choose among {', '.join(FEATURES)}")
        for what, named in (("features", self.features), ("similarities", self.similarities)):
            if len(set(named)) < len(named):
                raise ValueError(f"{what}: one is named twice")
        if not self.parts():
            raise ValueError(
                "no view of the picture is left; name features, or set embedding or pixels to true"
            )
        return self

    @property
    def wants_pixels(self) -> bool:
        return self.pixels

    @property
    def columns(self) -> tuple[str, ...]:
        return (schema.FEATURES,) if self.features else ()

    def parts(self) -> tuple[str, ...]:
        """The views; the networks of one depend on no other, see `engine.division`."""
        beside = ((self.embedding, EMBEDDING), (self.pixels, PIXELS))
        return (*self.features, *(name for is_there, name in beside if is_there))

    def modalities(self) -> dict[str, tuple[str, Similarity]]:
        """View and similarity, by the modality's name."""
        return {
            modality_name(view, similarity): (view, similarity)
            for view in self.parts()
            for similarity in self.similarities
        }

    def fit_part(self, names: Sequence[str], corpus: Corpus, group: Group) -> Part:
        """Learn the networks of some of the views.

        Raises:
            ConfigError: the corpus lacks a view.
            TrainingError: a loss is no number.
        """
        return self._part(names, corpus, group, None)

    def _part(
        self,
        names: Sequence[str],
        corpus: Corpus,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> Part:
        return fit_part(
            corpus,
            names,
            self.similarities,
            self.dense,
            self.convolution,
            self.training,
            group,
            checkpoints,
        )

    def join(
        self, parts: Sequence[Part], corpus: Corpus, vocabulary: Vocabulary, group: Group
    ) -> "Multimodal":
        """Weigh the modalities of all the views."""
        _, held_rows = held_apart(corpus, self.training, group)
        blend = Blend.learn(
            {name: said for part in parts for name, said in part.held_out.items()},
            corpus.labels_NV[held_rows],
            [corpus.ids[row] for row in held_rows],
            self.training.optimisation.seed,
            self.margin,
            self.rate,
            group,
        )
        scales = [part.scale for part in parts if part.scale is not None]
        return Multimodal(
            self,
            {name: arrays for part in parts for name, arrays in part.arrays.items()},
            blend,
            scales[0] if scales else None,
            corpus.levels,
            vocabulary.digest,
            (_note(blend),),
        )

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "Multimodal":
        """Learn all the networks side by side, then their weights.

        The fine-tuning on all the pictures, which is the longest, goes on from a checkpoint; what
        comes before it is done again, and gives the same.

        Raises:
            ConfigError: the corpus lacks a view.
            TrainingError: a loss is no number.
        """
        part = self._part(self.parts(), corpus, group, checkpoints)
        return self.join([part], corpus, vocabulary, group)


def _note(blend: Blend) -> str:
    ranked = sorted(blend.weights.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {weight:.2f}" for name, weight in ranked[:TOLD])
    return (
        f"multimodal trusts, of {len(ranked)} modalities, after {blend.course[-1].triples:,} "
        f"triples: {told}"
    )


class Multimodal(Annotator):
    """The calibrated combination of the distributions over the tags that modalities give."""

    kind = "multimodal"

    def __init__(
        self,
        recipe: MultimodalRecipe,
        arrays: Mapping[str, Arrays],
        blend: Blend,
        scale: Scale | None,
        levels: tuple[int, ...],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.recipe = recipe
        self.reads = _reads(recipe)
        self.arrays = arrays
        self.blend = blend
        self.scale = scale
        self.levels = levels
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes

    def score(self, batch: pa.Table) -> Verdict:
        tags = len(next(iter(self.arrays.values()))["tags"])
        scores_BV = np.empty((len(batch), tags), dtype=np.float32)
        for start in range(0, len(batch), SCORED):
            part = batch.slice(start, SCORED)
            views = batch_views(part, self.recipe.parts(), self.levels, self.scale)
            scores_BV[start : start + SCORED] = self.blend(
                {
                    name: chances(
                        views[view], view, similarity, self.arrays[name], self.recipe.convolution
                    )
                    for name, (view, similarity) in self.recipe.modalities().items()
                }
            )
        return Verdict(scores_BV)

    def save(self, folder: Path) -> None:
        flat = {
            f"{modality}/{name}": one
            for modality, arrays in self.arrays.items()
            for name, one in arrays.items()
        }
        if self.scale is not None:
            flat |= {"scale/mean": self.scale.mean_D, "scale/factor": self.scale.factor_D}
        save_file(flat, folder / "multimodal.safetensors")
        content = {
            "vocabulary": self.vocabulary_digest,
            "levels": self.levels,
            "recipe": self.recipe.model_dump(mode="json"),
            "blend": self.blend.content(),
        }
        (folder / "multimodal.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def reads_of(cls, folder: Path) -> tuple[str, ...]:
        content = json.loads((folder / "multimodal.json").read_text(encoding="utf-8"))
        return _reads(MultimodalRecipe.model_validate(content["recipe"]))

    @classmethod
    def load(cls, folder: Path) -> "Multimodal":
        content = json.loads((folder / "multimodal.json").read_text(encoding="utf-8"))
        recipe = MultimodalRecipe.model_validate(content["recipe"])
        flat = load_file(folder / "multimodal.safetensors")
        scale = None
        if "scale/mean" in flat:
            scale = Scale(flat.pop("scale/mean"), flat.pop("scale/factor"))
        arrays: dict[str, Arrays] = {name: {} for name in recipe.modalities()}
        for path, one in flat.items():
            modality, name = path.rsplit("/", 1)
            arrays[modality][name] = one
        return cls(
            recipe,
            arrays,
            Blend.of(content["blend"]),
            scale,
            tuple(content["levels"]),
            content["vocabulary"],
        )


def _reads(recipe: MultimodalRecipe) -> tuple[str, ...]:
    embedding = (schema.EMBEDDING,) if recipe.embedding else ()
    return (*embedding, *recipe.columns, *((schema.PIXELS,) if recipe.pixels else ()))
