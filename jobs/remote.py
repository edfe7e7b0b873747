"""`tagloom annotate --server`: the pictures go to a server, their tags into the same Parquet."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from engine import schema
from engine.cut import TopK
from engine.errors import ConfigError
from jobs.columns import social_lists
from jobs.console import Console
from jobs.lease import held
from jobs.reading import read_chunk
from jobs.sink import write_part
from jobs.source import SCRATCH, take_inventory
from jobs.store import Store

MAX_BYTES = 16 * 1024 * 1024
"""A larger picture is not sent."""


class Tagged(Protocol):
    """A picture's tags and scores, best first, or its error code and reason."""

    @property
    def tags(self) -> Sequence[tuple[str, float]]: ...

    @property
    def error(self) -> tuple[str, str] | None: ...


class Tagger(Protocol):
    """A server."""

    bundle_id: str
    most: int
    """Pictures at a time."""

    def __call__(
        self, pictures: list[bytes], social_tags: list[tuple[str, ...]], top_k: TopK
    ) -> Iterable[Tagged]: ...


def annotate_remotely(
    source: str, tagger: Tagger, output: str, top_k: TopK, console: Console
) -> dict[str, object]:
    """Tag every picture of an input by a server, into an empty output.

    Raises:
        TagloomError: the input, the output or the server is not as it must be.
    """
    store = Store(output)
    if store.names():
        raise ConfigError(f"{output}: is not empty; name a new folder")
    inventory = take_inventory(source, store, is_corpus=False)
    errors: Counter[str] = Counter()
    with held(store, console), console.progress("annotating", inventory.rows) as advance:
        for chunk in inventory.chunks:
            batches = read_chunk(chunk, tagger.most, MAX_BYTES)
            table = pa.concat_tables(_tagged(tagger, batches, top_k))
            receipt = write_part(store, chunk, table)
            errors.update(receipt.errors)
            advance(receipt.rows, receipt.failed)
    store.remove(SCRATCH)
    return {
        "rows": inventory.rows,
        "tagged": inventory.rows - errors.total(),
        "failed": errors.total(),
        "errors": dict(sorted(errors.items())),
        "bundle_id": tagger.bundle_id,
    }


def _tagged(tagger: Tagger, batches: Iterator[pa.Table], top_k: TopK) -> Iterator[pa.Table]:
    for batch in batches:
        codes = batch.column(schema.ERROR).to_pylist()
        reasons = batch.column(schema.REASON).to_pylist()
        tags: list[list[dict[str, object]] | None] = [None] * batch.num_rows
        sent = [row for row, code in enumerate(codes) if code is None]
        data = batch.column(schema.BYTES).to_pylist()
        social = social_lists(batch)
        found = (
            tagger([data[row] for row in sent], [social[row] for row in sent], top_k)
            if sent
            else ()
        )
        for row, result in zip(sent, found, strict=True):
            if result.error is not None:
                codes[row], reasons[row] = result.error
            else:
                tags[row] = [{"tag": tag, "score": score} for tag, score in result.tags]
        named = [n for n in batch.column_names if n not in (schema.BYTES, *schema.RESERVED)]
        columns = {
            schema.TAGS: pa.array(tags, schema.SCORED_TAGS),
            schema.ERROR: pa.array(codes, pa.string()),
            schema.REASON: pa.array(reasons, pa.string()),
            schema.BUNDLE_ID: pa.repeat(tagger.bundle_id, batch.num_rows),
        }
        table = batch.select(named)
        for name, column in columns.items():
            table = table.append_column(name, column)
        yield table
