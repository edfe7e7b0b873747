"""`tagloom profile` runs a whole job, says where its time went, and leaves nothing behind."""

import json
from pathlib import Path

import pytest


def test_a_profile_accounts_for_the_time_of_every_worker(
    tagloom, corpus_folder: Path, bundle_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--input", corpus_folder / "images", "--bundle", bundle_folder)
    run = tagloom("profile", *options, "--pictures", 140, "--workers", 1, "--json")
    assert run.code == 0, run.err
    found = json.loads(run.out)
    # Whole chunks, of 64 at most: one while Ray starts, two by its worker.
    assert (found["pictures"], found["workers"]) == (150, 1)
    assert sum(found["seconds"].values()) == pytest.approx(found["wall"], rel=0.03)
    assert min(found["seconds"].values()) > -1e-3
    stages = {"decode", "resize", "embed", "score/cca-knn", "score/linear", "fuse"}
    assert stages | {"listing", "reading", "writing", "ray", "waiting"} < set(found["seconds"])
    assert 0 < found["first"] < found["wall"]
    assert found["steady"] > 0
    assert "embedding" in run.err
    assert "Ray's own share" in run.err
    assert list(tmp_path.iterdir()) == []


def test_another_compute_is_another_job(
    tagloom, corpus_folder: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    command = ("annotate", "--input", corpus_folder / "images", "--bundle", bundle_folder)
    command += ("--output", tmp_path / "out", "--workers", 1)
    run = tagloom(*command, "--compute", "abacus")
    assert run.code == 1
    assert "there is no compute 'abacus'; choose one of auto, torch" in run.err
    assert not (tmp_path / "out").exists()
    run = tagloom(*command, "--compute", "torch")
    assert run.code == 0, run.err
    run = tagloom(*command)
    assert run.code == 1
    assert 'compute was "torch" and is null' in run.err
