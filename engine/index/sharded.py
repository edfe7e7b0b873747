"""An index in shards: whoever holds these, here or elsewhere, the same neighbours are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from engine.index.choice import Kind
from engine.index.entry import IndexEntry
from engine.index.exact import Found
from engine.index.faiss_index import FaissIndex
from engine.index.shortlist import Shortlist, joined

F = TypeVar("F", np.float32, np.float64)


class ShardMap(BaseModel):
    """How an index is divided: shard 0 has its first rows, the last shard its last.

    Attributes:
        rows: in each shard.
        bytes: of memory that each takes.
        factor: how many times the neighbours asked for are ranked anew; 0: none are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    rows: tuple[int, ...]
    bytes: tuple[int, ...]
    factor: int = 0

    @cached_property
    def first(self) -> tuple[int, ...]:
        """The row of the index that each shard begins with."""
        return (0, *accumulate(self.rows[:-1]))


class Shards(Protocol):
    """All the shards of an index, wherever they are; each is asked once for a batch of queries."""

    def shortlists(self, queries_BL: NDArray[np.float32], most: int) -> Sequence[Shortlist]:
        """Of one or several shards each, the `most` candidates, with rows of the whole index."""
        ...

    def similarities(self, queries_BL: NDArray[F]) -> Sequence[NDArray[F]]:
        """The inner products with the vectors of the shards, in their order; of flat indexes."""
        ...


@dataclass(frozen=True)
class LocalShards:
    """Shards in this process, or some neighbouring ones of an index.

    Attributes:
        first: the row of the index that each of them begins with.
    """

    indexes: tuple[FaissIndex, ...]
    first: tuple[int, ...]

    def shortlists(self, queries_BL: NDArray[np.float32], most: int) -> list[Shortlist]:
        """See `Shards`."""
        return [
            index.shortlist(queries_BL, most).moved(first)
            for index, first in zip(self.indexes, self.first, strict=True)
        ]

    def similarities(self, queries_BL: NDArray[F]) -> list[NDArray[F]]:
        """See `Shards`."""
        return [index.similarities(queries_BL) for index in self.indexes]


class ShardedIndex:
    """An immutable index whose shards answer together as the merged index would.

    Attributes:
        map: how it is divided, whether or not `shards` has merged it.
        entry: what is known of how it was built; None once loaded: the manifest has it then.
    """

    def __init__(
        self, shard_map: ShardMap, shards: Shards, entry: IndexEntry | None = None
    ) -> None:
        self.map = shard_map
        self.shards = shards
        self.entry = entry

    def __len__(self) -> int:
        return sum(self.map.rows)

    @property
    def kind(self) -> Kind:
        """Which of FAISS's kinds its shards are."""
        return self.map.kind

    @property
    def is_lossless(self) -> bool:
        """See `FaissIndex.is_lossless`."""
        return self.kind != "ivf-pq"

    @property
    def bytes(self) -> int:
        """Of memory that all the shards take."""
        return sum(self.map.bytes)

    def search(self, queries_BL: NDArray[np.float32], nearest: int) -> Found:
        """See `Index.search`; of equally near vectors those in smaller rows come first."""
        wanted = min(nearest, len(self))
        pool = min(wanted * max(1, self.map.factor), len(self))
        return joined(self.shards.shortlists(queries_BL, pool), pool).best(wanted)

    def similarities(self, queries_BL: NDArray[F]) -> NDArray[F]:
        """See `FaissIndex.similarities`."""
        return np.concatenate(self.shards.similarities(queries_BL), axis=1)

    def whole(self) -> FaissIndex:
        """The merged index, which must be in this process."""
        assert isinstance(self.shards, LocalShards), "its shards are elsewhere"
        (index,) = self.shards.indexes
        return index
