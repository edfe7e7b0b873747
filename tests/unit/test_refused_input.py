"""What cannot be read, or not be learned from, is told by name; double ids are found."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import CorpusError
from tests.inputs import PICTURES, column, inventory_of, rows_of, write_files


def test_rows_with_an_id_that_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, ids in (("a", ["1", "2", "1"]), ("b", ["2", "3", "3"])):
        columns = {"bytes": [b"x"] * 3, "id": ids, "tags": [["a"]] * 3}
        pq.write_table(pa.table(columns), tmp_path / "in" / f"{name}.parquet")
    rows = rows_of(inventory_of(tmp_path / "in", tmp_path), batch=2)
    assert column(rows, "error") == [None, None, *["duplicate_id"] * 2, None, "duplicate_id"]
    assert rows[3]["reason"] == "an earlier row of the input has the id '2' too"
    assert rows[3]["bytes"] is None
    message = r"3 rows have an id that an earlier row has; the first is '1' in row 3 of"
    with pytest.raises(CorpusError, match=message):
        inventory_of(tmp_path / "in", tmp_path, is_corpus=True)


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
    write_files(tmp_path, files)
    with pytest.raises(CorpusError, match=message):
        inventory_of(tmp_path / at, tmp_path)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(CorpusError, match=r"no pictures there \(0 other files\)"):
        inventory_of(tmp_path / "in", tmp_path)


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
        inventory_of(tmp_path / "x.parquet", tmp_path)


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
    assert inventory_of(path, tmp_path).rows == 2
    with pytest.raises(CorpusError, match=f"^{path}: .*{message}"):
        inventory_of(path, tmp_path, is_corpus=True)


@pytest.mark.parametrize("line", ['{"file": "0.jpg"}', '{"file": "0.jpg", "tags": []}'])
def test_a_corpus_of_files_has_tags(tmp_path: Path, line: str) -> None:
    root = write_files(tmp_path / "in", {**PICTURES, "annotations.jsonl": line})
    with pytest.raises(CorpusError, match="there are pictures but no `tags` with them"):
        inventory_of(root, tmp_path, is_corpus=True)
    (root / "annotations.jsonl").unlink()
    with pytest.raises(CorpusError, match="there are pictures but no `tags` with them"):
        inventory_of(root, tmp_path, is_corpus=True)
