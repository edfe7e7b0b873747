"""`tagloom features`: a figure of a picture, and the features of a corpus as Parquet."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage import data

from engine import schema
from engine.features import FEATURES
from engine.features.describer import Describer
from engine.features.picture import square
from jobs.portrait import draw_portrait
from tests.conftest import Tagloom


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two photographs and a file that is no picture, with tags."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, pixels in (("cat", data.chelsea()), ("cup", data.coffee())):
        Image.fromarray(square(pixels)).save(folder / f"{name}.png")
    (folder / "none.png").write_bytes(b"<html>")
    lines = [json.dumps({"file": f"{name}.png", "tags": [name]}) for name in ("cat", "cup", "none")]
    (folder / "annotations.jsonl").write_text("\n".join(lines))
    return folder


def test_a_corpus_is_described(tagloom: Tagloom, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "described"
    asked = ("features", "extract", "--corpus", corpus, "--out", out, "--workers", 1)
    said = tagloom(*asked)
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert (result["rows"], result["described"]) == (3, 2)
    assert result["errors"] == {"not_an_image": 1}
    assert result["features"] == dict(FEATURES)
    parts = sorted(out.glob("part-*.parquet"))
    table = pq.read_table(parts[0])
    healthy = table.filter(table.column(schema.ERROR).is_null())
    assert healthy.column("input_tags").to_pylist() == [["cat"], ["cup"]]
    describer = Describer.load(out / "features")
    expected = describer([square(data.chelsea()), square(data.coffee())])
    for name in FEATURES:
        values = schema.tensor_values(healthy, schema.feature_column(name))
        np.testing.assert_array_equal(values, expected[name].astype(np.float16))
    # The same again does nothing; of another corpus it is refused.
    before = [path.stat().st_mtime_ns for path in parts]
    assert tagloom(*asked).code == 0
    assert [path.stat().st_mtime_ns for path in parts] == before
    (corpus / "annotations.jsonl").write_text(json.dumps({"file": "cat.png", "tags": ["cat"]}))
    refused = tagloom(*asked)
    assert refused.code == 1
    assert "another corpus" in refused.err


def test_an_output_with_other_things_in_it_is_refused(
    tagloom: Tagloom, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for out, words in (
        (tmp_path / "full", "is not empty"),
        (corpus / "described", "lies within"),
    ):
        said = tagloom("features", "extract", "--corpus", corpus, "--out", out)
        assert said.code == 1
        assert words in said.err


def test_a_corpus_without_a_picture_leaves_nothing_behind(
    tagloom: Tagloom, corpus: Path, tmp_path: Path
) -> None:
    for path in corpus.glob("*.png"):
        path.write_bytes(b"<html>")
    said = tagloom("features", "extract", "--corpus", corpus, "--out", tmp_path / "described")
    assert said.code == 1
    assert "no picture" in said.err
    assert not (tmp_path / "described").exists()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_picture_is_shown_as_its_features(
    tagloom: Tagloom, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = tagloom("features", "show", corpus / "cat.png")
    assert said.code == 0, said.err
    plain = read(tmp_path / "cat-features.png")
    assert plain.shape == (1060, 1500, 3)
    learned = Describer.learn([np.stack([square(data.chelsea())])])
    with_words = draw_portrait(data.chelsea(), "cat.png", learned)
    (tmp_path / "words.png").write_bytes(with_words)
    shown = read(tmp_path / "words.png")
    # The upper rows are of the picture alone; the last one shows the words.
    changed = (shown != plain).any(axis=(1, 2))
    assert changed[750:].mean() > 0.5
    assert shown.std() > 30


def test_any_picture_can_be_shown() -> None:
    for picture in (np.full((1, 1, 3), 7, np.uint8), np.zeros((30, 400, 3), np.uint8)):
        assert draw_portrait(picture, "plain").startswith(b"\x89PNG")


def test_what_cannot_be_shown_is_told(tagloom: Tagloom, corpus: Path, bundle_folder: Path) -> None:
    cat = corpus / "cat.png"
    for arguments, words in (
        ((corpus / "none.png",), "cannot be read"),
        ((corpus / "missing.png",), "cannot be read"),
        ((cat, "--out", corpus / "cat.pdf"), r".png"),
        ((cat, "--out", corpus / "cat-f.png", "--bundle", bundle_folder), "no describer"),
        ((cat, "--out", corpus / "cat-f.png", "--bundle", corpus), "no bundle"),
    ):
        said = tagloom("features", "show", *arguments)
        assert said.code == 1
        assert words in said.err
    assert not (corpus / "cat-f.png").exists()
