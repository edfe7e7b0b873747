"""The order that a sequence annotator decodes is that of a bundle's answers, however it is run."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import schema
from engine.bundle import Bundle, load_bundle, new_bundle
from engine.config import load_config
from engine.fitting import Material, fit_bundle
from engine.group import Solo
from engine.plan import annotation_plan, embedding_plan
from engine.sample import SamplePicture
from jobs.chunks import Inventory
from jobs.runner import RunSettings, loop_plan, run_plan
from jobs.sink import part_name
from jobs.source import take_inventory
from jobs.store import Store

LIMIT = 10_000_000
PICTURES, TAGS = 40, 8
SETS = [
    "embed.backbone=random",
    "embed.compute=openvino",
    "lift=0",
    "refit=false",
    'annotators={order={kind="ranked-lstm",hidden=16,limit=8,optimisation={epochs=2}}}',
]


@pytest.fixture(scope="module")
def bundle(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("ranked") / "bundle"
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, material, load_config(None, SETS), Solo(), lambda _: None)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def table(pictures: list[SamplePicture]) -> pa.Table:
    shown = pictures[:PICTURES]
    ids, data = [one.image_id for one in shown], [one.jpeg for one in shown]
    return pa.table({"id": ids, "bytes": data})


@pytest.fixture(scope="module")
def inventory(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    folder = tmp_path_factory.mktemp("ranked")
    pq.write_table(table, folder / "in.parquet", row_group_size=20)
    return take_inventory(str(folder / "in.parquet"), Store(str(folder / "work")), False)


def orders(tables: pa.Table) -> list[list[str]]:
    return [[one["tag"] for one in tags] for tags in tables.column(schema.TAGS).to_pylist()]


def looped(bundle: Bundle, inventory: Inventory, batch: int) -> pa.Table:
    plan = annotation_plan(bundle, TAGS)
    tables = loop_plan(plan, inventory, RunSettings(batch=batch), LIMIT)
    return pa.concat_tables(tables).combine_chunks()


def test_the_answers_are_in_the_order_that_was_decoded(
    bundle: Bundle, table: pa.Table, inventory: Inventory
) -> None:
    config = load_config(None, SETS)
    shown = pa.table({schema.IMAGE_ID: table.column("id"), schema.BYTES: table.column("bytes")})
    embedded = embedding_plan(config, thumbnails=False).workers()(shown)
    scores_NV = bundle.annotator("order").score(embedded).scores_BV
    taken_N = (scores_NV > 0.5).sum(axis=1)
    assert (taken_N == TAGS).all()
    best_NK = np.argsort(-scores_NV, axis=1, kind="stable")[:, :TAGS]
    expected = [[bundle.vocabulary.tags[tag] for tag in row] for row in best_NK]
    assert orders(looped(bundle, inventory, 32)) == expected
    assert len({tuple(one) for one in expected}) > 1


def test_neither_the_batch_nor_ray_data_changes_the_order(
    cluster: None, bundle: Bundle, inventory: Inventory, tmp_path: Path
) -> None:
    whole = looped(bundle, inventory, 32)
    assert orders(looped(bundle, inventory, 3)) == orders(whole)
    store = Store(str(tmp_path))
    settings = RunSettings(workers=1)
    list(run_plan(annotation_plan(bundle, TAGS), inventory, frozenset(), store, settings, LIMIT))
    parts = [pq.read_table(store.path(part_name(chunk.name))) for chunk in inventory.chunks]
    found = pa.concat_tables(parts).combine_chunks()
    assert orders(found) == orders(whole)
