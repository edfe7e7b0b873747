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


def rows_a_chunk(rows: int) -> int:
    """Small enough to share work out and to lose little; large enough to make few files."""
    return max(64, min(1024, rows // 64), rows // 10_000)
