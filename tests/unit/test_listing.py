"""Annotation files become one listing; what is broken names its line."""

from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from engine.errors import CorpusError
from jobs.listing import list_annotations, split_tags
from tests.inputs import write_files

FS = fsspec.filesystem("file")


def _write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_json_lines_with_ids_tags_and_columns_of_the_callers(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "annotations.jsonl",
        '\ufeff{"file": "images/a b.jpg", "id": 7, "tags": ["sky"], "bytes": 10, "uri": "mine"}\n'
        "\n"
        '{"file": "../out.jpg", "id": 8, "tags": null, "exif": {}, "size": {"w": 3}}\n'
        '{"file": "https://host/c.jpg", "tags": []}\n',
    )
    table = list_annotations(FS, path, must_exist=False)
    assert table.column("image_id").to_pylist() == ["7", "8", "https://host/c.jpg"]
    assert table.column("uri").to_pylist() == [
        str(tmp_path / "images/a b.jpg"),
        str(tmp_path.parent / "out.jpg"),
        "https://host/c.jpg",
    ]
    assert table.column("id").to_pylist() == [7, 8, None]
    assert table.column("tags").to_pylist() == [["sky"], None, []]
    assert table.column("bytes").to_pylist() == [10, None, None]
    assert table.column("input_uri").to_pylist() == ["mine", None, None]
    assert table.column("size").to_pylist() == [None, {"w": 3}, None]
    # Parquet has no type for a struct without fields.
    assert table.column("exif").to_pylist() == [None, "{}", None]


@pytest.mark.parametrize("field", ["file", "file_name", "filename", "image", "path"])
def test_the_usual_names_of_the_file_field(tmp_path: Path, field: str) -> None:
    path = _write(tmp_path / "annotations.jsonl", f'{{"{field}": "a.jpg"}}\n')
    table = list_annotations(FS, path, must_exist=False)
    assert table.column("image_id").to_pylist() == ["a.jpg"]
    assert table.column("uri").to_pylist() == [str(tmp_path / "a.jpg")]


def test_csv_with_quotes_byte_order_mark_and_separators(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "annotations.csv",
        '\ufefffile,tags,note\r\n"a, b.jpg",sky|sea,"x, y"\r\nc.jpg,"one, two",\r\nd.jpg,,z\r\n',
    )
    table = list_annotations(FS, path, must_exist=False)
    assert table.column("image_id").to_pylist() == ["a, b.jpg", "c.jpg", "d.jpg"]
    assert table.column("tags").to_pylist() == [["sky", "sea"], ["one", "two"], []]
    assert table.column("note").to_pylist() == ["x, y", "", "z"]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a;b c; ", ["a", "b c"]),
        ("a|b;c", ["a", "b;c"]),
        ("hot dog", ["hot dog"]),
        ("", []),
        (" , ", []),
    ],
)
def test_split_tags(text: str, tags: list[str]) -> None:
    assert split_tags(text) == tags


GOOD = '{"file": "a.jpg"}\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("annotations.jsonl", "", "has no lines"),
        ("annotations.jsonl", GOOD + "{nope\n", r"line 2: not JSON .*mend the line"),
        ("annotations.jsonl", GOOD.encode() + b'{"file": "\xff"}\n', "line 2: not JSON"),
        ("annotations.jsonl", GOOD + "[1]\n", "line 2: found list, expected an object"),
        ("annotations.jsonl", GOOD + '{"tags": ["x"]}\n', "line 2: no `file` in it"),
        ("annotations.jsonl", GOOD + '{"file": 3}\n', "line 2: no `file` in it"),
        ("annotations.jsonl", GOOD + '{"file": "b", "tags": "x"}\n', "line 2: `tags` is 'x'"),
        ("annotations.jsonl", GOOD + '{"file": "b", "tags": [1]}\n', "expected a list of strings"),
        (
            "annotations.jsonl",
            '{"file": "a", "n": 1}\n{"file": "b", "n": "x"}\n',
            r"field `n` is of several kinds \(int, str\)",
        ),
        ("annotations.jsonl", '{"file": "a", "n": 99999999999999999999}', "whole numbers in 64"),
        ("annotations.jsonl", '{"file": "a", "n": "\\ud800"}', "text in Unicode"),
        ("annotations.jsonl", '{"file": "\\ud800"}', "text in Unicode"),
        ("annotations.csv", "file,tags\n", "has no lines"),
        ("annotations.csv", "file,tags\na.jpg,x\nb.jpg,x,y\n", "line 3: has another number of col"),
        ("annotations.csv", "file,tags\na.jpg\n", "line 2: has another number of columns"),
        ("annotations.csv", "name,tags\na.jpg,x\n", "line 2: no `file` in it"),
        ("annotations.csv", b"file,tags\n\xff\xfe.jpg,x\n", "not CSV in UTF-8"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    path = _write(tmp_path / name, text)
    with pytest.raises(CorpusError, match=message) as caught:
        list_annotations(FS, path, must_exist=False)
    assert str(caught.value).startswith(path)


def test_a_corpus_must_have_its_pictures(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_files(corpus, {"a.jpg": b"x"})
    write_files(tmp_path, {"outside.jpg": b"x", "real/b.jpg": b"x"})
    (corpus / "link").symlink_to(tmp_path / "real")
    lines = GOOD + '{"file": "../outside.jpg"}\n{"file": "link/b.jpg"}\n'
    table = list_annotations(FS, _write(corpus / "annotations.jsonl", lines), must_exist=True)
    assert isinstance(table, pa.Table)
    assert table.num_rows == 3
    path = _write(corpus / "annotations.jsonl", lines + '{"file": "gone.jpg"}\n')
    with pytest.raises(CorpusError, match=f"line 4: the picture {corpus}/gone.jpg is not there"):
        list_annotations(FS, path, must_exist=True)
    assert list_annotations(FS, path, must_exist=False).num_rows == 4
