"""Where training pictures lie in the CCA space, and how a query meets them there."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from scipy import sparse

from engine.cca_space import ImageProjection, Space, SpaceRecipe, TagProjection
from engine.corpus import Corpus
from engine.group import Group
from engine.index import FaissIndex, IndexWish, Kind, ShardedIndex, memory_size
from engine.indexing import ProjectedCorpus, index_corpus

F = TypeVar("F", np.float32, np.float64)

Match = Literal["image", "text", "both"]
"""By what training pictures are met: what they show (U), their tags (V), or both."""


class SearchRecipe(SpaceRecipe):
    """Settings of the space and of the index in which training pictures are looked for.

    Attributes:
        match: 'image' compares T with the training pictures' visual projections U, 'text' with
            their projected tags V, which is the paper's way; 'both' with both.
        text_share: what V counts in 'both': the similarity is (1 - share) · that of U + share ·
            that of V.
        index: which kind of index; 'auto' chooses by number of pictures, width and memory, see
            `engine.index.choose_plan`.
        max_index_memory: bytes, or a size such as '512MB', that the index never exceeds, neither
            when it is searched nor while it is built; None: no limit.
        shard_memory: bytes, or a size, that a shard of the index may take: the index is built and
            saved in shards, which are searched merged or apart; None: it is one piece.
    """

    match: Match = "image"
    text_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    index: Literal["auto"] | Kind = "auto"
    max_index_memory: Annotated[PositiveInt | None, BeforeValidator(memory_size)] = None
    shard_memory: Annotated[PositiveInt | None, BeforeValidator(memory_size)] = None

    @model_validator(mode="after")
    def _no_graph_in_shards(self) -> Self:
        if self.index == "hnsw" and self.shard_memory is not None:
            raise ValueError(
                "a graph ('hnsw') cannot be divided into shards; choose another index, or leave "
                "shard_memory out"
            )
        return self

    def build_index(
        self, corpus: Corpus, placement: "Placement", nearest: int, group: Group
    ) -> FaissIndex | ShardedIndex:
        """Index the training pictures of all ranks, in the order of the ranks.

        Args:
            nearest: of which most must be found.

        Raises:
            ConfigError: no index fits the memory budget, or no shard its own.
        """
        placed = ProjectedCorpus(corpus, placement, placement.width)
        wish = IndexWish(
            self.index, self.max_index_memory, nearest=nearest, shard_bytes=self.shard_memory
        )
        return index_corpus(placed, wish, group)


@dataclass(frozen=True)
class Placement:
    """Vectors whose inner products are the similarities of queries and training pictures.

    The similarity is (1 - text_share) · corr(T, U) + text_share · corr(T, V), with T the query,
    U and V a training picture's two projections (Murthy et al. 2015, section 3.4, has V alone).

    Attributes:
        tags: None: training pictures are met by what they show alone.
        text_share: what V counts, from 0 to 1; 1 where V alone counts.
    """

    images: ImageProjection
    tags: TagProjection | None = None
    text_share: float = 0.0

    @classmethod
    def of(cls, space: Space, match: Match, text_share: float = 0.0) -> "Placement":
        """By what a recipe names; `text_share` is for 'both' alone."""
        if match == "image":
            return cls(space.images)
        return cls(space.images, space.tags, 1.0 if match == "text" else text_share)

    @property
    def width(self) -> int:
        """Of the vectors."""
        sides = 2 if self.tags is not None and self.text_share < 1 else 1
        return sides * self.images.width

    def __call__(
        self, x_BD: NDArray[np.float32], labels_BV: sparse.csr_matrix
    ) -> NDArray[np.float32]:
        """Place training pictures by their embeddings and tags: float32 [B, width]."""
        if self.tags is None:
            return self.images(x_BD)
        text_BL = self.tags(labels_BV)
        return text_BL if self.text_share == 1 else self._beside(self.images(x_BD), text_BL)

    def query(self, x_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """Place pictures that are to be annotated: float32 [B, width]."""
        return self._met(self.images(x_BD))

    def query_in_float64(self, x_BD: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same in float64, which other pictures in the batch change by 1e-15 at most."""
        return self._met(self.images.in_float64(x_BD))

    def _met(self, query_BL: NDArray[F]) -> NDArray[F]:
        """The same T is held against U and against V."""
        if self.tags is None or self.text_share == 1:
            return query_BL
        return self._beside(query_BL, query_BL)

    def corpus(self, corpus: Corpus) -> NDArray[np.float32]:
        """Place this rank's pictures: float32 [N, width]."""
        return np.concatenate([self(x_BD, labels_BV) for x_BD, labels_BV in corpus.blocks()])

    def _beside(self, image_BL: NDArray[F], text_BL: NDArray[F]) -> NDArray[F]:
        """One vector of both sides, so that inner products blend."""
        shares = np.sqrt([1 - self.text_share, self.text_share]).astype(image_BL.dtype)
        return np.hstack([shares[0] * image_BL, shares[1] * text_BL])

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a safetensors file needs of it; levels and share are not among it."""
        return self.images.arrays() | ({} if self.tags is None else self.tags.arrays())

    @classmethod
    def from_arrays(
        cls,
        arrays: dict[str, NDArray[np.generic]],
        levels: tuple[int, ...],
        match: Match,
        text_share: float,
    ) -> "Placement":
        """The placement that `arrays` gave, to the bit."""
        images = ImageProjection.from_arrays(arrays, levels)
        if match == "image":
            return cls(images)
        tags = TagProjection.from_arrays(arrays)
        return cls(images, tags, 1.0 if match == "text" else text_share)
