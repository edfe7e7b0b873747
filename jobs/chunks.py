"""Chunks: the unit of reading, of writing and of resuming; one chunk in is one Parquet file out.

A chunk's name says where it lies in the input, so whoever works on it, and however often, writes
the same file. That is how a killed job goes on with every row once, without keeping ids in memory.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

Form = Literal["listing", "parquet", "tar"]


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of one shard.

    Attributes:
        name: unique in a job, the same in every run.
        form: how the shard is read.
        shard: path or URL of the shard.
        start: first row; for a tar, the byte at which its first member begins.
        rows: how many rows.
        label: what rows without an id of their own are called by, with their number.
        duplicates: rows (0 is the chunk's first) whose id an earlier row of the job has.
        digest: of what the listing says of these rows; another one means a changed input.
    """

    name: str
    form: Form
    shard: str
    start: int
    rows: int
    label: str = ""
    duplicates: tuple[int, ...] = ()
    digest: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Chunk":
        content = json.loads(text)
        content["duplicates"] = tuple(content["duplicates"])
        return cls(**content)


@dataclass(frozen=True)
class Totals:
    """What is known of an input once it is listed to its end.

    Attributes:
        fingerprint: of the input's state.
        ignored: files of the input that hold no picture and no tags.
    """

    rows: int
    fingerprint: str
    ignored: int = 0


@dataclass(frozen=True)
class Inventory:
    """What a job will read, listed whole: its chunks in order, and a fingerprint of its state.

    Attributes:
        ignored: files of the input that hold no picture and no tags.
    """

    chunks: tuple[Chunk, ...]
    rows: int
    fingerprint: str
    ignored: int = 0


LEAST = 64
"""Rows of a job's first chunks, so that its first results come early and few rows are shared out
well among workers."""

_STEP, _OFTEN = 64, 8192


def rows_of_chunk(number: int) -> int:
    """Rows of a job's chunk by its number, where the input does not itself come in other pieces.

    They grow with what is listed, not with the whole, which nobody knows yet: 64 rows 64 times,
    then twice as many as often, up to 1,024; from the 8,192nd chunk on up to 16,384, so that a
    billion pictures make some 90,000 files.
    """
    size = LEAST << min(number // _STEP, 4)
    return size << min(number // _OFTEN, 4)


def chunk_runs(rows: int) -> list[tuple[int, int]]:
    """The chunks of an input of so many rows in one piece, as (rows of a chunk, how many)."""
    runs: list[tuple[int, int]] = []
    number = 0
    while rows:
        size = min(rows_of_chunk(number), rows)
        # Sizes change where steps end, and the last chunk may be smaller.
        count = min(_STEP - number % _STEP, rows // size)
        if runs and runs[-1][0] == size:
            runs[-1] = (size, runs[-1][1] + count)
        else:
            runs.append((size, count))
        number += count
        rows -= size * count
    return runs


def first_bounds(size: int) -> list[int]:
    """Rows at which a job's first chunk is divided, so that its first results come early."""
    bounds = []
    bound = LEAST
    while bound < size:
        bounds.append(bound)
        bound *= 2
    return bounds
