"""The commands with everything in a bucket: inputs, bundles and outputs, and a store that fails."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.bundle import load_bundle
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.storage.bundles import open_at
from jobs.runner import RunSettings, loop_plan
from jobs.source import take_inventory
from jobs.store import Store
from tests.conftest import Tagloom
from tests.object_store import BUCKET, SECRET, Fault, ObjectStore

PLACE = f"s3://{BUCKET}"
ROWS = 160
GONE = 97


def test_annotate_in_a_bucket_that_fails_for_a_while_and_for_good(
    tagloom: Tagloom,
    object_store: ObjectStore,
    bundle_folder: Path,
    pictures: list[SamplePicture],
    tmp_path: Path,
) -> None:
    (tmp_path / "pictures").mkdir()
    for row in range(ROWS):
        if row != GONE:
            (tmp_path / "pictures" / f"{row}.jpg").write_bytes(pictures[row].jpeg)
    for place in (tmp_path, PLACE):
        uris = [f"{place}/pictures/{row}.jpg" for row in range(ROWS)]
        name = "local.parquet" if place == tmp_path else "in.parquet"
        pq.write_table(pa.table({"id": range(ROWS), "uri": uris}), tmp_path / name)
    object_store.put(tmp_path, BUCKET)
    object_store.put(bundle_folder, f"{BUCKET}/bundle")
    command = (
        *("annotate", "--input", f"{PLACE}/in.parquet", "--bundle", f"{PLACE}/bundle"),
        *("--output", f"{PLACE}/out", "--workers", 2, "--connections", 24),
    )

    object_store.disturb(
        Fault("slow_down", "PUT .*part-00000-0000[1-9]", 10_000),
        Fault("slow_down", "GET .*bundle", 2),
    )
    failed = tagloom(*command)
    assert failed.code == 1
    assert f"{PLACE}/out/part-00000-0000" in failed.err
    assert "the store fails (Reduce it, status 503)" in failed.err
    assert "run the same command again" in failed.err
    assert SECRET not in failed.err
    assert "manifest.json" not in object_store.names(f"{PLACE}/out")

    object_store.disturb(
        Fault("slow_down", "PUT .*part-", 2),
        Fault("slow_down", "GET .*pictures", 3),
        Fault("cut", "GET .*pictures", 3),
        Fault("reset", "GET .*pictures", 2),
        Fault("slow", "GET .*pictures", 5),
        Fault("cut", "GET .*in.parquet", 1),
        Fault("slow_down", "GET .*list-type", 1),
    )
    run = tagloom(*command)
    assert run.code == 0, run.err
    assert all(fault.happened == fault.times for fault in object_store.proxy.faults)
    assert 1 < object_store.proxy.most_under_way <= 24
    account = json.loads(run.out)
    assert (account["rows"], account["failed"]) == (ROWS, 1)
    assert account["errors"] == {"unreadable_uri": 1}
    assert json.loads(object_store.fs.cat_file(f"{BUCKET}/out/manifest.json")) == account
    assert json.loads(object_store.fs.cat_file(f"{BUCKET}/out/job.json"))["bundle"] == (
        f"{PLACE}/bundle"
    )
    names = object_store.names(f"{PLACE}/out")
    assert {name for name in names if not name.startswith("part-")} == {"manifest.json", "job.json"}

    plan = annotation_plan(load_bundle(bundle_folder), 5)
    inventory = take_inventory(
        str(tmp_path / "local.parquet"), Store(str(tmp_path / "work")), is_corpus=False
    )
    tables = loop_plan(plan, inventory, RunSettings(), 10_000_000)
    expected = [row for table in tables for row in table.to_pylist()]
    rows = object_store.rows(f"{PLACE}/out")
    for row in (*rows, *expected):
        for name in ("input_uri", "uri", "reason"):
            row.pop(name, None)
    assert rows == expected
    assert [row["image_id"] for row in rows if row["error"]] == [str(GONE)]

    page = f"{PLACE}/pages/gallery.html"
    run = tagloom("gallery", f"{PLACE}/out", "--out", page, "--pictures", 8)
    assert run.code == 0, run.err
    assert object_store.fs.cat_file(page).count(b'<li class="card"') == 8
    assert object_store.names(f"{PLACE}/out") == names


def test_fit_change_and_evaluate_in_a_bucket(
    tagloom: Tagloom, object_store: ObjectStore, corpus_folder: Path, tmp_path: Path
) -> None:
    object_store.put(corpus_folder, f"{BUCKET}/corpus")
    object_store.disturb(
        Fault("slow_down", "GET .*corpus", 2),
        Fault("cut", "GET .*jpg", 3),
        Fault("slow_down", "PUT .*bundle", 2),
    )
    run = tagloom(
        *("fit", "--corpus", f"{PLACE}/corpus", "--out", f"{PLACE}/bundle", "--workers", 1),
        *("--set", "embed.backbone=random", "--set", "embed.compute=openvino"),
    )
    assert run.code == 0, run.err
    bundle = open_at(f"{PLACE}/bundle")
    assert f"bundle {bundle.id} is at {PLACE}/bundle" in run.err
    assert all(fault.happened == fault.times for fault in object_store.proxy.faults)
    assert object_store.names(f"{PLACE}/bundle") == {*bundle.manifest.files, "manifest.json"}

    (tmp_path / "ids.txt").write_text(
        json.loads((corpus_folder / "annotations.jsonl").read_text().splitlines()[0])["file"]
    )
    run = tagloom(
        *("index", "remove", "--bundle", f"{PLACE}/bundle", "--ids", tmp_path / "ids.txt"),
        *("--out", f"{PLACE}/smaller"),
    )
    assert run.code == 0, run.err
    run = tagloom(
        *("evaluate", "--bundle", f"{PLACE}/smaller", "--corpus", f"{PLACE}/corpus"),
        *("--out", f"{PLACE}/figures", "--workers", 1),
    )
    assert run.code == 0, run.err
    assert object_store.names(f"{PLACE}/figures") == {"metrics.json", "words.json"}
    assert json.loads(run.out)["bundle_id"] == open_at(f"{PLACE}/smaller").id
    assert {name.partition("/")[0] for name in object_store.names(PLACE)} == {
        *("corpus", "bundle", "smaller", "figures")
    }


def test_splits_features_and_tables_in_a_bucket(
    tagloom: Tagloom, object_store: ObjectStore, corpus_folder: Path, tmp_path: Path
) -> None:
    few = tmp_path / "corpus"
    (few / "images").mkdir(parents=True)
    lines = (corpus_folder / "annotations.jsonl").read_text().splitlines()[:40]
    (few / "annotations.jsonl").write_text("\n".join(lines))
    for line in lines:
        shutil.copy(corpus_folder / json.loads(line)["file"], few / "images")
    (few / "words.txt").write_text("sky\ntree\nnever seen")
    object_store.put(few, f"{BUCKET}/corpus")
    run = tagloom("corpus", "split", "--corpus", f"{PLACE}/corpus", "--out", f"{PLACE}/parts")
    assert run.code == 0, run.err
    assert object_store.names(f"{PLACE}/parts") == {
        *("train/pictures.parquet", "test/pictures.parquet")
    }
    again = tagloom("corpus", "split", "--corpus", f"{PLACE}/corpus", "--out", f"{PLACE}/parts")
    assert again.code == 1
    assert "is there already and not empty" in again.err

    extract = ("features", "extract", "--corpus", f"{PLACE}/parts/test", "--workers", 1)
    run = tagloom(*extract, "--out", f"{PLACE}/features")
    assert run.code == 0, run.err
    names = object_store.names(f"{PLACE}/features")
    parts = {name for name in names if name.startswith("part-")}
    assert parts
    assert "features/features.json" in names
    # A part that is lost is described again, by the describer that is there.
    before = {name: object_store.fs.cat_file(f"{BUCKET}/features/{name}") for name in names}
    object_store.fs.rm_file(f"{BUCKET}/features/{min(parts)}")
    run = tagloom(*extract, "--out", f"{PLACE}/features")
    assert run.code == 0, run.err
    after = {name: object_store.fs.cat_file(f"{BUCKET}/features/{name}") for name in names}
    assert after == before

    table = tmp_path / "table.toml"
    table.write_text(
        'title = "Two"\nseeds = [0]\nmetrics = ["f1"]\n'
        'corpora.drawn = { words = "words.txt" }\n'
        'defaults.embed = { backbone = "random", compute = "openvino" }\n'
        '[[rows]]\nname = "Prior"\nfit.annotators.prior = { kind = "prior" }\n'
    )
    build = ("table", table, "--corpus", f"drawn={PLACE}/corpus", "--out", f"{PLACE}/table")
    run = tagloom(*build)
    assert run.code == 0, run.err
    assert {"table.json", "table.md", "table.png"} <= object_store.names(f"{PLACE}/table")
    run = tagloom(*build)
    assert "going on: 1 of 1 runs are there" in run.err
