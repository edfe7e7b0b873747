"""The commands as a user types them, down to the rows and figures that come out."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.bundle import Bundle, load_bundle
from engine.numerics.metric_registry import METRICS
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from jobs.runner import RunSettings, loop_plan
from jobs.source import take_inventory
from jobs.store import Store
from tests.inputs import write_tar

QUICK = ("--set", "embed.backbone=random", "--set", "embed.compute=openvino", "--workers", 1)


def _rows(output: Path) -> list[dict[str, object]]:
    parts = [pq.read_table(part).to_pylist() for part in sorted(output.glob("part-*.parquet"))]
    return [row for part in parts for row in part]


def _listing(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_fit_evaluate_and_annotate_by_relative_paths(
    tagloom, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus").symlink_to(corpus_folder)
    before = _listing(corpus_folder)

    run = tagloom("fit", "--corpus", "corpus", "--out", "new/bundle", *QUICK)
    assert run.code == 0, run.err
    assert run.out == ""
    bundle = load_bundle(Path("new/bundle"))
    assert f"bundle {bundle.id} is at new/bundle" in run.err
    assert _listing(Path("new")) == {"bundle", *(f"bundle/{n}" for n in _listing(bundle.folder))}

    evaluate = ("evaluate", "--bundle", "new/bundle", "--corpus", "corpus/annotations.jsonl")
    run = tagloom(*evaluate, "--out", "figures", "--report", "--workers", 1)
    assert run.code == 0, run.err
    result = json.loads(run.out)
    assert result == json.loads(Path("figures/metrics.json").read_text())
    assert (result["pictures"], result["unused"], result["top_k"]) == (150, 0, 5)
    assert result["bundle_id"] == bundle.id
    assert 0 < result["precision"] <= 100
    assert 0 < result["recall"] <= 100
    assert result["n_plus"] <= result["words"] == len(bundle.vocabulary)
    # Every metric, but for those of a predicted number of tags.
    assert set(METRICS) - set(result) == {"lqp_accuracy", "lqp_mse"}
    assert 0 < result["mean_ndcg"] <= 100
    assert 0 < result["hamming"] < 1
    assert {path.name for path in Path("figures").iterdir()} == {
        "metrics.json",
        "words.json",
        "report.html",
    }
    page = Path("figures/report.html").read_text(encoding="utf-8")
    assert f"<code>{bundle.id}</code>" in page
    assert "How well bundle tags annotations.jsonl" in page
    # Twelve of the worst pictures and twelve of the best, each to be seen.
    assert page.count('<li class="card"') == page.count("data:image/jpeg;base64,") == 24
    assert "Weights over time" in page
    words = json.loads(Path("figures/words.json").read_text())
    assert sum(word["given"] for word in words) == 5 * 150

    run = tagloom(
        *("annotate", "--input", "corpus/images", "--bundle", "new/bundle", "--output", "out"),
        *("--top-k", "auto", "--workers", 1, "--quiet"),
    )
    assert run.code == 0, run.err
    rows = _rows(Path("out"))
    assert [row["image_id"] for row in rows] == sorted(p.name for p in corpus_folder.glob("*/*"))
    assert all(1 <= len(row["tags"]) <= 20 for row in rows)
    assert {row["bundle_id"] for row in rows} == {bundle.id}
    assert json.loads(run.out)["top_k"] == "auto"

    assert _listing(corpus_folder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "new", "figures", "out"}


def _broken(picture: bytes) -> dict[str, bytes]:
    """A picture of each error code that bytes alone can have."""
    heic = b"\0\0\0\x18ftypheic" + bytes(100)
    large = io.BytesIO()
    Image.new("1", (20_000, 6_000)).save(large, "PNG")
    png = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(png, "PNG")
    damaged = bytearray(png.getvalue())
    damaged[60] ^= 255
    return {
        "empty": b"",
        "not_an_image": b"<!doctype html><html>404</html>",
        "unsupported": heic,
        "truncated": picture[: len(picture) // 2],
        "corrupt": bytes(damaged),
        "too_large": large.getvalue(),
    }


def test_broken_pictures_are_counted_by_code_and_finished_jobs_are_left_alone(
    tagloom, pictures: list[SamplePicture], bundle_folder: Path, tmp_path: Path
) -> None:
    broken = _broken(pictures[0].jpeg)
    good = {f"good{number}": pictures[number].jpeg for number in range(70)}
    names = [*broken, *good, "unreadable_uri", "good0"]
    source = tmp_path / "in.parquet"
    columns = {
        "id": names,
        "bytes": [{**broken, **good}.get(name) for name in names],
        "uri": [None if name in {**broken, **good} else "/nowhere.jpg" for name in names],
        "error": [f"the caller's {number}" for number in range(len(names))],
        "size": range(len(names)),
    }
    pq.write_table(pa.table(columns), source)
    output = tmp_path / "out"
    output.mkdir()
    command = ("annotate", "--input", source, "--bundle", bundle_folder, "--workers", 1)

    run = tagloom(*command, "--output", output)
    assert run.code == 0, run.err
    account = json.loads(run.out)
    expected = Counter({**dict.fromkeys(broken, 1), "unreadable_uri": 1, "duplicate_id": 1})
    assert account["errors"] == expected
    assert (account["rows"], account["tagged"], account["failed"]) == (78, 70, 8)
    rows = _rows(output)
    assert [row["image_id"] for row in rows] == names
    assert [row["size"] for row in rows] == list(range(78))
    assert rows[5]["input_error"] == "the caller's 5"
    for row in rows:
        assert (row["error"] is None) == (row["tags"] is not None) == (row["reason"] is None)
    assert [row["error"] for row in rows[:6]] == list(broken)

    once = {part: part.stat().st_mtime_ns for part in output.glob("part-*")}
    again = tagloom(*command, "--output", output)
    assert again.code == 0, again.err
    assert {part: part.stat().st_mtime_ns for part in output.glob("part-*")} == once
    counts = ("rows", "tagged", "failed", "errors", "parts", "bundle_id", "input", "top_k")
    assert all(json.loads(again.out)[name] == account[name] for name in counts)

    before = _listing(output)
    other = tagloom(*command, "--output", output, "--top-k", 3)
    assert other.code == 1
    assert "holds the output of a different job (top_k was 5 and is 3)" in other.err
    assert _listing(output) == before

    strict = tagloom(*command, "--output", tmp_path / "strict", "--max-failed", 0.05)
    assert strict.code == 1
    assert " of 78 pictures failed, more than --max-failed 0.05 allows" in strict.err


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.mark.parametrize("form", ["folder", "jsonl", "csv", "bytes", "hugging_face", "uri", "tar"])
def test_every_form_of_input_gives_the_same_tags_and_the_callers_columns(
    form: str, bundle: Bundle, pictures: list[SamplePicture], tmp_path: Path
) -> None:
    root = tmp_path / "in put é"
    root.mkdir()
    few = {f"ж {picture.image_id}": picture.jpeg for picture in pictures[:4]}
    uris = [str(tmp_path / f"{name}.jpg") for name in few]
    if form in ("folder", "jsonl", "csv"):
        for name, jpeg in few.items():
            (root / f"{name}.jpg").write_bytes(jpeg)
    else:
        for uri, jpeg in zip(uris, few.values(), strict=True):
            Path(uri).write_bytes(jpeg)
    if form == "jsonl":
        lines = [{"file": f"{name}.jpg", "id": name, "tags": ["x"]} for name in few]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (root / "annotations.jsonl").write_text(text)
    if form == "csv":
        text = "file,id,tags\n" + "".join(f"{name}.jpg,{name},x\n" for name in few)
        (root / "annotations.csv").write_text(text)
    shared = {"id": list(few), "tags": [["x"]] * 4}
    tables: dict[str, dict[str, object]] = {
        "bytes": {"bytes": list(few.values()), **shared},
        "hugging_face": {
            "image": [{"bytes": jpeg, "path": f"{name}.jpg"} for name, jpeg in few.items()],
            **shared,
        },
        "uri": {"uri": uris, **shared},
    }
    if form in tables:
        pq.write_table(pa.table(tables[form]), root / "0.parquet", row_group_size=3)
    if form == "tar":
        members = {}
        for name, jpeg in few.items():
            members |= {f"{name}.jpg": jpeg, f"{name}.json": b'{"tags": ["x"]}'}
        write_tar(root / "0.tar", members)
    inventory = take_inventory(str(root), Store(str(tmp_path / "work")), form != "folder")
    (table,) = loop_plan(annotation_plan(bundle, 5), inventory, RunSettings(), 10_000_000)
    rows = table.to_pylist()
    suffix = ".jpg" if form == "folder" else ""
    assert [row["image_id"] for row in rows] == [f"{name}{suffix}" for name in few]
    assert [row["error"] for row in rows] == [None] * 4
    assert {"tags", "neighbours", "bundle_id"} < set(table.column_names)
    assert {"bytes", "pixels", "embedding"}.isdisjoint(table.column_names)
    if form != "folder":
        assert [row["input_tags"] for row in rows] == [["x"]] * 4
    plain = pa.table({"image_id": list(few), "bytes": list(few.values())})
    expected = annotation_plan(bundle, 5).workers()(plain)
    assert table.column("tags").combine_chunks() == expected.column("tags").combine_chunks()
