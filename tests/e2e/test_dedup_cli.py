"""`tagloom dedup`: planted copies and leaks are found, and nothing else is."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.image import DecodeLimits, decode
from engine.sample import SamplePicture
from jobs.console import Console
from jobs.lease import held
from jobs.store import Store
from tests.conftest import Tagloom

# The tests' random backbone tells little apart; the drawn pictures' hashes do.
THRESHOLD = ("--threshold", 0.95)


def jpeg(image: Image.Image, quality: int = 75) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def corpora(tmp_path: Path, pictures: list[SamplePicture]) -> tuple[Path, Path]:
    """Train and test: of pictures 0 to 8 with copies of four, and of 20 to 23 with three leaks."""
    opened = [Image.fromarray(decode(one.jpeg, DecodeLimits())) for one in pictures[:24]]
    width, height = opened[3].size
    edge = round(0.01 * width)
    train = {f"{place:02}.jpg": pictures[place].jpeg for place in range(9)}
    train |= {
        "bytes.jpg": pictures[0].jpeg,
        "resaved.png": png(opened[1]),
        "larger.jpg": jpeg(opened[2].resize((3 * width // 2, 3 * height // 2))),
        "cropped.jpg": jpeg(opened[3].crop((edge, edge, width - edge, height - edge))),
        "mirrored.jpg": jpeg(opened[4].transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "broken.jpg": b"<html>",
    }
    test = {f"{place}.jpg": pictures[place].jpeg for place in range(20, 24)}
    test |= {
        "bytes.jpg": pictures[5].jpeg,
        "small.jpg": jpeg(opened[6].resize((width // 2, height // 2)), 50),
        "of_larger.jpg": jpeg(opened[2], 60),
        "empty.jpg": b"",
    }
    for name, files in (("train", train), ("test", test)):
        (tmp_path / name).mkdir()
        for file, data in files.items():
            (tmp_path / name / file).write_bytes(data)
    return tmp_path / "train", tmp_path / "test"


def read_groups(out: Path) -> list[dict[str, tuple[str, str | None]]]:
    """Of each group, by corpus and id: the role and the kind."""
    rows = pq.read_table(out / "groups.parquet").to_pylist()
    groups: dict[int, dict[str, tuple[str, str | None]]] = {}
    for row in rows:
        key = f"{row['corpus']}/{row['image_id']}"
        groups.setdefault(row["group"], {})[key] = (row["role"], row["kind"])
    return [groups[number] for number in sorted(groups)]


def test_copies_and_leaks_are_found(
    tagloom: Tagloom, corpora: tuple[Path, Path], bundle_folder: Path, tmp_path: Path
) -> None:
    train, test = corpora
    out = tmp_path / "out"
    asked = ("dedup", "--input", train, "--bundle", bundle_folder, *THRESHOLD)
    both = (*asked, "--against", test, "--out", out)
    said = tagloom(*both, "--workers", 2)
    assert said.code == 0, said.err
    assert read_groups(out) == [
        {"input/00.jpg": ("keep", None), "input/bytes.jpg": ("drop", "exact-bytes")},
        {"input/01.jpg": ("keep", None), "input/resaved.png": ("drop", "exact-pixels")},
        {
            "against/of_larger.jpg": ("keep", None),
            "input/02.jpg": ("drop", "near"),
            "input/larger.jpg": ("drop", "near"),
        },
        {"input/03.jpg": ("keep", None), "input/cropped.jpg": ("drop", "near")},
        {"against/bytes.jpg": ("keep", None), "input/05.jpg": ("drop", "exact-bytes")},
        {"against/small.jpg": ("keep", None), "input/06.jpg": ("drop", "near")},
    ]
    table = pq.read_table(out / "groups.parquet").to_pandas()
    far = table[table.image_id == "larger.jpg"].iloc[0]
    assert 0.95 <= far.cosine < 1
    assert 0 <= far.hash_distance <= 10
    dropped = (out / "drop.txt").read_text().split()
    expected = ["02.jpg", "03.jpg", "05.jpg", "06.jpg", "bytes.jpg", "cropped.jpg", "larger.jpg"]
    assert sorted(dropped) == sorted([*(set(expected) - {"03.jpg"}), "resaved.png"])
    result = json.loads(said.out)
    assert result == json.loads((out / "manifest.json").read_text())
    assert result["rows"] == {"input": 15, "against": 8}
    assert result["failed"] == {"input": {"not_an_image": 1}, "against": {"empty": 1}}
    told = ("groups", "exact_bytes", "exact_pixels", "near", "leaking_groups", "leaking_pictures")
    assert [result[name] for name in told] == [6, 2, 1, 4, 3, 3]
    assert "3 pictures of --against, in 3 groups, have a copy in --input" in said.err

    # Another rule reads the parts again; of one worker they are the same to the byte.
    parts = sorted((out / "_parts").rglob("part-*.parquet"))
    stamps = [path.stat().st_mtime_ns for path in parts]
    before = (out / "groups.parquet").read_bytes()
    said = tagloom(*both, "--hash-distance", 0)
    assert (said.code, json.loads(said.out)["exact_bytes"]) == (0, 2)
    assert (out / "groups.parquet").read_bytes() != before
    assert [path.stat().st_mtime_ns for path in parts] == stamps
    said = tagloom(*both, "--max-index-memory", "1KB")
    assert said.code == 1
    assert "the least that would do" in said.err
    for path in parts[::2]:
        path.unlink()
    assert tagloom(*both, "--workers", 1).code == 0
    assert (out / "groups.parquet").read_bytes() == before

    # So are two runs at once, and other pictures.
    with held(Store(str(out)), Console(quiet=True)):
        said = tagloom(*both)
    assert said.code == 1
    assert "another job writes there" in said.err
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(train / "new.png")
    said = tagloom(*both)
    assert said.code == 1
    assert "compares other pictures" in said.err
    assert (out / "groups.parquet").read_bytes() == before


def test_what_cannot_be_compared_is_told_and_leaves_nothing(
    tagloom: Tagloom, bundle_folder: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "none.jpg").write_bytes(b"<html>")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    out = ("--out", tmp_path / "out")
    for options, words in (
        ((*out, "--against", corpus), "names the same pictures"),
        (("--out", tmp_path / "full"), "holds no duplicates"),
        (("--out", corpus / "out"), "lies within"),
        ((*out, "--backbone", "resnet"), "there is no backbone 'resnet'"),
        ((*out, "--max-index-memory", "much"), "no amount of memory"),
        ((*out, "--bundle", bundle_folder), "no picture can be used"),
    ):
        said = tagloom("dedup", "--input", corpus, *options)
        assert said.code == 1, options
        assert words in said.err
    assert not (tmp_path / "out").exists()
