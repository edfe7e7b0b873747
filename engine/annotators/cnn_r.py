"""CNN-R: a network whose last layer regresses the mean word vector of a picture's tags."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.group import Group
from engine.numerics.levels import normalised_levels
from engine.numerics.text_view import TextSpace
from engine.numerics.whitening import Whitening
from engine.optimisation import Optimisation
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.regression import Head, Tuned
from engine.vocab import Vocabulary
from engine.whitened import Scale
from engine.words import TagVectors, word_vector_source

if TYPE_CHECKING:
    import torch

    from engine.training import Batch, Checkpoints


TEMPERATURE = np.float32(0.1)
"""Cosines are divided by it before the sigmoid: a monotone way into [0, 1]."""


class CnnRRecipe(GradientRecipe):
    """Settings of Murthy et al. 2015, section 3.5, and where this differs from the paper.

    It names tags that no picture to learn from carries, if their word vectors are known: let the
    vocabulary hold them (`vocabulary.more_tags`).

    Attributes:
        train: 'head' learns the new layer alone, on the embedding of the frozen backbone; 'all'
            learns every layer from the pixels, and the annotator carries a network of its own.
        tag_vectors: see `engine.words`.
        decorrelate: shrinkage of a whitening of the mean word vectors, in units of their mean
            variance: the L2 loss then counts rare differences of meaning more. 'no' is the paper's
            way. The mean word vector of the corpus is taken off in either.
        prior: what a tag's log frequency adds to its cosine. 0 is the paper's way, and better where
            every word counts the same, or where tags that were never seen are to be named; more is
            better where every picture counts the same.
        shrinkage: of the whitening of the embedding, for 'head'.
        old_layers: factor of the learning rate of the layers that were there before, for 'all';
            the paper gives the new layer the larger rate.
        flips: half the pictures of an epoch are mirrored, for 'all'.
        optimisation: of the loop; `optimisation.learning_rate` is the new layer's.
    """

    kind: Literal["cnn-r"] = "cnn-r"
    train: Literal["head", "all"] = "head"
    tag_vectors: str = "minilm"
    decorrelate: PositiveFloat | Literal["no"] = 3.0
    prior: NonNegativeFloat = 0.1
    shrinkage: PositiveFloat = 1.0
    old_layers: NonNegativeFloat = 0.1
    flips: bool = True
    optimisation: Optimisation = Field(
        default=Optimisation(learning_rate=1e-3, weight_decay=0.01, epochs=10, batch=64)
    )

    @property
    def wants_pixels(self) -> bool:
        return self.train == "all"

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "CnnR":
        """Learn from the pictures that have a tag with a word vector.

        Raises:
            ConfigError: 'all' is asked for, and the corpus has no pixels; or the word vectors
                cannot be had.
            CorpusError: no picture has a tag that the word vectors know.
            TrainingError: the loss is no number.
        """
        words = word_vector_source(self.tag_vectors).embed(vocabulary.tags)
        decorrelate = None if self.decorrelate == "no" else self.decorrelate
        text = TextSpace.learn(
            corpus.labels_NV, words.vectors_VE, words.known_V, decorrelate, group
        )
        rows_M = np.flatnonzero(text.taught_N)
        targets_ME = text.targets_NE[rows_M]
        pictures = group.sum(np.array([float(len(corpus)), float(len(rows_M))]))
        notes = _notes(self.tag_vectors, words, vocabulary, int(pictures[0] - pictures[1]))
        learn = self._learn_all if self.train == "all" else self._learn_head
        return CnnR(
            learn(corpus, rows_M, targets_ME, group, checkpoints),
            text.tags_VE,
            self.prior * _log_frequency(corpus, group),
            vocabulary.digest,
            notes,
        )

    def _learn_head(
        self,
        corpus: Corpus,
        rows_M: NDArray[np.int64],
        targets_ME: NDArray[np.float32],
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> Head:
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch
        from torch import nn

        from engine.training import train

        blocks = (normalised_levels(x_BD, corpus.levels) for x_BD, _ in corpus.blocks())
        width = corpus.embeddings_ND.shape[1]
        whitening = Whitening.learn(blocks, width, self.shrinkage, group)
        features_ND = np.concatenate(
            [whitening(normalised_levels(x_BD, corpus.levels)) for x_BD, _ in corpus.blocks()]
        )
        inputs, targets = torch.from_numpy(features_ND[rows_M]), torch.from_numpy(targets_ME)
        layer = nn.Linear(width, targets_ME.shape[1])
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)

        def loss(network: nn.Module, batch: "Batch") -> torch.Tensor:
            found_BE = network(inputs[batch.rows_B].to(batch.device))
            return _squares(found_BE, targets[batch.rows_B].to(batch.device))

        ids = [corpus.ids[row] for row in rows_M]
        train(layer, loss, ids, self.optimisation, group, checkpoints=checkpoints)
        # Whitening becomes part of the weights.
        weights_DE = whitening.weights_DD @ layer.weight.detach().numpy().T.astype(np.float64)
        bias_E = layer.bias.detach().numpy() - whitening.mean_D @ weights_DE
        return Head(
            corpus.levels,
            np.ascontiguousarray(weights_DE, dtype=np.float32),
            bias_E.astype(np.float32),
        )

    def _learn_all(
        self,
        corpus: Corpus,
        rows_M: NDArray[np.int64],
        targets_ME: NDArray[np.float32],
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> Tuned:
        import torch
        from torch import nn

        from engine.embed.tuned import new_regressor
        from engine.training import train

        pixels = corpus.pixels
        if pixels is None:
            raise ConfigError(
                "an annotator of kind 'cnn-r' with train = 'all' learns from pixels, and this "
                "corpus holds embeddings alone; give the corpus its pixels, or set train to 'head'"
            )
        scale = Scale.learn(corpus, group)
        network = new_regressor(
            pixels.backbone, targets_ME.shape[1], scale.mean_D, scale.deviation_D
        )
        targets = torch.from_numpy(targets_ME)

        def loss(network: nn.Module, batch: "Batch") -> torch.Tensor:
            squares_BHWC = pixels.take(rows_M[batch.rows_B]).copy()
            if self.flips:
                is_flipped_B = batch.draws_B < 0.5
                squares_BHWC[is_flipped_B] = squares_BHWC[is_flipped_B, :, ::-1]
            found_BE = network(torch.from_numpy(squares_BHWC).to(batch.device))
            return _squares(found_BE, targets[batch.rows_B].to(batch.device))

        def rate(name: str) -> float:
            return 1.0 if name.startswith("head.") else self.old_layers

        ids = [corpus.ids[row] for row in rows_M]
        train(network, loss, ids, self.optimisation, group, rate=rate, checkpoints=checkpoints)
        return Tuned(pixels.backbone, network)


def _squares(found_BE: "torch.Tensor", targets_BE: "torch.Tensor") -> "torch.Tensor":
    """The Euclidean loss of section 3.5: half the squared distance, summed over the pictures."""
    return (found_BE.float() - targets_BE).square().sum() / 2


def _log_frequency(corpus: Corpus, group: Group) -> NDArray[np.float32]:
    """Of each tag, float32 [V]; a tag of no picture is taken to be as frequent as the mean."""
    carriers_V = group.sum(np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel())
    count = float(group.sum(np.array([float(len(corpus))]))[0])
    carriers_V[carriers_V == 0] = carriers_V[carriers_V > 0].mean()
    logs_V: NDArray[np.float32] = np.log(carriers_V / count).astype(np.float32)
    return logs_V


def _notes(
    source: str, words: TagVectors, vocabulary: Vocabulary, left_out: int
) -> tuple[str, ...]:
    unknown = [tag for tag, known in zip(vocabulary.tags, words.known_V, strict=True) if not known]
    notes = []
    if unknown:
        shown = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        notes.append(
            f"{len(unknown)} tags have no vector in '{source}' ({shown}); cnn-r never gives them"
        )
    if left_out:
        notes.append(
            f"cnn-r left {left_out:,} pictures out, none of whose tags has a vector in '{source}'"
        )
    return tuple(notes)


class CnnR(Annotator):
    """Tags by the cosine of their word vectors to the one that the picture calls for.

    The score is sigmoid((cosine + offset of the tag) / 0.1). A tag without a word vector has the
    score 0.
    """

    kind = "cnn-r"

    def __init__(
        self,
        regression: Head | Tuned,
        tags_VE: NDArray[np.float32],
        offsets_V: NDArray[np.float32],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.regression = regression
        self.reads = regression.reads
        self.tags_VE = tags_VE
        self.offsets_V = offsets_V
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes

    def score(self, batch: pa.Table) -> Verdict:
        found_BE = self.regression.predict(batch)
        lengths_B1 = np.linalg.norm(found_BE, axis=1, keepdims=True)
        cosines_BV = (found_BE / np.maximum(lengths_B1, 1e-12)) @ self.tags_VE.T
        scores_BV = expit((cosines_BV + self.offsets_V) / TEMPERATURE)
        scores_BV[:, ~self.tags_VE.any(axis=1)] = 0
        return Verdict(scores_BV)

    def save(self, folder: Path) -> None:
        arrays = {"tags": self.tags_VE, "offsets": self.offsets_V}
        save_file(arrays, folder / "tags.safetensors")
        content = {
            "vocabulary": self.vocabulary_digest,
            "reads": self.reads,
            **self.regression.save(folder),
        }
        (folder / "cnn_r.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def reads_of(cls, folder: Path) -> tuple[str, ...]:
        return tuple(json.loads((folder / "cnn_r.json").read_text(encoding="utf-8"))["reads"])

    @classmethod
    def load(cls, folder: Path) -> "CnnR":
        content = json.loads((folder / "cnn_r.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "tags.safetensors")
        regression: Head | Tuned
        if "backbone" in content:
            regression = Tuned.load(folder, content["backbone"], content["outputs"])
        else:
            regression = Head.load(folder, tuple(content["levels"]))
        return cls(regression, arrays["tags"], arrays["offsets"], content["vocabulary"])
