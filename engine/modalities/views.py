"""The views of a picture that modalities look at: hand-crafted features, embedding and pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.features import FEATURES, feature_slices
from engine.group import Group
from engine.modalities.settings import EMBEDDING, PIXELS
from engine.numerics.levels import normalised_levels

Views = Mapping[str, NDArray[np.generic]]
"""Of B pictures by name: float32 [B, D], or uint8 squares [B, S, S, 3] for 'pixels'."""


@dataclass(frozen=True)
class Scale:
    """What makes the embedding's normalised levels of zero mean and unit variance.

    Attributes:
        mean_D, factor_D: float32.
    """

    mean_D: NDArray[np.float32]
    factor_D: NDArray[np.float32]

    @classmethod
    def learn(cls, corpus: Corpus, group: Group) -> "Scale":
        """Over the pictures of all the ranks; a feature that never changes becomes 0."""
        width = corpus.embeddings_ND.shape[1]
        count, sum_D, square_D = float(len(corpus)), np.zeros(width), np.zeros(width)
        for block_BD, _ in corpus.blocks():
            x_BD = normalised_levels(block_BD, corpus.levels).astype(np.float64)
            sum_D += x_BD.sum(0)
            square_D += np.square(x_BD).sum(0)
        pictures = group.sum(np.array([count]))[0]
        mean_D = group.sum(sum_D) / pictures
        variance_D = np.maximum(group.sum(square_D) / pictures - mean_D**2, 0)
        least = 1e-6 * max(float(variance_D.mean()), 1e-12)
        factor_D = np.where(variance_D > least, 1 / np.sqrt(variance_D + least), 0)
        return cls(mean_D.astype(np.float32), factor_D.astype(np.float32))

    def __call__(
        self, embeddings_BD: NDArray[np.float32], levels: Sequence[int]
    ) -> NDArray[np.float32]:
        """Scale a batch's embeddings [B, D]."""
        scaled_BD: NDArray[np.float32] = (
            normalised_levels(embeddings_BD, levels) - self.mean_D
        ) * self.factor_D
        return scaled_BD


class CorpusViews:
    """The views `names` of a corpus's pictures, read as they are asked for.

    Raises:
        ConfigError: the corpus has no such view.
    """

    def __init__(self, corpus: Corpus, names: Sequence[str], scale: Scale | None) -> None:
        self.corpus = corpus
        self.names = tuple(names)
        self.scale = scale
        features = set(names) & set(FEATURES)
        if features and schema.FEATURES not in corpus.columns:
            raise ConfigError(
                f"modalities of {', '.join(sorted(features))} learn from the column "
                f"'{schema.FEATURES}', and this corpus has none; give the corpus its features, or "
                "leave these modalities out (features = [])"
            )
        if PIXELS in names and corpus.pixels is None:
            raise ConfigError(
                "the modalities of 'pixels' learn from pixels, and this corpus holds embeddings "
                "alone; give the corpus its pixels, or set pixels to false"
            )

    def only(self, names: Sequence[str]) -> "CorpusViews":
        """Some of the views."""
        return CorpusViews(self.corpus, names, self.scale)

    def take(self, rows_B: NDArray[np.int64]) -> Views:
        """Of some of this rank's pictures."""
        found: dict[str, NDArray[np.generic]] = {}
        if EMBEDDING in self.names:
            assert self.scale is not None
            embeddings_BD = np.asarray(self.corpus.embeddings_ND[rows_B])
            found[EMBEDDING] = self.scale(embeddings_BD, self.corpus.levels)
        if PIXELS in self.names:
            assert self.corpus.pixels is not None
            found[PIXELS] = self.corpus.pixels.take(rows_B)
        if set(self.names) - found.keys():
            side_by_side_BD = self.corpus.columns[schema.FEATURES].take(rows_B)
            found |= _parted(side_by_side_BD, self.names)
        return {name: found[name] for name in self.names}


def batch_views(
    batch: pa.Table, names: Sequence[str], levels: Sequence[int], scale: Scale | None
) -> Views:
    """The views `names` of a batch's pictures."""
    found: dict[str, NDArray[np.generic]] = {}
    if EMBEDDING in names:
        assert scale is not None
        found[EMBEDDING] = scale(schema.float_tensor(batch, schema.EMBEDDING), levels)
    if PIXELS in names:
        found[PIXELS] = schema.tensor_values(batch, schema.PIXELS).astype(np.uint8, copy=False)
    if set(names) - found.keys():
        found |= _parted(schema.tensor_values(batch, schema.FEATURES), names)
    return {name: found[name] for name in names}


def _parted(
    side_by_side_BD: NDArray[np.generic], names: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    places = feature_slices()
    return {
        name: np.ascontiguousarray(side_by_side_BD[:, places[name]], dtype=np.float32)
        for name in names
        if name in places
    }
