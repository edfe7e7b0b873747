"""Every form of input comes out as rows: the caller's id, columns and tags, and the bytes."""

import io
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import CorpusError
from jobs.chunks import Inventory
from jobs.source import take_inventory
from jobs.store import Store
from tests.inputs import PICTURES, column, inventory_of, rows_of, write_files, write_tar


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    root = write_files(
        tmp_path / "in", {"b/ü 1.jpg": b"1", "a.png": b"2", ".x.jpg": b"", "n.txt": ""}
    )
    inventory = inventory_of(root, tmp_path)
    assert (inventory.rows, inventory.ignored) == (2, 1)
    rows = rows_of(inventory)
    assert column(rows, "image_id") == ["a.png", "b/ü 1.jpg"]
    assert column(rows, "bytes") == [b"2", b"1"]
    assert column(rows, "error") == [None, None]


def test_a_picture_file(tmp_path: Path) -> None:
    root = write_files(tmp_path, {"in/only one.jpg": b"1"})
    (row,) = rows_of(inventory_of(root / "in" / "only one.jpg", tmp_path))
    assert (row["image_id"], row["bytes"]) == ("only one.jpg", b"1")


@pytest.mark.parametrize("name", ["annotations.jsonl", "annotations.csv"])
@pytest.mark.parametrize("by_file", [False, True])
def test_annotations_beside_pictures(tmp_path: Path, name: str, by_file: bool) -> None:
    if name.endswith("csv"):
        text = "file,id,tags,error\nimages/1.jpg,x,sky|sea,mine\nimages/0.jpg,y,,\n"
    else:
        text = (
            '{"file": "images/1.jpg", "id": "x", "tags": ["sky", "sea"], "error": "mine"}\n'
            '{"file": "images/0.jpg", "id": "y", "tags": []}\n'
        )
    files = {f"images/{key}": value for key, value in PICTURES.items()}
    root = write_files(tmp_path / "in", {**files, name: text})
    rows = rows_of(inventory_of(root / name if by_file else root, tmp_path, is_corpus=True))
    assert column(rows, "image_id") == ["x", "y"]
    assert column(rows, "id") == ["x", "y"]
    assert column(rows, "bytes") == [b"picture 1", b"picture 0"]
    assert column(rows, "input_tags") == [["sky", "sea"], []]
    assert rows[0]["input_error"] == "mine"
    assert column(rows, "error") == [None, None]


@pytest.mark.parametrize("form", ["bytes", "large_bytes", "image", "image_bytes", "uri", "mixed"])
def test_parquet_with_pictures_in_every_way(tmp_path: Path, form: str) -> None:
    write_files(tmp_path / "in", {f"p/{name}": data for name, data in PICTURES.items()})
    data = list(PICTURES.values())
    names = [f"p/{name}" for name in PICTURES]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns: dict[str, dict[str, pa.Array]] = {
        "bytes": {"bytes": pa.array(data)},
        "large_bytes": {"bytes": pa.array(data, pa.large_binary())},
        "image_bytes": {"image": pa.array(data)},
        "image": {
            "image": pa.array(
                [
                    {"bytes": None if place == 2 else value, "path": name}
                    for place, (value, name) in enumerate(zip(data, names, strict=True))
                ],
                struct,
            )
        },
        "uri": {"uri": pa.array([str(tmp_path / "in" / names[0]), *names[1:]])},
        "mixed": {
            "bytes": pa.array([None, *data[1:]]),
            "uri": pa.array([f"file://{tmp_path}/in/p/0.jpg", *["never read"] * 4]),
        },
    }
    table = pa.table(
        {
            **columns[form],
            "id": pa.array([10, 11, 12, 13, 14]),
            "tags": pa.array(
                [["a"], [], None, ["b", "c"], ["a"]], pa.large_list(pa.large_string())
            ),
            "neighbours": pa.array([1.5] * 5),
        }
    )
    pq.write_table(table, tmp_path / "in" / "x.parquet", row_group_size=2)
    rows = rows_of(inventory_of(tmp_path / "in" / "x.parquet", tmp_path), batch=3)
    assert column(rows, "image_id") == ["10", "11", "12", "13", "14"]
    assert column(rows, "id") == [10, 11, 12, 13, 14]
    assert column(rows, "bytes") == data
    assert column(rows, "input_tags") == [["a"], [], None, ["b", "c"], ["a"]]
    assert column(rows, "input_neighbours") == [1.5] * 5
    assert "image" not in rows[0]
    if form == "image":
        assert column(rows, "image_path") == names


@pytest.mark.parametrize("is_corpus", [True, False])
def test_social_tags_are_lists_of_strings_or_not_there(tmp_path: Path, is_corpus: bool) -> None:
    def inventory(words: pa.Array) -> Inventory:
        table = pa.table({"bytes": [b"1"], "tags": [["sea"]], "social_tags": words})
        pq.write_table(table, tmp_path / "x.parquet")
        return inventory_of(tmp_path / "x.parquet", tmp_path, is_corpus)

    for fine in (
        pa.nulls(1),
        pa.array([[]]),
        pa.array([["a"]]),
        pa.array([["a"]], pa.large_list(pa.large_string())),
    ):
        assert column(rows_of(inventory(fine)), "social_tags") == fine.to_pylist()
    for wrong in (pa.array(["a, b"]), pa.array([[1]])):
        with pytest.raises(CorpusError, match=r"x\.parquet: `social_tags` is of type .*a list of"):
            inventory(wrong)


def test_ids_of_rows_that_bring_none_tell_file_and_row(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        pq.write_table(pa.table({"bytes": [b"1", b"2"]}), tmp_path / "in" / folder / "0.parquet")
    pq.write_table(
        pa.table({"bytes": [b"3", b"4"], "id": pa.array([None, 7])}), tmp_path / "in" / "c.parquet"
    )
    rows = rows_of(inventory_of(tmp_path / "in", tmp_path))
    assert column(rows, "image_id") == ["a/0:0", "a/0:1", "b/0:0", "b/0:1", "c:0", "7"]


def test_columns_that_only_look_like_ours_are_the_callers(tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": [str(tmp_path / "1.jpg")],
            "bytes": [3],
            "image": ["a caption"],
            "id": [1.5],
            "tags": ["x"],
            "input_tags": ["y"],
            "score/linear": [0.5],
            "image_id": [["no id"]],
        }
    )
    write_files(tmp_path, {"1.jpg": b"1"})
    pq.write_table(table, tmp_path / "x.parquet")
    (row,) = rows_of(inventory_of(tmp_path / "x.parquet", tmp_path))
    assert row == {
        "image_id": str(tmp_path / "1.jpg"),
        "uri": str(tmp_path / "1.jpg"),
        "input_bytes": 3,
        "image": "a caption",
        "id": 1.5,
        "input_tags": "x",
        "input_input_tags": "y",
        "input_score/linear": 0.5,
        "input_image_id": ["no id"],
        "bytes": b"1",
        "error": None,
        "reason": None,
    }


def test_tars_with_their_tags(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "b.tar", {"x/2.jpg": b"2", "x/2.txt": b"sky|sea"})
    write_tar(
        tmp_path / "in" / "a.tar",
        {
            "x/0.png": b"0",
            "x/0.json": b'{"tags": ["dog"], "social_tags": ["rex"]}',
            "x/1.json": b'{"w": 1}',
        },
    )
    inventory = inventory_of(tmp_path / "in", tmp_path, is_corpus=True)
    rows = rows_of(inventory)
    assert column(rows, "image_id") == ["x/0", "x/1", "x/2"]
    assert column(rows, "__key__") == ["x/0", "x/1", "x/2"]
    assert column(rows, "bytes") == [b"0", None, b"2"]
    assert column(rows, "error") == [None, "empty", None]
    assert column(rows, "input_tags") == [["dog"], None, ["sky", "sea"]]
    assert column(rows, "social_tags") == [["rex"], None, None]
    assert rows[1]["json"] == '{"w": 1}'


def test_the_output_of_img2dataset_as_it_is(tmp_path: Path) -> None:
    for shard in ("00000", "00001"):
        members: dict[str, bytes] = {}
        records = []
        for number, status in enumerate(("success", "failed_to_download", "success")):
            record: dict[str, object] = {
                "caption": "a dog in the snow",
                "url": f"http://host/{shard}/{number}.jpg",
                "key": f"{shard}{number:04d}",
                "status": status,
                "error_message": None if status == "success" else "HTTP Error 404: Not Found",
                "width": 256,
                "height": 256,
                "original_width": 640,
                "original_height": 480,
                "exif": "{}",
                "sha256": "00",
            }
            records.append(record)
            if status == "success":
                members[f"{record['key']}.jpg"] = str(record["key"]).encode()
                members[f"{record['key']}.txt"] = b"a dog in the snow"
                members[f"{record['key']}.json"] = json.dumps(record, indent=4).encode()
        write_tar(tmp_path / "in" / f"{shard}.tar", members)
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "in" / f"{shard}.parquet")
        stats = {"count": 3, "successes": 2, "failed_to_download": 1, "failed_to_resize": 0}
        write_files(tmp_path / "in", {f"{shard}_stats.json": json.dumps(stats)})
    inventory = inventory_of(tmp_path / "in", tmp_path, is_corpus=True)
    assert (inventory.rows, inventory.ignored) == (4, 4)
    rows = rows_of(inventory)
    keys = ["000000000", "000000002", "000010000", "000010002"]
    assert column(rows, "image_id") == keys
    assert column(rows, "bytes") == [key.encode() for key in keys]
    assert rows[0]["input_tags"] == ["dog", "snow"]
    assert json.loads(str(rows[3]["json"]))["url"] == "http://host/00001/2.jpg"


@pytest.mark.parametrize("form", ["folder", "jsonl", "parquet", "tar"])
def test_object_storage_in_and_out(tmp_path: Path, form: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, data in PICTURES.items():
        memory.pipe_file(f"/bucket/{form}/{name}", data)
    lines = "".join(f'{{"file": "{name}", "tags": ["a"]}}\n' for name in PICTURES)
    if form == "jsonl":
        memory.pipe_file(f"/bucket/{form}/annotations.jsonl", lines.encode())
    if form == "parquet":
        sink = io.BytesIO()
        uris = [f"memory://bucket/{form}/{name}" for name in PICTURES]
        columns = {"uri": uris, "id": list(PICTURES), "tags": [["a"]] * len(uris)}
        pq.write_table(pa.table(columns), sink)
        memory.pipe_file(f"/bucket/{form}/x.parquet", sink.getvalue())
    if form == "tar":
        write_tar(tmp_path / "x.tar", PICTURES)
        memory.pipe_file(f"/bucket/{form}/x.tar", (tmp_path / "x.tar").read_bytes())
    store = Store("memory://bucket/out")
    inventory = take_inventory(f"memory://bucket/{form}/", store, is_corpus=form != "folder")
    rows = rows_of(inventory)
    ids = [name.removesuffix(".jpg") if form == "tar" else name for name in PICTURES]
    assert column(rows, "image_id") == ids
    assert column(rows, "bytes") == list(PICTURES.values())


def test_the_fingerprint_tells_a_changed_input(tmp_path: Path) -> None:
    root = write_files(tmp_path / "in", PICTURES)
    before = inventory_of(root, tmp_path).fingerprint
    assert inventory_of(root, tmp_path).fingerprint == before
    (root / "0.jpg").write_bytes(b"another picture")
    assert inventory_of(root, tmp_path).fingerprint != before
