"""With social tags too the loop, Ray Data and Ray Serve give each picture the same tags."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.bundle import Bundle, load_bundle
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.stage import Resources
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.remote import annotate_remotely
from jobs.runner import RunSettings, loop_plan, run_plan
from jobs.sink import part_name
from jobs.source import take_inventory
from jobs.store import Store
from serve.client import Client
from serve.tagger import ServerTagger
from tests.serving import quick, serving

LIMIT = 10_000_000
PICTURES = 100


@pytest.fixture(scope="module")
def table(pictures: list[SamplePicture]) -> pa.Table:
    """Some pictures without social tags, some of them broken."""
    shown = pictures[:PICTURES]
    data = [picture.jpeg for picture in shown]
    data[1], data[64] = b"", b"<html>"
    social = [None if n % 7 == 3 else list(one.social_tags) for n, one in enumerate(shown)]
    return pa.table({"id": [one.image_id for one in shown], "bytes": data, "social_tags": social})


@pytest.fixture(scope="module")
def source(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("social") / "in.parquet"
    pq.write_table(table, path, row_group_size=33)
    return path


@pytest.fixture(scope="module")
def bundle(social_bundle_folder: Path) -> Bundle:
    return load_bundle(social_bundle_folder)


@pytest.fixture(scope="module")
def inventory(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return take_inventory(str(source), Store(str(tmp_path_factory.mktemp("w"))), False)


@pytest.fixture(scope="module")
def looped(bundle: Bundle, inventory: Inventory) -> pa.Table:
    tables = loop_plan(annotation_plan(bundle, "auto"), inventory, RunSettings(), LIMIT)
    return pa.concat_tables(tables).combine_chunks()


def test_the_loop_keeps_the_column_and_reads_it(
    bundle: Bundle, table: pa.Table, inventory: Inventory, looped: pa.Table, tmp_path: Path
) -> None:
    assert looped.column("social_tags").to_pylist() == table.column("social_tags").to_pylist()
    pq.write_table(
        table.drop_columns(["social_tags"]), tmp_path / "plain.parquet", row_group_size=33
    )
    silent = take_inventory(str(tmp_path / "plain.parquet"), Store(str(tmp_path / "w")), False)
    plan = annotation_plan(bundle, "auto")
    plain = pa.concat_tables(loop_plan(plan, silent, RunSettings(), LIMIT))
    assert "social_tags" not in plain.column_names
    is_same = [
        one == other
        for one, other in zip(
            looped.column("tags").to_pylist(), plain.column("tags").to_pylist(), strict=True
        )
    ]
    has_words = np.array([bool(words) for words in table.column("social_tags").to_pylist()])
    is_healthy = np.array([tags is not None for tags in plain.column("tags").to_pylist()])
    assert is_healthy.sum() == PICTURES - 2
    np.testing.assert_array_equal(is_same, ~(has_words & is_healthy))


@pytest.mark.parametrize("resources", [{}, {"embed": Resources(cpus=0.5)}])
def test_ray_data_equals_the_loop_to_the_bit(
    cluster: None,
    bundle: Bundle,
    inventory: Inventory,
    looped: pa.Table,
    tmp_path: Path,
    resources: dict[str, Resources],
) -> None:
    plan = annotation_plan(bundle, "auto", resources)
    store = Store(str(tmp_path))
    list(run_plan(plan, inventory, frozenset(), store, RunSettings(workers=1), LIMIT))
    parts = [pq.read_table(store.path(part_name(chunk.name))) for chunk in inventory.chunks]
    found = pa.concat_tables(parts).combine_chunks()
    assert found.select(looped.column_names).equals(looped)


@pytest.mark.parametrize("topology", ["fused", "split"])
def test_a_server_gives_the_same_tags(
    cluster: None, bundle: Bundle, source: Path, looped: pa.Table, tmp_path: Path, topology: str
) -> None:
    with (
        serving(quick(bundle.folder, topology=topology)) as (url, _),
        Client(url) as client,
    ):
        tagger = ServerTagger(client)
        annotate_remotely(str(source), tagger, str(tmp_path / "out"), "auto", Console(quiet=True))
    parts = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    found = pa.concat_tables(parts)
    assert found.column("image_id").to_pylist() == looped.column("image_id").to_pylist()
    assert found.column("error").to_pylist() == looped.column("error").to_pylist()
    for given, expected in zip(
        found.column("tags").to_pylist(), looped.column("tags").to_pylist(), strict=True
    ):
        assert (given is None) == (expected is None)
        if given is not None:
            assert [one["tag"] for one in given] == [one["tag"] for one in expected]
            # Batches differ, and with them the last bits of a sum.
            assert [one["score"] for one in given] == pytest.approx(
                [one["score"] for one in expected], abs=1e-5
            )
