"""WebDataset tars: samples are found by their headers and read from wherever they begin."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pytest

from engine.errors import CorpusError
from jobs.tars import read_samples, scan_tar

FS = fsspec.filesystem("file")
LONG = "folder/" + "long-" * 40


def _tar(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> str:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def _all(path: str) -> list[dict[str, object]]:
    starts = list(scan_tar(FS, path))
    return list(read_samples(FS, path, starts[0].offset, len(starts)))


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_sample_can_be_read_from_its_own_start(tmp_path: Path, kind: int) -> None:
    names = ["a/1", "a/2", "ü/ж"]
    if kind != tarfile.USTAR_FORMAT:
        names.insert(1, LONG)
    members = [
        (f"{name}.{extension}", f"{name} {extension}".encode())
        for name in names
        for extension in ("txt", "jpg")
    ]
    path = _tar(tmp_path / "x.tar", members, kind)
    starts = list(scan_tar(FS, path))
    assert [start.key for start in starts] == names
    for place, start in enumerate(starts):
        (sample,) = read_samples(FS, path, start.offset, 1)
        assert sample["__key__"] == names[place]
        assert sample["bytes"] == f"{names[place]} jpg".encode()
        rest = list(read_samples(FS, path, start.offset, 99))
        assert [sample["__key__"] for sample in rest] == names[place:]


def test_tags_from_json_from_text_and_from_captions(tmp_path: Path) -> None:
    members = [
        ("1.jpg", b"p1"),
        ("1.json", b'{"tags": ["sky", "sea"], "social_tags": ["fun"]}'),
        ("2.PNG", b"p2"),
        ("2.json", b'{"tags": "dog|cat", "social_tags": "me;rex"}'),
        ("3.jpg", b"p3"),
        ("3.txt", b"hot dog\nbun\n"),
        ("4.jpg", b"p4"),
        ("4.txt", "a photo of the Sea, é".encode()),
        ("5.webp", b"p5"),
        ("6.json", b'{"tags": []}'),
        ("6.txt", b"not these"),
        ("7.txt", b"The big dog on the grass."),
    ]
    samples = _all(_tar(tmp_path / "x.tar", members))
    assert [sample["bytes"] for sample in samples] == [
        b"p1",
        b"p2",
        b"p3",
        b"p4",
        b"p5",
        None,
        None,
    ]
    assert [sample.get("tags") for sample in samples] == [
        ["sky", "sea"],
        ["dog", "cat"],
        ["hot dog", "bun"],
        ["a photo of the Sea", "é"],
        None,
        [],
        ["big", "dog", "grass"],
    ]
    assert samples[0]["json"] == '{"tags": ["sky", "sea"], "social_tags": ["fun"]}'
    assert [sample.get("social_tags") for sample in samples[:3]] == [["fun"], ["me", "rex"], None]


def test_folders_hidden_files_and_masks_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("./a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("./a/._1.jpg", "./a/1.seg.png", "./a/1.jpg", "./a/1.mask.png"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    (sample,) = _all(str(path))
    assert sample == {"__key__": "a/1", "bytes": b"./a/1.jpg"}


def test_a_key_that_comes_back_is_another_sample(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", [("1.jpg", b"a"), ("2.jpg", b"b"), ("1.jpg", b"c")])
    assert [start.key for start in scan_tar(FS, path)] == ["1", "2", "1"]


def test_an_empty_tar_has_no_samples(tmp_path: Path) -> None:
    assert list(scan_tar(FS, _tar(tmp_path / "x.tar", []))) == []


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1300, 1536, 2048])
def test_a_truncated_tar_is_told_wherever_it_was_cut(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.tar"
    _tar(path, [("1.jpg", b"a" * 600), ("2.jpg", b"b" * 100)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CorpusError, match=r"not a tar that can be read to its end .*fetch"):
        list(scan_tar(FS, str(path)))


def test_a_broken_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    _tar(path, [("1.jpg", b"a"), ("2.jpg", b"b")])
    data = bytearray(path.read_bytes())
    data[1024 + 10] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorpusError, match="no end of archive at byte 1024"):
        list(scan_tar(FS, str(path)))


@pytest.mark.parametrize("data", [b"", b"<html>no</html>", b"x" * 5000])
def test_what_is_no_tar_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=f"^{path}: not a tar"):
        list(scan_tar(FS, str(path)))


def test_broken_json_names_its_member(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", [("1.jpg", b"a"), ("1.json", b"{")])
    with pytest.raises(CorpusError, match=r"1\.json is not JSON .*mend"):
        _all(path)
