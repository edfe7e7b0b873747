"""A tagged corpus as annotators learn from it: ids, embeddings and tags, split by a stable hash."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.errors import CorpusError
from engine.numerics.moments import Mergeable, accumulated
from engine.tensors import Pixels, Tensors

BLOCK = 4096
"""Rows a block: big enough for BLAS, small enough for any memory."""

M = TypeVar("M", bound=Mergeable)
Measure = Callable[[NDArray[np.float32], sparse.csr_matrix], M]
"""Takes (embeddings [B, D], labels [B, V]) of a block, and may be sent to other processes."""


class Spread(Protocol):
    """Many workers that read a corpus where it lies, and add up what they find in its blocks."""

    def add_up(self, corpus: "Corpus", measure: Measure[M]) -> M:
        """Do what `Corpus.add_up` says, on the pictures of `corpus` and no others."""
        ...


@dataclass(frozen=True)
class Corpus:
    """N tagged pictures. The embeddings may be memory-mapped; `blocks` never copies them whole."""

    ids: tuple[str, ...]
    embeddings_ND: NDArray[np.float32]
    labels_NV: sparse.csr_matrix
    levels: tuple[int, ...]
    """Widths of the levels that the embedding consists of; they add up to D."""
    social_tags: tuple[tuple[str, ...], ...] | None = None
    """What users called each picture, as they wrote it; None where nothing of the kind is known."""
    spread: Spread | None = field(default=None, compare=False, repr=False)
    """Who adds up over the blocks, of which it reads the embeddings anew: a corpus that is made
    from this one with others must drop it. None: a loop in this process."""
    pixels: Pixels | None = None
    """What the backbone saw; kept only where an annotator learns from it."""
    places_NV: sparse.csr_matrix | None = None
    """Where each label stands in the list of its picture's tags, from 1 and without gaps, in the
    pattern of `labels_NV`; None where the order is not known."""
    columns: Mapping[str, Tensors] = field(default_factory=dict)
    """What else is known of each picture, by the column of a batch: what recipes ask for."""

    def __post_init__(self) -> None:
        if not len(self.ids) == self.embeddings_ND.shape[0] == self.labels_NV.shape[0]:
            raise CorpusError(
                f"{len(self.ids)} ids, {self.embeddings_ND.shape[0]} embeddings and "
                f"{self.labels_NV.shape[0]} tag rows do not belong to one corpus"
            )

        if self.social_tags is not None and len(self.social_tags) != len(self.ids):
            raise CorpusError(
                f"{len(self.ids)} ids and {len(self.social_tags)} lists of social tags do not "
                "belong to one corpus"
            )
        if self.pixels is not None and len(self.pixels) != len(self.ids):
            raise CorpusError(
                f"{len(self.ids)} ids and the pixels of {len(self.pixels)} pictures do not belong "
                "to one corpus"
            )
        for name, column in self.columns.items():
            if len(column) != len(self.ids):
                raise CorpusError(
                    f"{len(self.ids)} ids and {len(column)} rows of `{name}` do not belong to one "
                    "corpus"
                )
        if self.places_NV is not None and not _same_pattern(self.places_NV, self.labels_NV):
            raise CorpusError(
                f"{self.labels_NV.nnz} labels and the places of {self.places_NV.nnz} in the lists "
                "of tags do not belong to one corpus"
            )
        if not self.ids or not np.diff(self.labels_NV.indptr).all():
            raise CorpusError(
                "a corpus to learn from holds at least one picture, and each of them at least one "
                "tag of the vocabulary; leave the others out"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self, rows: int = BLOCK) -> Iterator[tuple[NDArray[np.float32], sparse.csr_matrix]]:
        """Yield (embeddings [B, D], labels [B, V]) block by block, in order."""
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            yield np.asarray(self.embeddings_ND[part]), self.labels_NV[part]

    def tag_lists(self) -> list[NDArray[np.int64]]:
        """Of each picture its tags as places on the V axis, in their given order.

        Where that is not known, in the order of the vocabulary: the most frequent first.
        """
        indices = np.split(self.labels_NV.indices.astype(np.int64), self.labels_NV.indptr[1:-1])
        if self.places_NV is None:
            return [np.sort(one) for one in indices]
        places = np.split(self.places_NV.data, self.places_NV.indptr[1:-1])
        return [one[np.argsort(place)] for one, place in zip(indices, places, strict=True)]

    def add_up(self, measure: Measure[M]) -> M:
        """The sum of what `measure` finds in each block, in one pass over the pictures.

        Who does it, and in which blocks, changes no more of it than rounding; the same corpus in
        the same place gives the same sum to the bit.
        """
        if self.spread is not None:
            return self.spread.add_up(self, measure)
        return accumulated(measure(*block) for block in self.blocks())

    def subset(self, rows_M: NDArray[np.int64]) -> "Corpus":
        """The pictures at `rows_M`, in that order."""
        ids = tuple(self.ids[row] for row in rows_M)
        social = self.social_tags
        return Corpus(
            ids,
            rows_of(self.embeddings_ND, rows_M),
            self.labels_NV[rows_M],
            self.levels,
            None if social is None else tuple(social[row] for row in rows_M),
            self.spread,
            None if self.pixels is None else self.pixels.subset(rows_M),
            None if self.places_NV is None else self.places_NV[rows_M],
            {name: column.subset(rows_M) for name, column in self.columns.items()},
        )


def _same_pattern(one_NV: sparse.csr_matrix, other_NV: sparse.csr_matrix) -> bool:
    return (
        one_NV.shape == other_NV.shape
        and np.array_equal(one_NV.indptr, other_NV.indptr)
        and np.array_equal(one_NV.indices, other_NV.indices)
    )


def rows_of(values_ND: NDArray[np.float32], rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows `rows_M` [M, D]: of a mapped file in another one beside it, never all in memory."""
    if not isinstance(values_ND, np.memmap) or values_ND.filename is None or not len(rows_M):
        return values_ND[rows_M]
    if len(rows_M) == len(values_ND) and (rows_M == np.arange(len(values_ND))).all():
        return values_ND
    shape = (len(rows_M), values_ND.shape[1])
    # Without a name, so that nothing stays behind when the last array that maps it is gone.
    with tempfile.TemporaryFile(dir=Path(values_ND.filename).parent) as file:
        chosen_MD = np.memmap(file, np.float32, "w+", shape=shape)
        # A file without a name has no place to put its own subsets; the first one's serves.
        chosen_MD.filename = values_ND.filename
        for start in range(0, len(rows_M), BLOCK):
            chosen_MD[start : start + BLOCK] = values_ND[rows_M[start : start + BLOCK]]
    return chosen_MD


def split_rows(
    ids: Sequence[str], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split pictures into (training rows, validation rows) by a hash of their ids.

    The order of the corpus does not matter, and as it grows only pictures at the border of the
    share change sides.
    The `round(fraction·N)` smallest hashes validate; at least one picture is on either side.
    """
    if len(ids) < 2:
        raise CorpusError(
            f"the corpus has {len(ids)} usable tagged picture(s); at least two are needed, one to "
            "learn from and one to validate on: add tagged pictures"
        )
    keys = [hashlib.sha256(f"{seed}:{image_id}".encode()).digest() for image_id in ids]
    order = np.array(sorted(range(len(ids)), key=keys.__getitem__), dtype=np.int64)
    held_out = min(max(1, round(fraction * len(ids))), len(ids) - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
