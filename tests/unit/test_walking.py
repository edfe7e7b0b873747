"""Files below a folder come sorted by path, page by page, from every kind of store."""

import tempfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorpusError
from jobs.chunks import Chunk, Totals
from jobs.source import list_chunks
from jobs.store import Store
from jobs.walking import File, walk
from tests.inputs import column, inventory_of, rows_of, write_files

FS = fsspec.filesystem("file")
NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "a.b", "a!", "é", "ż0"]), min_size=1, max_size=3),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(names=NAMES)
def test_paths_are_sorted_as_a_whole_whatever_the_folders(names: list[list[str]]) -> None:
    paths = sorted({"/".join([*(f"{part}-" for part in name[:-1]), name[-1]]) for name in names})
    with tempfile.TemporaryDirectory() as folder:
        root = write_files(Path(folder) / "in", dict.fromkeys(paths, b""))
        found = [file.name for page in walk(FS, f"{root}/") for file in page]
    assert found == paths


def test_a_folder_is_listed_by_name_without_what_is_hidden(tmp_path: Path) -> None:
    names = ("b.JPG", "a/ñandú żółć 1.png", "a/x.heic", ".hidden.jpg", ".git/y.jpg", "n.txt")
    inventory = inventory_of(
        write_files(tmp_path / "in", dict.fromkeys((*names, "_c.webp"), b"x")), tmp_path
    )
    rows = rows_of(inventory)
    assert column(rows, "image_id") == ["_c.webp", "a/x.heic", "a/ñandú żółć 1.png", "b.JPG"]
    assert inventory.ignored == 1


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    root = write_files(tmp_path / "in", {"notes.txt": ""})
    with pytest.raises(CorpusError, match=r"no pictures there \(1 other files\); name a folder"):
        inventory_of(root, tmp_path)


def test_a_remote_folder_is_listed_by_url(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/bucket/in/a/1.jpg", b"x")
    (row,) = rows_of(inventory_of("memory://bucket/in", tmp_path))
    assert (row["image_id"], row["uri"]) == ("a/1.jpg", "memory:///bucket/in/a/1.jpg")


class Bucket:
    """As much of a bucket with many objects as a listing asks for."""

    protocol = ("s3", "s3a")

    def __init__(self, keys: list[str], page: int) -> None:
        self.keys = sorted(keys)
        self.page = page
        self.asked: list[str] = []

    def exists(self, path: str) -> bool:
        return path == "bucket/in"

    def isfile(self, path: str) -> bool:
        return path.removeprefix("bucket/") in self.keys

    def unstrip_protocol(self, path: str) -> str:
        return f"s3://{path}"

    def call_s3(self, method: str, **named: str) -> dict[str, object]:
        assert method == "list_objects_v2"
        assert named["Bucket"] == "bucket"
        token = named.get("ContinuationToken", "0")
        self.asked.append(token)
        keys = [key for key in self.keys if key.startswith(named["Prefix"])]
        stop = int(token) + self.page
        content = [{"Key": k, "Size": 3, "ETag": f"e-{k}"} for k in keys[int(token) : stop]]
        more = {"IsTruncated": True, "NextContinuationToken": str(stop)}
        return {"Contents": content, **(more if stop < len(keys) else {"IsTruncated": False})}


def test_a_bucket_is_listed_page_by_page() -> None:
    bucket = Bucket(["in/", "in/a/1.jpg", "in/b.jpg", "in/b/", "in/b/2.jpg", "into/3.jpg"], 2)
    pages = walk(bucket, "bucket/in")
    assert next(pages) == [File("bucket/in/a/1.jpg", "a/1.jpg", "bucket/in/a/1.jpg:3:e-in/a/1.jpg")]
    assert bucket.asked == ["0"]
    assert [[file.name for file in page] for page in pages] == [["b.jpg"], ["b/2.jpg"]]
    assert bucket.asked == ["0", "2", "4"]


def test_the_first_chunk_does_not_wait_for_the_end_of_a_long_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket([f"in/{number:06d}.jpg" for number in range(20_000)], 1000)
    monkeypatch.setattr("jobs.source.open_fs", lambda _: (bucket, "bucket/in"))
    listed = list_chunks("s3://bucket/in", Store(str(tmp_path)), is_corpus=False)
    first = next(listed)
    assert isinstance(first, Chunk)
    assert first.rows == 64
    assert len(bucket.asked) == 1
    *rest, totals = listed
    assert isinstance(totals, Totals)
    assert totals.rows == 20_000 == 64 + sum(one.rows for one in rest if isinstance(one, Chunk))
    assert len(bucket.asked) == 20
