"""The bundle: what was written is what is read, and whatever was changed since is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.annotators.prior import Prior
from engine.bundle import check_target, load_bundle, new_bundle, seal_bundle
from engine.calibration import Calibration
from engine.cut import Cut
from engine.embed import backbone
from engine.ensemble import Ensemble
from engine.errors import BundleError
from engine.fusion import Fusion
from engine.image import DecodeLimits
from engine.manifest import MANIFEST, BackboneEntry, Manifest
from engine.pretrained import write_imagenet_bundle
from engine.thumbnails import save_thumbnails
from engine.vocab import Vocabulary

THUMBNAILS = {"image-1": b"\xff\xd8one", "image-2": b"", "Bild ü": b"\xff\xd8three"}
FILES = (
    "annotators/base/prior.json",
    "cut.json",
    "ensemble.json",
    "fusion.json",
    "thumbnails/ids.json",
    "thumbnails/thumbnails.safetensors",
    "vocabulary.json",
)


def fill(draft: Path, tags: tuple[str, ...] = ("sea", "sky", "été")) -> None:
    vocabulary = Vocabulary(tags, tuple(range(len(tags), 0, -1)))
    vocabulary.save(draft / "vocabulary.json")
    fusion = Fusion({"base": 1.0}, {"base": Calibration()}, Calibration())
    Ensemble(fusion, Cut(0.25)).save(draft)
    (draft / "annotators" / "base").mkdir(parents=True)
    frequencies_V = np.linspace(0.9, 0.1, len(tags), dtype=np.float32)
    Prior(frequencies_V, vocabulary.digest).save(draft / "annotators" / "base")
    (draft / "thumbnails").mkdir()
    save_thumbnails(draft / "thumbnails", THUMBNAILS)
    spec = backbone("random")
    seal_bundle(
        draft,
        Manifest(
            vocabulary=vocabulary.digest,
            backbone=BackboneEntry(
                name=spec.name,
                weights_sha256=spec.weights_sha256(),
                geometry=spec.geometry,
                compute="torch",
            ),
            limits=DecodeLimits(),
            annotators={"base": "prior"},
            fingerprints={"corpus": "c", "config": "d"},
            metrics={"fused": {"f1@5": 1 / 3, "calibration_error": 0.1}},
            notes=("a note, été",),
        ),
    )


def write(folder: Path, overwrite: bool = False) -> Path:
    with new_bundle(folder, overwrite) as draft:
        fill(draft)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle")


def test_what_was_written_is_read(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.vocabulary.tags == ("sea", "sky", "été")
    assert bundle.cut == Cut(0.25)
    assert bundle.fusion.weights == {"base": 1.0}
    assert bundle.manifest.notes == ("a note, été",)
    assert sorted(bundle.manifest.files) == sorted(FILES)
    assert bundle.annotator("base").vocabulary_digest == bundle.vocabulary.digest
    assert {key: bundle.thumbnails.get(key) for key in THUMBNAILS} == THUMBNAILS
    assert bundle.thumbnails.get("unheard-of") is None
    bundle.check_backbone()


def test_the_same_content_is_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "elsewhere" / "again")
    assert load_bundle(again).id == load_bundle(folder).id
    assert (again / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    with new_bundle(tmp_path / "other", overwrite=False) as draft:
        fill(draft, ("sea", "sky", "dog"))
    assert load_bundle(tmp_path / "other").id != load_bundle(folder).id


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_changed_byte_is_noticed_and_the_file_named(
    name: str, place: float, folder: Path
) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        load_bundle(folder)


@pytest.fixture(scope="module")
def manifest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("manifest") / "bundle")


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_any_changed_byte_of_the_manifest_is_noticed(
    manifest_folder: Path, data: st.DataObject
) -> None:
    path = manifest_folder / MANIFEST
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    others = st.sampled_from(b" \t\r\n0123456789") | st.integers(0, 255)
    byte = data.draw(others.filter(lambda value: value != before[place]))
    try:
        path.write_bytes(before[:place] + bytes([byte]) + before[place + 1 :])
        with pytest.raises(BundleError, match=MANIFEST):
            load_bundle(manifest_folder)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed_and_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"x"', "{}", '{"format": 1}', "{"])
def test_what_is_no_manifest_is_refused(text: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(folder)


def test_another_format_is_refused_by_its_number(folder: Path) -> None:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content["format"] = 99
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match="bundle format 99, but this version reads 4"):
        load_bundle(folder)


@pytest.mark.parametrize("make", ["nothing", "empty folder", "file"])
def test_where_there_is_no_bundle_it_says_so(make: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    if make == "empty folder":
        path.mkdir()
    elif make == "file":
        path.write_bytes(b"")
    with pytest.raises(BundleError, match="no bundle there"):
        load_bundle(path)


def test_an_annotator_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with new_bundle(tmp_path / "bundle", overwrite=False) as draft:
        fill(draft)
        content = json.loads((draft / MANIFEST).read_text(encoding="utf-8"))
        del content["id"]
        (draft / MANIFEST).unlink()
        seal_bundle(draft, Manifest.model_validate(content | {"annotators": {"base": "oracle"}}))
    with pytest.raises(BundleError, match=r"no annotator of kind.*oracle"):
        load_bundle(tmp_path / "bundle")


def test_other_weights_than_those_it_was_fitted_with_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(folder)
    monkeypatch.setattr("engine.embed.zoo.Backbone.weights_sha256", lambda self: "0" * 64)
    with pytest.raises(BundleError, match="weights here are 000000000000"):
        bundle.check_backbone()


class TroubleError(Exception):
    """What a fit may die of."""


def fail_half_way(folder: Path, overwrite: bool) -> None:
    with new_bundle(folder, overwrite) as draft:
        fill(draft)
        raise TroubleError


def test_a_failed_fit_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TroubleError):
        fail_half_way(tmp_path / "bundle", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fit_keeps_the_older_bundle(folder: Path) -> None:
    before = load_bundle(folder).id
    with pytest.raises(TroubleError):
        fail_half_way(folder, overwrite=True)
    assert load_bundle(folder).id == before
    assert list(folder.parent.iterdir()) == [folder]


def test_overwriting_replaces_the_whole_bundle(folder: Path) -> None:
    (folder / "left-over.json").write_text("{}", encoding="utf-8")
    write(folder, overwrite=True)
    assert not (folder / "left-over.json").exists()
    load_bundle(folder)


def test_a_bundle_is_not_replaced_unasked(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"a bundle is there already.*--overwrite"):
        check_target(folder, overwrite=False)
    check_target(folder, overwrite=True)


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    check_target(tmp_path / "holiday", overwrite=False)
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"photo")
    with pytest.raises(BundleError, match="something that is no bundle"):
        check_target(tmp_path / "holiday", overwrite=True)
    with pytest.raises(BundleError, match="is a file"):
        check_target(tmp_path / "holiday" / "photo.jpg", overwrite=True)
    assert (tmp_path / "holiday" / "photo.jpg").read_bytes() == b"photo"


def test_a_copied_bundle_is_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert load_bundle(tmp_path / "copy").id == load_bundle(folder).id


def test_the_bundle_without_a_corpus_is_a_bundle(tmp_path: Path) -> None:
    for _ in range(2):
        write_imagenet_bundle(tmp_path / "imagenet", "random", "torch")
    bundle = load_bundle(tmp_path / "imagenet")
    (name,) = bundle.manifest.annotators
    assert bundle.annotator(name).vocabulary_digest == bundle.vocabulary.digest
    assert len(bundle.vocabulary) >= 100
