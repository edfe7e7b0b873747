"""What is broken is named with its mend, by exit code 1, and nothing half-written stays."""

import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.sample import SamplePicture

QUICK = ("--set", "embed.backbone=random", "--set", "embed.compute=openvino", "--workers", 1)


@pytest.fixture
def corpus(pictures: list[SamplePicture], tmp_path: Path) -> Path:
    """A small corpus that is whole, to be broken."""
    root = tmp_path / "corpus"
    (root / "images").mkdir(parents=True)
    for number in range(3):
        (root / "images" / f"{number}.jpg").write_bytes(pictures[number].jpeg)
    _annotate(root, [(f"images/{number}.jpg", ["sky", "sea"]) for number in range(3)])
    return root


def _annotate(root: Path, lines: Sequence[tuple[str, list[str]]]) -> None:
    records = [json.dumps({"file": file, "tags": tags}) + "\n" for file, tags in lines]
    (root / "annotations.jsonl").write_text("".join(records))


def _append(root: Path, line: str) -> None:
    with (root / "annotations.jsonl").open("a") as lines:
        lines.write(line + "\n")


def _missing_picture(root: Path) -> None:
    (root / "images" / "1.jpg").unlink()


def _no_tags(root: Path) -> None:
    _annotate(root, [(f"images/{number}.jpg", []) for number in range(3)])


def _one_tag(root: Path) -> None:
    _annotate(root, [(f"images/{number}.jpg", ["Sky"]) for number in range(3)])


def _one_picture(root: Path) -> None:
    _annotate(root, [("images/0.jpg", ["sky", "sea"])])


def _twice(root: Path) -> None:
    _append(root, '{"file": "images/0.jpg", "tags": ["sky"]}')


def _empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def _ragged(root: Path) -> None:
    (root / "annotations.jsonl").unlink()
    (root / "annotations.csv").write_text("file,tags\nimages/0.jpg,sky\nimages/1.jpg,sky,sea\n")


def _corrupt_parquet(root: Path) -> None:
    _empty(root)
    pq.write_table(pa.table({"bytes": [b"1"], "tags": [["a"]]}), root / "x.parquet")
    (root / "x.parquet").write_bytes((root / "x.parquet").read_bytes()[:-9])


def _truncated_tar(root: Path) -> None:
    _, images = shutil.copytree(root, root.parent / "copy"), root.parent / "copy" / "images"
    _empty(root)
    with tarfile.open(root / "x.tar", "w") as tar:
        for path in sorted(images.iterdir()):
            tar.add(path, path.name)
    (root / "x.tar").write_bytes((root / "x.tar").read_bytes()[:3000])


def _no_picture_decodes(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.write_bytes(b"<html>")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a missing picture": (_missing_picture, "line 2: the picture {0}/images/1.jpg is not there;"),
    "a bad line": (lambda r: _append(r, "{nope"), "line 4: not JSON"),
    "a line that is no object": (lambda r: _append(r, "[]"), "line 4: found list, expected an"),
    "no tags at all": (_no_tags, "{0}/annotations.jsonl: there are pictures but no `tags` with"),
    "double ids": (_twice, "1 rows have an id that an earlier row has; the first is 'images/0."),
    "an empty folder": (_empty, "{0}: no pictures there (0 other files); name a folder"),
    "nothing at all": (lambda r: shutil.rmtree(r), "{0}: there is nothing at that path; check"),
    "a ragged CSV": (_ragged, "annotations.csv, line 3: has another number of columns than the"),
    "a corrupt Parquet": (_corrupt_parquet, "x.parquet: not a Parquet file that can be read ("),
    "a truncated tar": (_truncated_tar, "x.tar: not a tar that can be read to its end ("),
}
ONLY_TO_LEARN: dict[str, tuple[Callable[[Path], None], str]] = {
    "one tag only": (_one_tag, "the corpus has 'sky', of which 1 occur 1 times or more; at least"),
    "one picture only": (_one_picture, "the corpus has 1 usable tagged picture(s); at least two"),
    "no picture decodes": (_no_picture_decodes, "{0}: 3 of 3 pictures cannot be used (3 not_an_"),
}
ONLY_TAGS = {"a missing picture", "no tags at all", "double ids"}


def _listing(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def _check(tagloom, tmp_path: Path, message: str, *command: object) -> None:
    before = _listing(tmp_path)
    run = tagloom(*command)
    assert run.code == 1
    told = run.err[run.err.index("error: ") :]
    assert message in told
    assert told.count("\n") == 1, "one line, and no trace"
    assert "Traceback" not in run.err
    assert run.out == ""
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("name", [*BROKEN, *ONLY_TO_LEARN])
def test_fit_refuses_a_broken_corpus(tagloom, name: str, corpus: Path, tmp_path: Path) -> None:
    spoil, message = {**BROKEN, **ONLY_TO_LEARN}[name]
    spoil(corpus)
    out = tmp_path / "new" / "bundle"
    text = message.format(corpus)
    _check(tagloom, tmp_path, text, "fit", "--corpus", corpus, "--out", out, *QUICK)


@pytest.mark.parametrize("name", BROKEN)
def test_evaluate_refuses_a_broken_corpus(
    tagloom, name: str, corpus: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    spoil, message = BROKEN[name]
    spoil(corpus)
    command = ("evaluate", "--corpus", corpus, "--bundle", bundle_folder)
    out = tmp_path / "new" / "figures"
    _check(tagloom, tmp_path, message.format(corpus), *command, "--out", out)


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - ONLY_TAGS))
def test_annotate_refuses_what_it_cannot_read(
    tagloom, name: str, corpus: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    spoil, message = BROKEN[name]
    spoil(corpus)
    command = ("annotate", "--input", corpus, "--bundle", bundle_folder)
    _check(tagloom, tmp_path, message.format(corpus), *command, "--output", tmp_path / "out")


def test_an_unknown_kind_of_file_is_refused(tagloom, bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"x")
    command = ("annotate", "--input", tmp_path / "notes.docx", "--bundle", bundle_folder)
    message = "notes.docx: not a kind of file that holds pictures here; name a folder, or a"
    _check(tagloom, tmp_path, message, *command, "--output", tmp_path / "out")


def _commands(corpus: Path, bundle: Path, out: Path) -> dict[str, tuple[object, ...]]:
    return {
        "fit": ("fit", "--corpus", corpus, "--out", out, *QUICK),
        "evaluate": ("evaluate", "--corpus", corpus, "--bundle", bundle, "--out", out),
        "annotate": ("annotate", "--input", corpus, "--bundle", bundle, "--output", out),
        "sample": ("corpus", "sample", "--out", out, "--images", 1),
        "split": ("corpus", "split", "--corpus", corpus, "--out", out),
    }


@pytest.mark.parametrize("command", ["fit", "evaluate", "annotate", "sample", "split"])
def test_what_is_there_is_not_written_over(
    tagloom, command: str, corpus: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    words = _commands(corpus, bundle_folder, out)[command]
    _check(tagloom, tmp_path, f"{out}: ", *words)
    assert (out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("command", ["fit", "evaluate", "annotate"])
def test_an_output_that_cannot_be_written_is_told(
    tagloom, command: str, corpus: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    words = _commands(corpus, bundle_folder, tmp_path / "file" / "out")[command]
    _check(tagloom, tmp_path, "cannot be written (", *words)


def test_an_output_within_its_input_is_refused(
    tagloom, corpus: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    words = _commands(corpus, bundle_folder, corpus / "out")["annotate"]
    _check(tagloom, tmp_path, f"{corpus}/out: lies within the input {corpus}", *words)


def test_a_bundle_with_any_byte_changed_is_refused(
    tagloom, corpus: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_folder, bundle)
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 1
        path.write_bytes(damaged)
        words = _commands(corpus, bundle, tmp_path / "out")["annotate"]
        _check(tagloom, tmp_path, f"{bundle}", *words)
        path.write_bytes(whole)


def test_no_bundle_is_told(tagloom, corpus: Path, tmp_path: Path) -> None:
    for name in ("annotate", "evaluate"):
        words = _commands(corpus, tmp_path / "none", tmp_path / "out")[name]
        _check(tagloom, tmp_path, "none: no bundle there (manifest.json is missing); make", *words)
