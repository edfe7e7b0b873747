"""`tagloom gallery`: annotated pictures as one HTML page that needs nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine import schema
from engine.bundle import Bundle
from engine.errors import ConfigError
from engine.gallery import (
    GalleryItem,
    GalleryNeighbour,
    GallerySection,
    GalleryTag,
    render_gallery,
)
from engine.geometry import thumbnail
from engine.image import ImageError, decode
from engine.vocab import normalise_tags
from jobs.bundles import open_bundle
from jobs.chunks import Chunk, Inventory
from jobs.console import Console
from jobs.fit import INPUT_TAGS
from jobs.job import JOB, Job
from jobs.reading import read_chunk
from jobs.sink import part_name
from jobs.source import take_inventory
from jobs.store import Store, absolute

SIDE = 320
"""Longer side of a shown picture, in pixels."""

NEIGHBOURS = 5


def write_gallery(
    outputs: Sequence[str], page: str | Path, pictures: int, console: Console, title: str
) -> None:
    """Show up to `pictures` pictures of each output of `annotate`, spread over all of it.

    Args:
        page: path or URL of the HTML file.

    Raises:
        ConfigError: an output holds no finished job.
        CorpusError: the pictures are no longer where they were.
    """
    sections = []
    for output in outputs:
        store = Store(output)
        if not store.is_file(JOB):
            raise ConfigError(f"{output}: holds no output of 'tagloom annotate'; run that first")
        job = Job.model_validate_json(store.read(JOB))
        bundle = open_bundle(job.bundle, console)
        with console.waiting(f"reading {output}"):
            sections.append(_section(store, job, bundle, pictures))
    folder, _, name = absolute(str(page)).rpartition("/")
    Store(folder).write(name, render_gallery(title, sections).encode())


def _section(store: Store, job: Job, bundle: Bundle, pictures: int) -> GallerySection:
    work = Store(f"{store.url}/_gallery")
    try:
        inventory = take_inventory(job.input, work, is_corpus=False)
        if job.fingerprint not in (None, inventory.fingerprint):
            raise ConfigError(
                f"{job.input}: changed since it was annotated into {store.url}; annotate it again"
            )
        items = tuple(_items(store, inventory, bundle, pictures))
    finally:
        work.remove("")
    failed = sum(item.error is not None for item in items)
    note = f"{len(items)} of {inventory.rows:,} pictures from {job.input}" + (
        f", {failed} of them broken" if failed else ""
    )
    return GallerySection(Path(job.input).name, note, job.bundle_id, items)


def _items(
    store: Store, inventory: Inventory, bundle: Bundle, pictures: int
) -> Iterator[GalleryItem]:
    """Some rows of chunks that lie evenly over the job, a few from each."""
    chunks = [chunk for chunk in inventory.chunks if store.is_file(part_name(chunk.name))]
    count = min(len(chunks), max(1, pictures // 4))
    places = np.unique(np.linspace(0, len(chunks) - 1, count).astype(np.int64))
    left = pictures
    for number, place in enumerate(places):
        chunk = chunks[int(place)]
        share = min(-(-left // (len(places) - number)), chunk.rows)
        yield from _chunk_items(store, chunk, bundle, share)
        left -= share


def _chunk_items(store: Store, chunk: Chunk, bundle: Bundle, share: int) -> Iterator[GalleryItem]:
    part = pq.read_table(pa.BufferReader(store.read(part_name(chunk.name))))
    limits = bundle.manifest.limits
    wanted = set(np.linspace(0, chunk.rows - 1, share).astype(int).tolist())
    row = 0
    for batch in read_chunk(chunk, 32, limits.max_bytes):
        for data in batch.column(schema.BYTES):
            if row in wanted:
                picture = None
                if data.is_valid:
                    try:
                        picture = thumbnail(decode(data.as_py(), limits), SIDE)
                    except ImageError:
                        picture = None
                yield _item(part.slice(row, 1).to_pylist()[0], picture, bundle)
            row += 1


def _item(row: Mapping[str, object], picture: bytes | None, bundle: Bundle) -> GalleryItem:
    tags = row[schema.TAGS] or []
    neighbours = row[schema.NEIGHBOURS] or []
    assert isinstance(tags, list)
    assert isinstance(neighbours, list)
    truth = row.get(INPUT_TAGS)
    error, reason = row[schema.ERROR], row[schema.REASON]
    return GalleryItem(
        image_id=str(row[schema.IMAGE_ID]),
        picture=picture,
        tags=tuple(GalleryTag(item["tag"], item["score"]) for item in tags),
        truth=normalise_tags(truth) if isinstance(truth, list) else None,
        neighbours=tuple(
            GalleryNeighbour(
                item["image_id"], item["distance"], bundle.thumbnails.get(item["image_id"])
            )
            for item in neighbours[:NEIGHBOURS]
        ),
        error=None if error is None else str(error),
        reason=None if reason is None else str(reason),
    )
