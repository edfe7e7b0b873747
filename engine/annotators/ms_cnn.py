"""MS-CNN: feature maps of all scales, noisy tags beside them, and how many tags there are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from safetensors.numpy import load_file, save_file
from scipy import sparse
from scipy.special import expit, logit

from engine import schema
from engine.corpus import Corpus
from engine.embed.maps import maps_backbone, stored
from engine.errors import BackboneError, ConfigError
from engine.group import Group
from engine.map_columns import maps_column
from engine.multi_scale import (
    Arrays,
    Branch,
    Lesson,
    blocks,
    branch,
    own_maps,
    textual_part,
    tuned_backbone,
    visual_part,
)
from engine.numerics.scale_fusion import textual_vectors, visual_vectors
from engine.optimisation import Optimisation
from engine.quantity import QuantitySettings
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.social_words import Bag, batch_words, corpus_words, frequent_words, known_rows
from engine.vocab import Vocabulary

if TYPE_CHECKING:
    from engine.embed.eager import Preprocessed
    from engine.training import Checkpoints

SCORED = 256
"""Pictures whose maps are unfolded at a time."""


class MsCnnRecipe(GradientRecipe):
    """Settings of Niu et al. 2017, Multi-Modal Multi-Scale Deep Learning for Large-Scale Image
    Annotation, and where this differs from the paper.

    The six variants of its Table I: CNN is scales = 'last', tags = false, quantity = false; MS-CNN
    is scales = 'all'; each +Tags is tags = true, each +LQP is quantity = true.

    The maps are averages over a few places, see `engine.embed.maps`, each channel with the mean 0
    and the variance 1 over the training pictures; the classifiers begin with the log-odds of the
    tags; batches are normalised over all the ranks. A picture without known social tags is judged
    by a branch of its own: classifier and regressor on the visual vector alone, learned on all the
    pictures as the variant without tags has them.

    Attributes:
        backbone: whose stages are read.
        train: 'head' leaves the backbone as it is, on maps that are computed once, with the
            embedding; 'all' tunes it on pixels first, and the annotator carries a network of its
            own.
        scales: 'last' is the plain CNN, 'all' fuses them from low to high.
        tags: whether social tags are read; 'auto' is if there are any.
        quantity: whether the number of tags is predicted.
        grid: side of the last scale's maps; that of each scale before it is twice the next one's.
        words: so many of the most frequent social words are in a picture's bag.
        min_count: if so many training pictures have them.
        hidden: units of the first layer over these; the second has as many as the visual vector,
            which are the paper's 2,048 with its ResNet-101.
        old_layers: factor of the learning rate of the layers that were there before, for 'all'.
        flips: half the pictures of an epoch are mirrored, for 'all'.
        tuning: of the backbone, for 'all': stage 1 of Algorithm 1.
        optimisation: of the visual part: stage 2, and 1 of a backbone that stays as it is.
        textual: of the textual part: stage 3.
        joint: of the classifiers on the vectors of both: stage 4.
        regressor: of the number of tags: stage 4. Its `social`, `words`, `min_count` and
            `shrinkage` are of no account here.
    """

    kind: Literal["ms-cnn"] = "ms-cnn"
    backbone: str = "efficientnet-lite2"
    train: Literal["head", "all"] = "head"
    scales: Literal["last", "all"] = "all"
    tags: bool | Literal["auto"] = "auto"
    quantity: bool = True
    grid: Annotated[int, Field(ge=1, le=7)] = 1
    words: PositiveInt = 1000
    min_count: PositiveInt = 2
    hidden: PositiveInt = 2048
    old_layers: NonNegativeFloat = 0.1
    flips: bool = True
    tuning: Optimisation = Optimisation(learning_rate=1e-3, weight_decay=0.01, epochs=5, batch=32)
    optimisation: Optimisation = Optimisation(learning_rate=1e-3, weight_decay=0.05, epochs=4)
    textual: Optimisation = Optimisation(learning_rate=1e-3, weight_decay=0.05, epochs=15, batch=32)
    joint: Optimisation = Optimisation(learning_rate=1e-3, weight_decay=0.05, epochs=8)
    regressor: QuantitySettings = QuantitySettings()

    @model_validator(mode="after")
    def _exposes_its_stages(self) -> "MsCnnRecipe":
        try:
            maps_backbone(self.backbone, self.grid)
        except BackboneError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def wants_pixels(self) -> bool:
        return self.train == "all"

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.train == "all" else (maps_column(self.backbone, self.grid),)

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "MsCnn":
        """Learn in the four stages of Algorithm 1, each of which is gone on with by itself.

        Raises:
            ConfigError: social tags are asked for, and there are none; or the corpus has neither
                the maps nor the pixels that are asked for.
            BackboneError: the backbone is to be tuned, and its weights cannot be had.
            TrainingError: a loss is no number.
        """
        bag, words_NW, known_M = self._words(corpus, group)
        lesson = Lesson(corpus.ids, corpus.labels_NV, _log_odds(corpus, group), group, checkpoints)
        spec = maps_backbone(self.backbone, self.grid)
        tuned, maps = None, corpus.columns.get(maps_column(self.backbone, self.grid))
        if self.train == "all":
            if corpus.pixels is None:
                raise _lacking("pixels", "with train = 'all' ", "set train to 'head'")
            tuned = tuned_backbone(
                spec, corpus.pixels, lesson, self.tuning, self.old_layers, self.flips
            )
            maps = own_maps(tuned.backbone, corpus.pixels)
        if maps is None:
            column = maps_column(self.backbone, self.grid)
            raise _lacking(f"the column '{column}'", "", "set train to 'all' and give it pixels")
        network = visual_part(
            maps, spec.grids, lesson, self.optimisation, self.scales == "all", tuned
        )
        weights = network.arrays()
        vectors_NC = np.concatenate(
            [visual_vectors(spec.grids.split(one), weights) for one in blocks(maps)]
        )
        quantity = self.regressor if self.quantity else None
        visual = branch(vectors_NC, lesson, self.joint, quantity, "visual")
        joint = None
        if len(bag):
            some = lesson.subset(known_M)
            width = spec.grids.channels[-1]
            layers = textual_part(words_NW[known_M], some, self.textual, self.hidden, width)
            weights |= layers.arrays()
            both_MD = np.concatenate(
                [vectors_NC[known_M], textual_vectors(words_NW[known_M], weights)], axis=1
            )
            joint = branch(both_MD, some, self.joint, quantity, "joint")
        own = None if tuned is None else tuned.backbone
        return MsCnn(self.backbone, self.grid, own, bag, weights, visual, joint, vocabulary.digest)

    def _words(
        self, corpus: Corpus, group: Group
    ) -> tuple[Bag, sparse.csr_matrix, NDArray[np.int64]]:
        """The bag of words, the pictures' bags [N, W], and which pictures have a word of it."""
        lists = [()] * len(corpus) if self.tags is False else corpus_words(corpus)
        bag = Bag(frequent_words(lists, self.words, self.min_count, group))
        if self.tags is True and not len(bag):
            raise ConfigError(
                "an annotator of kind 'ms-cnn' with tags = true learns from `social_tags`, but no "
                "picture of the corpus to learn from has any that "
                f"{self.min_count} pictures have; add them to the corpus, or set tags to 'auto'"
            )
        words_NW = bag.encode(lists)
        return bag, words_NW, np.flatnonzero(known_rows(words_NW))


def _lacking(what: str, how: str, instead: str) -> ConfigError:
    return ConfigError(
        f"an annotator of kind 'ms-cnn' {how}learns from {what}, which this corpus is without; "
        f"embed the corpus with this annotator in the configuration, or {instead}"
    )


def _log_odds(corpus: Corpus, group: Group) -> NDArray[np.float32]:
    carriers_V = group.sum(np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel())
    pictures = float(group.sum(np.array([float(len(corpus))]))[0])
    odds_V: NDArray[np.float32] = logit((carriers_V + 0.5) / (pictures + 1)).astype(np.float32)
    return odds_V


class MsCnn(Annotator):
    """sigmoid of what the visual vector, and the textual one beside it if there is one, say."""

    kind = "ms-cnn"

    def __init__(
        self,
        backbone: str,
        grid: int,
        own: "Preprocessed | None",
        bag: Bag,
        weights: Arrays,
        visual: Branch,
        joint: Branch | None,
        vocabulary_digest: str,
    ) -> None:
        self.backbone = backbone
        self.grid = grid
        self.grids = maps_backbone(backbone, grid).grids
        self.own = own
        self.bag = bag
        self.weights = weights
        self.visual = visual
        self.joint = joint
        self.vocabulary_digest = vocabulary_digest
        source = schema.PIXELS if own is not None else maps_column(backbone, grid)
        self.reads = (source,) if joint is None else (source, schema.SOCIAL_TAGS)

    def score(self, batch: pa.Table) -> Verdict:
        scores_BV = np.empty((len(batch), len(self.visual.bias_V)), dtype=np.float32)
        quantity_B = np.empty(len(batch), dtype=np.float32)
        for start in range(0, len(batch), SCORED):
            part = batch.slice(start, SCORED)
            rows = slice(start, start + len(part))
            vectors_BC = visual_vectors(self.grids.split(self._maps(part)), self.weights)
            scores_BV[rows], quantity_B[rows] = _said(self.visual, vectors_BC)
            if self.joint is not None:
                words_BW = self.bag.encode(batch_words(part))
                known_K = np.flatnonzero(known_rows(words_BW))
                textual_KC = textual_vectors(words_BW[known_K], self.weights)
                both_KD = np.concatenate([vectors_BC[known_K], textual_KC], axis=1)
                scores_BV[start + known_K], quantity_B[start + known_K] = _said(self.joint, both_KD)
        return Verdict(scores_BV, quantity_B=quantity_B if self.visual.regressor else None)

    def _maps(self, batch: pa.Table) -> NDArray[np.float32]:
        """float32 [B, M], as exact as those that were learned from."""
        if self.own is None:
            return schema.float_tensor(batch, self.reads[0])
        from engine.embed.staged import maps_of

        pixels_BHWC = schema.tensor_values(batch, schema.PIXELS).astype(np.uint8, copy=False)
        return stored(maps_of(self.own, pixels_BHWC)).astype(np.float32)

    def save(self, folder: Path) -> None:
        arrays = {**self.weights, **self.visual.arrays("visual")}
        if self.joint is not None:
            arrays |= self.joint.arrays("joint")
        save_file(arrays, folder / "ms_cnn.safetensors")
        if self.own is not None:
            from engine.embed.staged import save_network

            save_network(self.own, folder / "network.safetensors")
        content = {
            "vocabulary": self.vocabulary_digest,
            "reads": self.reads,
            "backbone": self.backbone,
            "grid": self.grid,
            "words": self.bag.words,
        }
        text = json.dumps(content, ensure_ascii=False)
        (folder / "ms_cnn.json").write_text(text, encoding="utf-8")

    @classmethod
    def reads_of(cls, folder: Path) -> tuple[str, ...]:
        return tuple(json.loads((folder / "ms_cnn.json").read_text(encoding="utf-8"))["reads"])

    @classmethod
    def load(cls, folder: Path) -> "MsCnn":
        content = json.loads((folder / "ms_cnn.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "ms_cnn.safetensors")
        own = None
        if schema.PIXELS in content["reads"]:
            from engine.embed.staged import load_network

            spec = maps_backbone(content["backbone"], content["grid"])
            own = load_network(spec, folder / "network.safetensors")
        return cls(
            content["backbone"],
            content["grid"],
            own,
            Bag(tuple(content["words"])),
            {name: one for name, one in arrays.items() if "/" not in name},
            Branch.from_arrays(arrays, "visual"),
            Branch.from_arrays(arrays, "joint") if content["words"] else None,
            content["vocabulary"],
        )


def _said(
    branch: Branch, vectors_BD: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores [B, V] and numbers of tags [B] of a branch; 0 where it says no number."""
    scores_BV: NDArray[np.float32] = expit(vectors_BD @ branch.weights_DV + branch.bias_V)
    if branch.regressor is None:
        return scores_BV, np.zeros(len(vectors_BD), dtype=np.float32)
    return scores_BV, branch.regressor(vectors_BD)
