"""A job's folder: what is written is there whole, in any file system, and for any process."""

import pickle
from pathlib import Path

import fsspec
import pytest

from engine.errors import ConfigError
from jobs.scratch import scratch_beside
from jobs.store import Store, absolute


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "out")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/out"


def test_reads_what_it_wrote_and_names_it(url: str) -> None:
    store = Store(url)
    assert not store.exists()
    assert store.names() == []
    store.write("a.json", b"one")
    store.write("_job/deep.arrow", b"two")
    store.write("a.json", b"three")
    assert store.exists()
    assert store.names() == ["_job", "a.json"]
    assert store.read("a.json") == b"three"
    assert store.is_file("_job/deep.arrow")
    with store.open("_job/deep.arrow") as file:
        assert file.read() == b"two"
    store.remove("_job")
    store.remove("never-there")
    assert store.names() == ["a.json"]


def test_an_address_can_be_opened_by_whoever_gets_it(url: str) -> None:
    store = Store(url)
    store.write("_job/listing.arrow", b"rows")
    with fsspec.open(store.address("_job/listing.arrow"), "rb") as file:
        assert file.read() == b"rows"


def test_a_pickled_store_is_the_same_place(url: str) -> None:
    Store(url).write("x", b"1")
    assert pickle.loads(pickle.dumps(Store(url))).read("x") == b"1"


def test_a_relative_path_keeps_its_place_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("out")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = pickle.dumps(store)
    monkeypatch.chdir(elsewhere)
    pickle.loads(data).write("x", b"1")
    assert (tmp_path / "out" / "x").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/data/pictures/", "/data/pictures"),
        ("~/pictures", str(Path.home() / "pictures")),
        ("file:///data/a b", "/data/a b"),
        ("memory://bucket/x/", "memory:///bucket/x"),
        ("zip://*.jpg::/data/a.zip", "zip://*.jpg::/data/a.zip"),
    ],
)
def test_absolute(given: str, expected: str) -> None:
    assert absolute(given) == expected


def test_an_unknown_kind_of_url_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^nosuch://x: cannot be reached .*give a path"):
        Store("nosuch://x")


def test_a_draft_is_neither_listed_nor_left_by_a_sweep(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / ".draft-1-part.parquet").write_bytes(b"half")
    store.write("part.parquet", b"whole")
    assert store.names() == ["part.parquet"]
    store.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["part.parquet"]


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be written"):
        Store(str(tmp_path / "file" / "out")).write("x", b"1")
    (tmp_path / "out" / "x").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        Store(str(tmp_path / "out")).write("x", b"1")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        Store(str(tmp_path / "file")).names()


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    store.write("x", b"1")
    store.remove_if_empty()
    assert store.exists()
    store.remove("x")
    store.remove_if_empty()
    assert not store.exists()


def test_scratch_goes_with_the_parents_that_were_made_for_it(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "bundle"
    with scratch_beside(out) as work:
        assert Path(work).parent == tmp_path / "a" / "b"
    assert list(tmp_path.iterdir()) == []
    with scratch_beside(out):
        out.mkdir()
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def test_scratch_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "bundle"
    with pytest.raises(ConfigError, match=f"^{out}: cannot be written"), scratch_beside(out):
        pass
