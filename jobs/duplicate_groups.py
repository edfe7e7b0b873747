"""What `dedup` reads back of its parts, and what it says and writes: groups, and which to drop."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from engine import schema
from engine.duplicates import Contents, Groups, Pictures
from engine.embed import backbone
from engine.errors import CorpusError
from engine.fingerprint_stage import (
    BYTES_DIGEST,
    FINGERPRINT,
    HEIGHT,
    PERCEPTUAL,
    PIXELS_DIGEST,
    WIDTH,
)
from engine.index import ArrayVectors, IndexEntry
from engine.numerics.levels import unit_levels
from jobs.console import Console
from jobs.fit import Embedded
from jobs.sink import part_name
from jobs.spread import EmbeddingFile
from jobs.store import Store

INPUT, AGAINST = "input", "against"
"""The corpora by name; the second stays as it is."""

GROUPS = "groups.parquet"
DROP = "drop.txt"


class Findings(BaseModel):
    """The manifest of what was found.

    Attributes:
        rows: by corpus.
        failed: by corpus and error code; these are in no group.
        exact_bytes, exact_pixels, near: pictures in groups, those to keep left out.
        leaking_groups: groups with pictures of both corpora; None: there is one corpus.
        leaking_pictures: pictures of `against` in them.
        dropped: ids in drop.txt.
        index: what near pairs were sought in; None: fewer than two different pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: dict[str, int]
    failed: dict[str, dict[str, int]]
    groups: int
    exact_bytes: int
    exact_pixels: int
    near: int
    leaking_groups: int | None
    leaking_pictures: int | None
    dropped: int
    threshold: float
    hash_distance: int
    backbone: str
    bundle_id: str | None
    index: IndexEntry | None
    seconds: float


@dataclass(frozen=True)
class Gathered:
    """The healthy pictures of all the corpora, in order.

    Attributes:
        first_U: the first picture of each content.
        digests: of the contents, as `Contents` wants them.
    """

    ids: pa.Array
    pictures: Pictures
    perceptual_N: NDArray[np.uint64]
    first_U: NDArray[np.int64]


def _tables(parts: Mapping[str, Embedded], columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """The healthy rows of each part, with the name of its corpus."""
    for name, embedded in parts.items():
        for chunk in embedded.inventory.chunks:
            with embedded.store.open(part_name(chunk.name)) as file:
                table = pq.read_table(file, columns=[schema.ERROR, *columns])
            yield name, table.filter(table.column(schema.ERROR).is_null())


def gather(parts: Mapping[str, Embedded]) -> Gathered:
    """Read back all but the embeddings.

    Raises:
        CorpusError: there is no healthy picture.
    """
    tables, against = [], []
    for name, table in _tables(parts, [schema.IMAGE_ID, *FINGERPRINT]):
        tables.append(table)
        against.append(np.full(table.num_rows, name == AGAINST))
    table = pa.concat_tables(tables)
    if table.num_rows == 0:
        raise CorpusError("no picture can be used: see the column `error` of the parts")
    contents_N = _codes(table, PIXELS_DIGEST)
    sides = [table.column(name).to_numpy().astype(np.int64) for name in (WIDTH, HEIGHT)]
    return Gathered(
        table.column(schema.IMAGE_ID).combine_chunks(),
        Pictures(
            _codes(table, BYTES_DIGEST), contents_N, sides[0] * sides[1], np.concatenate(against)
        ),
        table.column(PERCEPTUAL).to_numpy(),
        np.unique(contents_N, return_index=True)[1],
    )


def _codes(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Equal digests by equal numbers, counted in the order of their first rows."""
    column = table.column(name).combine_chunks().dictionary_encode()
    codes_N: NDArray[np.int64] = column.indices.to_numpy().astype(np.int64)
    return codes_N


def distinct_contents(
    parts: Mapping[str, Embedded], gathered: Gathered, backbone_name: str, folder: str
) -> Contents:
    """The vectors of different pictures, in a file that is mapped."""
    file = EmbeddingFile(f"{folder}/vectors.float32")
    levels = backbone(backbone_name).levels
    start = 0
    for _, table in _tables(parts, [schema.EMBEDDING]):
        begin, end = np.searchsorted(gathered.first_U, (start, start + table.num_rows))
        rows_B = gathered.first_U[begin:end] - start
        start += table.num_rows
        if len(rows_B):
            chosen = schema.float_tensor(table, schema.EMBEDDING)[rows_B]
            file.append(unit_levels(chosen, levels))
    return Contents(ArrayVectors(file.mapped()), gathered.perceptual_N[gathered.first_U])


def write_groups(store: Store, gathered: Gathered, groups: Groups, console: Console) -> int:
    """Write the members of the groups, and which of them to drop from the input; how many."""
    ids = gathered.ids.take(pa.array(groups.rows_M))
    against_M = gathered.pictures.against_N[groups.rows_M]
    kept_M = groups.kept_M
    table = pa.table(
        {
            "group": pa.array(groups.group_M, pa.int64()),
            schema.IMAGE_ID: ids,
            "corpus": pa.array(np.where(against_M, AGAINST, INPUT), pa.string()),
            "role": pa.array(np.where(kept_M, "keep", "drop"), pa.string()),
            "kind": pa.array(groups.kind_M, pa.string()),
            "cosine": pa.array(groups.cosine_M, pa.float32()),
            "hash_distance": pa.array(groups.hash_distance_M, pa.int32()),
            "pixels": pa.array(gathered.pictures.area_N[groups.rows_M], pa.int64()),
            "leaks": pa.array(groups.leaks_M, pa.bool_()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    store.write(GROUPS, sink.getvalue())
    dropped = ids.filter(pa.array(~kept_M & ~against_M)).to_pylist()
    lines = [one for one in dropped if "\n" not in one]
    if len(lines) < len(dropped):
        console.say(
            f"{len(dropped) - len(lines):,} ids hold a line break: they are in {GROUPS}, and not "
            f"in {DROP}"
        )
    store.write(DROP, "".join(f"{one}\n" for one in lines).encode())
    return len(lines)


def show(findings: Findings, out: str, console: Console) -> None:
    """Say what was found."""
    copies = findings.exact_bytes + findings.exact_pixels + findings.near
    console.say(
        f"{sum(findings.rows.values()):,} pictures, {findings.groups:,} groups: {copies:,} copies "
        f"({findings.exact_bytes:,} of the same bytes, {findings.exact_pixels:,} of the same "
        f"pixels, {findings.near:,} near)"
    )
    if findings.leaking_groups is not None:
        console.say(
            f"leaks: {findings.leaking_pictures:,} pictures of --against, in "
            f"{findings.leaking_groups:,} groups, have a copy in --input"
        )
    console.say(f"{findings.dropped:,} pictures of --input to drop are listed in {out}/{DROP}")
