"""Chunks: the unit of reading, of writing and of resuming; one chunk in is one Parquet file out.

A chunk's name says where it lies in the input, so whoever works on it, and however often, writes
the same file. That is how a killed job goes on with every row once, without keeping ids in memory.
"""

import json
from dataclasses import asdict, dataclass, replace
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
    """

    name: str
    form: Form
    shard: str
    start: int
    rows: int
    label: str = ""
    duplicates: tuple[int, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Chunk":
        content = json.loads(text)
        content["duplicates"] = tuple(content["duplicates"])
        return cls(**content)


@dataclass(frozen=True)
class Inventory:
    """What a job will read: its chunks in order, and a fingerprint of the input's state.

    Attributes:
        ignored: files of the input that hold no picture and no tags.
    """

    chunks: tuple[Chunk, ...]
    rows: int
    fingerprint: str
    ignored: int = 0

    def first(self, rows: int | None) -> "Inventory":
        """The first chunks, as many as hold `rows` rows; None: all of them."""
        if rows is None:
            return self
        chosen: list[Chunk] = []
        count = 0
        for chunk in self.chunks:
            if count >= rows:
                break
            chosen.append(chunk)
            count += chunk.rows
        return replace(self, chunks=tuple(chosen), rows=count)


LEAST = 64
"""Rows of a chunk, where the input does not itself come in smaller pieces."""


def rows_a_chunk(rows: int) -> int:
    """Small enough to share work out and to lose little; large enough to make few files."""
    return max(LEAST, min(1024, rows // 64), rows // 10_000)


def first_bounds(size: int) -> list[int]:
    """Rows at which a job's first chunk is divided, so that its first results come early."""
    bounds = []
    bound = LEAST
    while bound < size:
        bounds.append(bound)
        bound *= 2
    return bounds
