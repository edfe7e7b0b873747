"""`tagloom index add` and `remove`: pictures into a bundle and out of it, from the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.bundle import load_bundle
from engine.fitting import Material, score_corpus
from engine.sample import draw_picture
from tests.conftest import Tagloom


def write_corpus(root: Path, pictures: list[tuple[str, bytes, list[str]]]) -> Path:
    root.mkdir()
    with (root / "annotations.jsonl").open("w", encoding="utf-8") as lines:
        for image_id, data, tags in pictures:
            (root / f"{image_id}.jpg").write_bytes(data)
            line = {"id": image_id, "file": f"{image_id}.jpg", "tags": tags}
            lines.write(json.dumps(line) + "\n")
    return root


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Six new pictures: four as they are, one without a known tag, one that is no picture."""
    drawn = [draw_picture(index, seed=3) for index in range(1000, 1006)]
    pictures = [(f"new_{place}", one.jpeg, list(one.tags)) for place, one in enumerate(drawn)]
    pictures[1] = (*pictures[1][:2], [*pictures[1][2], "zeppelin"])
    pictures[4] = (*pictures[4][:2], ["zeppelin", "airship"])
    pictures[5] = ("new_5", b"<html>", list(drawn[5].tags))
    return write_corpus(tmp_path / "more", pictures)


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Path]:
    def write(*ids: str) -> Path:
        path = tmp_path / f"{ids[0]}.txt"
        path.write_text("\n".join(ids) + "\n", encoding="utf-8")
        return path

    return write


def test_pictures_are_added_and_removed_again(
    tagloom: Tagloom,
    bundle_folder: Path,
    material: Material,
    more: Path,
    listed: Callable[..., Path],
    tmp_path: Path,
) -> None:
    grown_folder = tmp_path / "grown"
    there = ("--bundle", bundle_folder, "--corpus", more)
    said = tagloom("index", "add", *there, "--out", grown_folder)
    assert said.code == 0, said.err
    result = json.loads(said.out)
    grown = load_bundle(grown_folder)
    assert result == {
        "bundle_id": grown.id,
        "pictures": 284,
        "added": 4,
        "removed": 0,
        "passed_over": 1,
        "failed": 1,
        "unknown_tags": 2,
    }
    assert "2 tags are unknown to the bundle: left out ('zeppelin', 'airship')" in said.err
    assert "linear and the blend stay as they were fitted" in said.err
    annotator = grown.annotator("cca-knn")
    assert annotator.ids[-4:] == ("new_0", "new_1", "new_2", "new_3")  # type: ignore[attr-defined]
    assert grown.thumbnails.get("new_3") is not None
    assert "4 pictures added without fitting again" in grown.manifest.notes[-1]
    before = load_bundle(bundle_folder)
    old, new = (score_corpus(one.annotator("cca-knn"), material.corpus) for one in (before, grown))
    assert (old != new).any()
    names = listed("new_0", "new_1", "new_2", "new_3", "new_0")
    said = tagloom("index", "remove", "--bundle", grown_folder, "--ids", names, "--in-place")
    assert said.code == 0, said.err
    assert json.loads(said.out)["removed"] == 4
    shrunk = load_bundle(grown_folder)
    assert shrunk.id not in (before.id, grown.id)
    np.testing.assert_array_equal(score_corpus(shrunk.annotator("cca-knn"), material.corpus), old)
    assert shrunk.thumbnails.all() == before.thumbnails.all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown", "more", "new_0.txt"]


def test_mistakes_are_told_and_change_nothing(
    tagloom: Tagloom,
    bundle_folder: Path,
    material: Material,
    listed: Callable[..., Path],
    tmp_path: Path,
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_folder, copy)
    there = material.corpus.ids[0]
    drawn = draw_picture(0, seed=3)
    twice = write_corpus(tmp_path / "twice", [(there, drawn.jpeg, list(drawn.tags))])
    strange = write_corpus(tmp_path / "strange", [("new", drawn.jpeg, ["zeppelin"])])
    untold = (("--out", tmp_path / "out"), ("--in-place",))
    cases = [
        (("add", "--corpus", twice), untold, f"'{there}' is among the pictures of 'cca-knn'"),
        (("add", "--corpus", strange), untold, "has both pixels and a tag that the bundle knows"),
        (("remove", "--ids", listed("nobody")), untold, "'nobody' is not among the pictures"),
        (("remove", "--ids", tmp_path / "none.txt"), untold, "cannot be read as a list of ids"),
        (("remove", "--ids", listed("nobody")), ((),), "give one of --out and --in-place"),
        (
            ("remove", "--ids", listed(there)),
            (("--out", bundle_folder),),
            "a bundle is there already; name another folder",
        ),
    ]
    for (verb, *options), targets, message in cases:
        for target in targets:
            said = tagloom("index", verb, "--bundle", copy, *options, *target)
            assert said.code == 1, (verb, options)
            assert message in said.err, (verb, options, said.err)
    assert load_bundle(copy).id == load_bundle(bundle_folder).id
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"bundle", "twice", "strange", "nobody.txt", f"{there}.txt"}
