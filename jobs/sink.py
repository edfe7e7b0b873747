"""Writes a chunk's rows as one Parquet file, with the counts of what is in it in its footer."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from engine import schema
from jobs.chunks import Chunk
from jobs.store import Store
from jobs.work import Work

_COUNTS = b"tagloom.counts"
_DIGEST = b"tagloom.digest"
_RECEIPT = {
    "chunk": pa.string(),
    "rows": pa.int64(),
    "errors": pa.string(),
    "works": pa.list_(pa.string()),
}
_PREFIX, _SUFFIX = "part-", ".parquet"


@dataclass(frozen=True)
class Receipt:
    """What became of a chunk: rows, and how many of them failed by error code.

    Attributes:
        works: what the workers that it went through did, in order; a part's footer has none.
        digest: the chunk's own; only a part's footer has it.
    """

    chunk: str
    rows: int
    errors: Mapping[str, int]
    works: tuple[Work, ...] = field(default=(), compare=False)
    digest: str = field(default="", compare=False)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def to_table(self) -> pa.Table:
        """One row, as it travels from a worker to the driver."""
        columns = {
            "chunk": [self.chunk],
            "rows": [self.rows],
            "errors": [json.dumps(self.errors)],
            "works": [[work.to_json() for work in self.works]],
        }
        return pa.table(columns, pa.schema(_RECEIPT))

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> "Receipt":
        works = row["works"]
        assert isinstance(works, list)
        return cls(
            str(row["chunk"]),
            int(str(row["rows"])),
            json.loads(str(row["errors"])),
            tuple(Work.from_json(str(work)) for work in works),
        )


def part_name(chunk: str) -> str:
    """The file of a chunk."""
    return f"{_PREFIX}{chunk}{_SUFFIX}"


def write_part(store: Store, chunk: Chunk, table: pa.Table) -> Receipt:
    """Write a chunk's part, whole or not at all; a second writing replaces the first."""
    codes = table.column(schema.ERROR).drop_null().to_pylist()
    receipt = Receipt(chunk.name, table.num_rows, dict(sorted(Counter(codes).items())))
    footer = {_COUNTS: json.dumps(receipt.errors).encode(), _DIGEST: chunk.digest.encode()}
    metadata = {**(table.schema.metadata or {}), **footer}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    store.write(part_name(chunk.name), sink.getvalue())
    return receipt


def finished_parts(store: Store) -> Iterable[Receipt]:
    """Receipts of the parts that are in the store, read from their footers."""
    for name in store.names():
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            with store.open(name) as file:
                metadata = pq.read_metadata(file)
            footer = metadata.metadata or {}
            errors = json.loads(footer.get(_COUNTS, b"{}"))
            chunk, digest = name[len(_PREFIX) : -len(_SUFFIX)], footer.get(_DIGEST, b"").decode()
            yield Receipt(chunk, metadata.num_rows, errors, digest=digest)
