"""A bundle whose indexes are in shards: searched merged or fanned out, the same rows to the bit."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from engine.bundle import Bundle, load_bundle, new_bundle
from engine.config import load_config
from engine.errors import ConfigError
from engine.extending import Newcomers, add_pictures
from engine.fitting import Material, fit_bundle
from engine.group import Solo
from engine.plan import annotation_plan
from engine.storage.bundles import FetchedBundle
from jobs.chunks import Inventory
from jobs.fanout import IndexWay, RayShards, check_way, fanned_out
from jobs.runner import RunSettings, loop_plan, run_plan
from jobs.sink import part_name
from jobs.source import take_inventory
from jobs.store import Store
from tests.conftest import Tagloom

LIMIT = 10_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, material: Material) -> Bundle:
    """One annotator looks at all the vectors of its shards, the other searches lists."""
    folder = tmp_path_factory.mktemp("bundles") / "sharded"
    annotators = (
        'annotators={cca-knn={kind="cca-knn",shard_memory="270KB"},'
        'cca={kind="cca",index="ivf-flat",shard_memory="290KB"}}'
    )
    config = load_config(None, ["embed.backbone=random", "embed.compute=openvino", annotators])
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, material, config, Solo(), lambda _: None)
    found = load_bundle(folder)
    assert {name: len(one.rows) for name, one in found.shard_maps.items()} == {
        "cca-knn": 2,
        "cca": 2,
    }
    return found


@pytest.fixture(scope="module")
def inventory(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    store = Store(str(tmp_path_factory.mktemp("w")))
    return take_inventory(str(corpus_folder / "images"), store, is_corpus=False)


@pytest.mark.usefixtures("cluster")
def test_the_loop_merged_and_fanned_out_give_the_same_rows(
    bundle: Bundle, inventory: Inventory, tmp_path: Path
) -> None:
    plan = annotation_plan(bundle, 5)
    looped = pa.concat_tables(loop_plan(plan, inventory, RunSettings(), LIMIT)).combine_chunks()
    assert looped.column("tags").null_count == 0
    ways: tuple[IndexWay, ...] = ("merged", "fan-out")
    for way in ways:
        store = Store(str(tmp_path / way))
        list(run_plan(plan, inventory, frozenset(), store, RunSettings(index=way), LIMIT))
        parts = [pq.read_table(store.path(part_name(c.name))) for c in inventory.chunks]
        assert pa.concat_tables(parts).combine_chunks().equals(looped), way


@pytest.mark.usefixtures("cluster")
def test_actors_are_asked_where_the_index_does_not_fit_and_survive_a_kill(
    bundle: Bundle, material: Material
) -> None:
    plan = annotation_plan(bundle, 5)
    total = sum(sum(one.bytes) for one in bundle.shard_maps.values())
    assert fanned_out(plan, "auto", None) is plan
    assert fanned_out(plan, "auto", total) is plan
    assert fanned_out(plan, "merged", 1) is plan
    spread = fanned_out(plan, "auto", total - 1)
    stage = next(one for one in spread.stages if one.name == "score/cca")
    shards = stage.make.shards  # type: ignore[attr-defined]
    assert isinstance(shards, RayShards)
    assert len(shards.actors) == 2
    queries_BL = bundle.annotator(
        "cca"
    ).placement.query(  # type: ignore[attr-defined]
        material.corpus.embeddings_ND[:9]
    )
    merged = bundle.annotator("cca").index  # type: ignore[attr-defined]
    over = bundle.annotator("cca", shards).index  # type: ignore[attr-defined]
    ray.kill(shards.actors[1], no_restart=False)
    for one, other in zip(over.search(queries_BL, 90), merged.search(queries_BL, 90), strict=True):
        assert (one == other).all()


def test_what_is_in_one_piece_is_not_fanned_out(bundle_folder: Path, bundle: Bundle) -> None:
    check_way(bundle, "fan-out")
    with pytest.raises(ConfigError, match="no index of it is in shards that could be fanned out"):
        check_way(load_bundle(bundle_folder), "fan-out")
    fetched = FetchedBundle(bundle.folder, bundle.manifest, bundle.rules, "s3://bucket/bundle")
    with pytest.raises(ConfigError, match="bundle: the shards of a bundle at a URL"):
        check_way(fetched, "fan-out")


def test_the_command_fans_out_what_pictures_came_into_and_left(
    bundle: Bundle,
    bundle_folder: Path,
    material: Material,
    corpus_folder: Path,
    tmp_path: Path,
    tagloom: Tagloom,
) -> None:
    (tmp_path / "gone.txt").write_text("\n".join(material.corpus.ids[:2]))
    fewer = ("--bundle", bundle.folder, "--ids", tmp_path / "gone.txt", "--out", tmp_path / "fewer")
    assert tagloom("index", "remove", *fewer).code == 0
    part = material.corpus.subset(np.arange(2))
    newcomers = Newcomers(part.ids, part.embeddings_ND, part.labels_NV, {})
    with new_bundle(tmp_path / "again", overwrite=False) as draft:
        add_pictures(draft, load_bundle(tmp_path / "fewer"), newcomers, "back again")
    for name, rows in (("fewer", 278), ("again", 280)):
        maps = load_bundle(tmp_path / name).shard_maps
        assert {one: sum(found.rows) for one, found in maps.items()} == {
            "cca-knn": rows,
            "cca": rows,
        }
        assert all(len(found.rows) == 2 for found in maps.values())
    place = ("annotate", "--input", corpus_folder / "images", "--output", tmp_path / "out")
    said = tagloom(*place, "--bundle", bundle_folder, "--index", "fan-out")
    assert (said.code, (tmp_path / "out").exists()) == (1, False)
    assert "fit it with --max-shard-memory" in said.err
    said = tagloom(*place, "--bundle", tmp_path / "again", "--index", "fan-out")
    assert said.code == 0, said.err
    account = json.loads(said.out)
    assert (account["rows"], account["tagged"]) == (150, 150)
