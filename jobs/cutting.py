"""Cuts a shard of an input into chunks, which begin where reading can begin."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.chunks import Chunk, Form, first_bounds, rows_of_chunk
from jobs.tars import SampleStart

MOST_PASSES = 16
"""A row group is never read from its start more often than this, whatever the chunk's size."""


@dataclass(frozen=True)
class Shard:
    """One shard with the ids of its rows and the rows at which a chunk may begin.

    Attributes:
        state: what changes when the shard does.
        row_states: what changes when what a row names does; empty where `state` says it all.
        is_distinct: no two rows can have the same id, nor one that another shard has.
    """

    form: Form
    path: str
    state: str
    ids: pa.Array
    label: str = ""
    row_groups: tuple[int, ...] = ()
    samples: tuple[SampleStart, ...] = ()
    row_states: Sequence[str] = ()
    is_distinct: bool = False

    def digest(self, start: int, stop: int) -> str:
        """Of what the listing says of some rows."""
        rows = "\n".join(self.row_states[start:stop])
        return hashlib.sha256(f"{self.state}\n{start}\n{stop}\n{rows}".encode()).hexdigest()[:32]


def cut(number: int, shard: Shard, before: int, duplicates: NDArray[np.int64]) -> Iterator[Chunk]:
    """A shard's chunks.

    Args:
        number: of the shard among the input's.
        before: chunks of the shards before it.
        duplicates: rows whose id an earlier row of the input has, ascending.
    """
    bounds = _bounds(shard, before)
    if number == 0 and len(bounds) > 1:
        bounds = sorted({*bounds, *first_bounds(bounds[1])})
    for place, (start, stop) in enumerate(pairwise(bounds)):
        first, last = np.searchsorted(duplicates, (start, stop))
        yield Chunk(
            f"{number:05d}-{place:05d}",
            shard.form,
            shard.path,
            shard.samples[start].offset if shard.samples else start,
            stop - start,
            shard.label,
            tuple((duplicates[first:last] - start).tolist()),
            shard.digest(start, stop),
        )


def _bounds(shard: Shard, before: int) -> list[int]:
    """Rows at which chunks begin, and the end.

    To begin within a row group means to read it from its start, so large ones are divided into
    `MOST_PASSES` at the most.
    """
    total = len(shard.ids)
    bounds = [0]

    def size() -> int:
        return rows_of_chunk(before + len(bounds) - 1)

    begin = 0
    for rows in shard.row_groups or (total,):
        least = -(-rows // MOST_PASSES) if shard.row_groups else 1
        bound = begin + max(size(), least)
        while bound < begin + rows:
            bounds.append(bound)
            bound += max(size(), least)
        begin += rows
        if begin - bounds[-1] >= size() or begin == total:
            bounds.append(begin)
    return [bound for place, bound in enumerate(bounds) if place == 0 or bound > bounds[place - 1]]
