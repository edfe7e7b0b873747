"""`tagloom table` from a folder of pictures to table.md, .json and .png, and on again."""

import json
import os
import shutil
from pathlib import Path

import pytest
import ray
from PIL import Image

from jobs.trials import Outcome, outcome_of

TABLE = """
title = "Two of ours"
seeds = [0, 1]
metrics = ["precision", "recall", "f1", "n_plus", "picture_f1"]
curves = ["ndcg", "precision"]
[corpora.drawn]
words = "words.txt"
held_out = 0.2
[defaults]
lift = 0.0
embed = { backbone = "random", compute = "openvino" }
[[rows]]
name = "Prior"
published.drawn = { f1 = 12.5 }
fit.annotators.prior = { kind = "prior" }
[[rows]]
name = "Lost vectors"
fit.annotators.cca-knn = { kind = "cca-knn", tag_vectors = "glove:/nowhere.txt" }
[[rows]]
name = "MBRM"
k = "auto"
fit.annotators.mbrm = { kind = "mbrm" }
"""


@pytest.fixture
def corpus(corpus_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    lines = (folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines()
    words = sorted({tag for line in lines for tag in json.loads(line)["tags"]})
    (folder / "words.txt").write_text("\n".join([*words, "never seen"]), encoding="utf-8")
    return folder


def test_a_table_is_built_and_gone_on_with(tagloom, corpus: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "table.toml", tmp_path / "out"
    table.write_text(TABLE, encoding="utf-8")
    command = ("table", table, "--corpus", f"drawn={corpus}", "--out", out)

    run = tagloom(*command)
    assert run.code == 1, run.err
    assert "Lost vectors on drawn, seed 0: " in run.err
    assert "/nowhere.txt" in run.err
    assert "2 runs have no figures" in run.err
    report = json.loads((out / "table.json").read_text())
    assert report["corpora"]["drawn"] == {
        "title": "drawn",
        "pictures": 150,
        "tested": 30,
        "words": len((corpus / "words.txt").read_text().splitlines()),
        "min_count": 1,
        "split": "a share of 0.2, seeds 0, 1",
    }
    prior, lost, mbrm = (row["cells"]["drawn"] for row in report["rows"])
    assert prior["published"] == {"f1": 12.5}
    assert prior["seeds"] == mbrm["seeds"] == [0, 1]
    assert lost["measured"] == {}
    assert set(lost["failures"]) == {"0", "1"}
    assert mbrm["measured"]["n_plus"]["median"] > prior["measured"]["n_plus"]["median"] > 0
    text = (out / "table.md").read_text()
    assert text.startswith("# Two of ours\n")
    assert f"| {prior['measured']['f1']['median']:.1f} |" in text
    assert "- Lost vectors, seed 1: " in text
    assert text.count("| MBRM | ") == 3
    assert [row["k"] for row in report["rows"]] == [5, 5, "auto"]
    for name in ("table.png", "curves.png"):
        with Image.open(out / name) as figure:
            assert figure.format == "PNG"
    results = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert len(results) == 4
    embedded = {path: path.stat().st_mtime_ns for path in out.glob("embedded/*/*.npy")}
    assert len(embedded) == 1

    # The row is taken out, the columns are others: nothing is computed again.
    table.write_text(TABLE.replace("glove:/nowhere.txt", "binary"), encoding="utf-8")
    run = tagloom(*command, "--set", "seeds=[1]", "--set", 'metrics=["f1"]')
    assert run.code == 0, run.err
    assert "going on: 2 of 3 runs are there" in run.err
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in (results | embedded).items())
    assert len(list((out / "results").iterdir())) == 5
    again = json.loads((out / "table.json").read_text())
    assert [row["cells"]["drawn"]["seeds"] for row in again["rows"]] == [[1], [1], [1]]
    assert "R |" not in (out / "table.md").read_text()

    # Another state of the corpus is another corpus; a test part is tested whole.
    first, *rest = (corpus / "annotations.jsonl").read_text().splitlines(keepends=True)
    (corpus / "annotations.jsonl").write_text("".join([*rest, first]))
    run = tagloom(*command, "--test", f"drawn={corpus}", "--quiet")
    assert run.code == 0, run.err
    assert len(list(out.glob("embedded/*/*.npy"))) == 2
    assert len(list((out / "results").iterdir())) == 8
    note = json.loads((out / "table.json").read_text())["corpora"]["drawn"]
    assert (note["tested"], note["split"]) == (150, "its own test part")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--corpus", "drawn=/no/such/place"), "/no/such/place: there is nothing at that path"),
        (("--corpus", "drawn"), "write it as NAME=PATH"),
        (("--corpus", "x=here", "--test", "y=there"), "--test names y, which no --corpus does"),
        (("--corpus", "drawn=bare"), "bare/words.txt: cannot be read as a list of words"),
        (("--corpus", "x=bare"), "bare"),
    ],
)
def test_what_is_wrong_is_told_before_work_starts(
    tagloom,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    table, out = tmp_path / "table.toml", tmp_path / "out"
    table.write_text(TABLE, encoding="utf-8")
    run = tagloom("table", table, "--out", out, *arguments)
    assert run.code == 1
    assert message in run.err
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(tagloom, corpus: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.toml"
    table.write_text(TABLE, encoding="utf-8")
    run = tagloom("table", table, "--corpus", f"drawn={corpus}", "--out", corpus)
    assert run.code == 1
    assert "is not empty and holds no table" in run.err


def test_a_worker_that_is_lost_is_a_failure_of_its_run_alone(cluster: None) -> None:
    @ray.remote(max_retries=0)
    def lost() -> str:
        os._exit(1)

    @ray.remote(max_retries=0)
    def broken() -> str:
        raise ValueError("two\nlines")

    @ray.remote
    def done() -> str:
        return Outcome(figures={"f1": 1.0}).model_dump_json()

    told = outcome_of(lost.remote()).failure
    assert told is not None
    assert told.startswith("its worker was lost, WorkerCrashedError: ")
    assert outcome_of(broken.remote()) == Outcome(failure="ValueError: two lines")
    assert outcome_of(done.remote()) == Outcome(figures={"f1": 1.0})
