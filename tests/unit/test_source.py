"""Every form of input becomes chunks whose rows, read in order, are the input's, each once."""

import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorpusError
from jobs.chunks import Chunk, Inventory, rows_a_chunk
from jobs.reading import read_chunk
from jobs.source import MOST_PASSES, take_inventory
from jobs.store import Store

PICTURES = {f"{number}.jpg": f"picture {number}".encode() for number in range(5)}


def _inventory(source: Path | str, work: Path, is_corpus: bool = False) -> Inventory:
    return take_inventory(str(source), Store(str(work / "work")), is_corpus)


def _rows(inventory: Inventory, batch: int = 32) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for chunk in inventory.chunks:
        assert Chunk.from_json(chunk.to_json()) == chunk
        tables = list(read_chunk(chunk, batch, 10_000))
        assert all(table.schema == tables[0].schema for table in tables)
        rows.extend(row for table in tables for row in table.to_pylist())
    return rows


def _folder(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def _tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _column(rows: Sequence[Mapping[str, object]], name: str) -> list[object]:
    return [row[name] for row in rows]


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    root = _folder(tmp_path / "in", {"b/ü 1.jpg": b"1", "a.png": b"2", ".x.jpg": b"", "n.txt": ""})
    inventory = _inventory(root, tmp_path)
    assert (inventory.rows, inventory.ignored) == (2, 1)
    rows = _rows(inventory)
    assert _column(rows, "image_id") == ["a.png", "b/ü 1.jpg"]
    assert _column(rows, "bytes") == [b"2", b"1"]
    assert _column(rows, "error") == [None, None]


def test_a_picture_file(tmp_path: Path) -> None:
    root = _folder(tmp_path, {"in/only one.jpg": b"1"})
    (row,) = _rows(_inventory(root / "in" / "only one.jpg", tmp_path))
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
    root = _folder(tmp_path / "in", {**files, name: text})
    rows = _rows(_inventory(root / name if by_file else root, tmp_path, is_corpus=True))
    assert _column(rows, "image_id") == ["x", "y"]
    assert _column(rows, "id") == ["x", "y"]
    assert _column(rows, "bytes") == [b"picture 1", b"picture 0"]
    assert _column(rows, "input_tags") == [["sky", "sea"], []]
    assert rows[0]["input_error"] == "mine"
    assert _column(rows, "error") == [None, None]


@pytest.mark.parametrize("form", ["bytes", "large_bytes", "image", "image_bytes", "uri", "mixed"])
def test_parquet_with_pictures_in_every_way(tmp_path: Path, form: str) -> None:
    _folder(tmp_path / "in", {f"p/{name}": data for name, data in PICTURES.items()})
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
    rows = _rows(_inventory(tmp_path / "in" / "x.parquet", tmp_path), batch=3)
    assert _column(rows, "image_id") == ["10", "11", "12", "13", "14"]
    assert _column(rows, "id") == [10, 11, 12, 13, 14]
    assert _column(rows, "bytes") == data
    assert _column(rows, "input_tags") == [["a"], [], None, ["b", "c"], ["a"]]
    assert _column(rows, "input_neighbours") == [1.5] * 5
    assert "image" not in rows[0]
    if form == "image":
        assert _column(rows, "image_path") == names


def test_ids_of_rows_that_bring_none_tell_file_and_row(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        pq.write_table(pa.table({"bytes": [b"1", b"2"]}), tmp_path / "in" / folder / "0.parquet")
    pq.write_table(
        pa.table({"bytes": [b"3", b"4"], "id": pa.array([None, 7])}), tmp_path / "in" / "c.parquet"
    )
    rows = _rows(_inventory(tmp_path / "in", tmp_path))
    assert _column(rows, "image_id") == ["a/0:0", "a/0:1", "b/0:0", "b/0:1", "c:0", "7"]


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
    _folder(tmp_path, {"1.jpg": b"1"})
    pq.write_table(table, tmp_path / "x.parquet")
    (row,) = _rows(_inventory(tmp_path / "x.parquet", tmp_path))
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
    _tar(tmp_path / "in" / "b.tar", {"x/2.jpg": b"2", "x/2.txt": b"sky|sea"})
    _tar(
        tmp_path / "in" / "a.tar",
        {"x/0.png": b"0", "x/0.json": b'{"tags": ["dog"]}', "x/1.json": b'{"w": 1}'},
    )
    inventory = _inventory(tmp_path / "in", tmp_path, is_corpus=True)
    rows = _rows(inventory)
    assert _column(rows, "image_id") == ["x/0", "x/1", "x/2"]
    assert _column(rows, "__key__") == ["x/0", "x/1", "x/2"]
    assert _column(rows, "bytes") == [b"0", None, b"2"]
    assert _column(rows, "error") == [None, "empty", None]
    assert _column(rows, "input_tags") == [["dog"], None, ["sky", "sea"]]
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
        _tar(tmp_path / "in" / f"{shard}.tar", members)
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "in" / f"{shard}.parquet")
        stats = {"count": 3, "successes": 2, "failed_to_download": 1, "failed_to_resize": 0}
        _folder(tmp_path / "in", {f"{shard}_stats.json": json.dumps(stats)})
    inventory = _inventory(tmp_path / "in", tmp_path, is_corpus=True)
    assert (inventory.rows, inventory.ignored) == (4, 4)
    rows = _rows(inventory)
    keys = ["000000000", "000000002", "000010000", "000010002"]
    assert _column(rows, "image_id") == keys
    assert _column(rows, "bytes") == [key.encode() for key in keys]
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
        _tar(tmp_path / "x.tar", PICTURES)
        memory.pipe_file(f"/bucket/{form}/x.tar", (tmp_path / "x.tar").read_bytes())
    store = Store("memory://bucket/out")
    inventory = take_inventory(f"memory://bucket/{form}/", store, is_corpus=form != "folder")
    rows = _rows(inventory)
    ids = [name.removesuffix(".jpg") if form == "tar" else name for name in PICTURES]
    assert _column(rows, "image_id") == ids
    assert _column(rows, "bytes") == list(PICTURES.values())


def test_rows_with_an_id_that_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, ids in (("a", ["1", "2", "1"]), ("b", ["2", "3", "3"])):
        columns = {"bytes": [b"x"] * 3, "id": ids, "tags": [["a"]] * 3}
        pq.write_table(pa.table(columns), tmp_path / "in" / f"{name}.parquet")
    rows = _rows(_inventory(tmp_path / "in", tmp_path), batch=2)
    assert _column(rows, "error") == [None, None, *["duplicate_id"] * 2, None, "duplicate_id"]
    assert rows[3]["reason"] == "an earlier row of the input has the id '2' too"
    assert rows[3]["bytes"] is None
    message = (
        r"3 rows have an id that an earlier row has; the first is '1' in row 3 of"
    )
    with pytest.raises(CorpusError, match=message):
        _inventory(tmp_path / "in", tmp_path, is_corpus=True)


def test_the_fingerprint_tells_a_changed_input(tmp_path: Path) -> None:
    root = _folder(tmp_path / "in", PICTURES)
    before = _inventory(root, tmp_path).fingerprint
    assert _inventory(root, tmp_path).fingerprint == before
    (root / "0.jpg").write_bytes(b"another picture")
    assert _inventory(root, tmp_path).fingerprint != before


@pytest.mark.parametrize(
    ("files", "at", "message"),
    [
        ({}, "in", "there is nothing at that path; check the spelling"),
        ({"in/x.txt": b""}, "in", r"no pictures there \(1 other files\)"),
        ({"in/x.doc": b""}, "in/x.doc", "not a kind of file that holds pictures here"),
        ({"in/x.parquet": b"PAR1 no"}, "in", r"not a Parquet file that can be read .*fetch"),
        ({"in/x.parquet": b""}, "in", "not a Parquet file that can be read"),
        ({"in/x.tar": b"x"}, "in", "not a tar that can be read"),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, files: dict[str, bytes], at: str, message: str
) -> None:
    _folder(tmp_path, files)
    with pytest.raises(CorpusError, match=message):
        _inventory(tmp_path / at, tmp_path)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(CorpusError, match=r"no pictures there \(0 other files\)"):
        _inventory(tmp_path / "in", tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tags": [["a"]]}, r"no column with pictures; expected `bytes` .*found tags \(list"),
        ({"bytes": ["text"], "image": ["x"]}, r"found bytes \(string\), image \(string\)"),
        ({"bytes": pa.array([], pa.binary())}, "has no rows; give at least one picture"),
    ],
)
def test_parquet_without_pictures_is_told(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(CorpusError, match=message):
        _inventory(tmp_path / "x.parquet", tmp_path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (None, "there are pictures but no `tags` with them"),
        (pa.nulls(2), "there are pictures but no `tags` with them"),
        (pa.array([[], []]), "there are pictures but no `tags` with them"),
        (pa.array(["sky", "sea"]), "`tags` is of type string; expected a list of strings"),
        (pa.array([[1], []]), "expected a list of strings, such as"),
    ],
)
def test_a_corpus_has_tags(tmp_path: Path, tags: pa.Array | None, message: str) -> None:
    columns = {"bytes": pa.array([b"1", b"2"])}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(columns if tags is None else {**columns, "tags": tags}), path)
    assert _inventory(path, tmp_path).rows == 2
    with pytest.raises(CorpusError, match=f"^{path}: .*{message}"):
        _inventory(path, tmp_path, is_corpus=True)


@pytest.mark.parametrize("line", ['{"file": "0.jpg"}', '{"file": "0.jpg", "tags": []}'])
def test_a_corpus_of_files_has_tags(tmp_path: Path, line: str) -> None:
    root = _folder(tmp_path / "in", {**PICTURES, "annotations.jsonl": line})
    with pytest.raises(CorpusError, match="there are pictures but no `tags` with them"):
        _inventory(root, tmp_path, is_corpus=True)
    (root / "annotations.jsonl").unlink()
    with pytest.raises(CorpusError, match="there are pictures but no `tags` with them"):
        _inventory(root, tmp_path, is_corpus=True)


def test_chunks_grow_with_the_job_and_stay_in_bounds() -> None:
    assert rows_a_chunk(1) == 64
    assert rows_a_chunk(20_000) == 312
    assert rows_a_chunk(1_000_000) == 1024
    assert rows_a_chunk(100_000_000) == 10_000


FILES = st.lists(st.lists(st.integers(0, 60), max_size=8), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(files=FILES, size=st.integers(1, 50), batch=st.integers(1, 40), has_ids=st.booleans())
def test_any_layout_of_row_groups_gives_every_row_once_in_order(
    files: list[list[int]], size: int, batch: int, has_ids: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected: list[str] = []
        for number, groups in enumerate(files):
            columns = pa.schema([("bytes", pa.binary()), *([("id", pa.int64())] * has_ids)])
            row = 0
            with pq.ParquetWriter(f"{folder}/{number}.parquet", columns) as writer:
                for rows in groups:
                    names = [f"{number}:{row + place}" for place in range(rows)]
                    table = {"bytes": [name.encode() for name in names]}
                    ids = range(len(expected), len(expected) + rows)
                    writer.write_table(pa.table(table | ({"id": ids} if has_ids else {}), columns))
                    expected += names
                    row += rows
        if not expected:
            return
        with patch("jobs.source.rows_a_chunk", lambda _: size):
            inventory = _inventory(folder, Path(folder) / "_work")
        rows = _rows(inventory, batch)
    assert [bytes(row["bytes"]).decode() for row in rows] == expected
    ids = [str(place) for place in range(len(expected))] if has_ids else expected
    assert _column(rows, "image_id") == ids
    assert all(chunk.rows > 0 for chunk in inventory.chunks)
    assert len({chunk.name for chunk in inventory.chunks}) == len(inventory.chunks)
    largest = max((rows for groups in files for rows in groups), default=0)
    # A tail of small groups may come before a step into a large one.
    assert max(chunk.rows for chunk in inventory.chunks) < 2 * max(size, -(-largest // MOST_PASSES))


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=3), size=st.integers(1, 30))
def test_any_number_of_samples_in_tars_gives_each_once_in_order(
    counts: list[int], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = []
        for number, count in enumerate(counts):
            keys = [f"{number}/{place}" for place in range(count)]
            _tar(Path(folder) / f"{number}.tar", {f"{key}.jpg": key.encode() for key in keys})
            expected += keys
        if not expected:
            return
        with patch("jobs.source.rows_a_chunk", lambda _: size):
            rows = _rows(_inventory(folder, Path(folder) / "_work"), 7)
    assert _column(rows, "image_id") == expected
    assert _column(rows, "bytes") == [key.encode() for key in expected]
