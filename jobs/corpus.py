"""`tagloom corpus`: draws the sample corpus, or splits a corpus into one to fit and one to test."""

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine import schema
from engine.corpus import split_rows
from engine.errors import ConfigError
from engine.image import DecodeLimits
from engine.sample import SamplePicture, draw_picture
from engine.storage.files import local_path, shown
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.reading import read_chunk
from jobs.source import take_inventory
from jobs.store import Store


def draw_corpus(out: str | Path, images: int, seed: int, console: Console) -> None:
    """Draw `images` pictures with their tags, the same ones for the same seed.

    Args:
        out: a path or URL.

    Raises:
        ConfigError: `out` is not empty.
    """
    _check_new(str(out))
    with _whole_folder(str(out)) as draft, (draft / "annotations.jsonl").open("w") as lines:
        (draft / "images").mkdir()
        context = multiprocessing.get_context("spawn")
        with (
            ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool,
            console.progress("drawing", images) as advance,
        ):
            draw = partial(draw_picture, seed=seed)
            for picture in pool.map(draw, range(images), chunksize=16):
                lines.write(_save(picture, draft))
                advance(1)


def _save(picture: SamplePicture, draft: Path) -> str:
    file = f"images/{picture.image_id}.jpg"
    (draft / file).write_bytes(picture.jpeg)
    record = {"file": file, "tags": picture.tags, "social_tags": picture.social_tags}
    return json.dumps(record, ensure_ascii=False) + "\n"


@contextmanager
def _whole_folder(name: str) -> Iterator[Path]:
    """A folder under a temporary name that takes its own when all of it is there, or is copied."""
    store = Store(name)
    if not store.is_local:
        with tempfile.TemporaryDirectory(prefix="tagloom-") as work:
            yield Path(work)
            store.put_folder(Path(work), ".")
        return
    out = local_path(name)
    draft = out.parent / f".{out.name}.{os.getpid()}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if out.exists():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def split_corpus(corpus: str, out: str | Path, share: float, seed: int, console: Console) -> None:
    """Write a corpus as two, `train` and `test`, in Parquet with the pictures' bytes.

    Untagged pictures go to `train`. The same seed holds out the same pictures.

    Args:
        out: a path or URL.

    Raises:
        ConfigError: `out` is not empty, or `share` leaves nothing on a side.
        CorpusError: the corpus is broken, or has fewer than two tagged pictures.
    """
    _check_new(str(out))
    if not 0 < share < 1:
        raise ConfigError(f"--test is {share}; give a share above 0 and below 1")
    with tempfile.TemporaryDirectory() as work:
        inventory = take_inventory(corpus, Store(work), is_corpus=True)
        held_out = _held_out(inventory, share, seed)
        whole = _whole_folder(str(out))
        with whole as draft, console.progress("splitting", inventory.rows) as advance:
            writers: dict[str, pq.ParquetWriter] = {}
            for batch in _batches(inventory):
                ids = batch.column(schema.IMAGE_ID).to_pylist()
                is_test = pa.array([image_id in held_out for image_id in ids])
                for name, chosen in (("test", is_test), ("train", pc.invert(is_test))):
                    rows = batch.filter(chosen)
                    if name not in writers:
                        (draft / name).mkdir()
                        path = draft / name / "pictures.parquet"
                        writers[name] = pq.ParquetWriter(path, rows.schema, compression="none")
                    if rows.num_rows:
                        writers[name].write_table(rows)
                advance(len(ids))
            for writer in writers.values():
                writer.close()


def _batches(inventory: Inventory) -> Iterator[pa.Table]:
    """The rows of a corpus under their own names again, without the engine's columns."""
    for chunk in inventory.chunks:
        for batch in read_chunk(chunk, 256, DecodeLimits().max_bytes):
            plain = batch.drop_columns([schema.ERROR, schema.REASON])
            yield plain.rename_columns([n.removeprefix("input_") for n in plain.column_names])


def _held_out(inventory: Inventory, share: float, seed: int) -> frozenset[str]:
    tagged: list[str] = []
    for batch in _batches(inventory):
        if schema.TAGS in batch.column_names:
            pairs = zip(
                batch.column(schema.IMAGE_ID).to_pylist(),
                batch.column(schema.TAGS).to_pylist(),
                strict=True,
            )
            tagged.extend(image_id for image_id, tags in pairs if tags)
    _, rows = split_rows(tagged, share, seed)
    return frozenset(tagged[row] for row in rows)


def _check_new(name: str) -> None:
    if Store(name).names():
        raise ConfigError(f"{shown(name)}: is there already and not empty; name another folder")
