"""`tagloom plan` measures real jobs on a sample and leaves nothing behind but what it says."""

import json
from pathlib import Path

import pytest


def test_a_plan_is_measured_once_and_asked_again(
    tagloom, corpus_folder: Path, bundle_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("--pictures", "1e8", "--price-per-node-hour", 0.2, "--deadline", "24h")
    measured_on = ("--input", corpus_folder / "images", "--bundle", bundle_folder)
    run = tagloom("plan", "--nodes", 5, *measured_on, "--cpus-per-node", 2, *asked)
    assert run.code == 0, run.err
    assert list(tmp_path.iterdir()) == []
    found = json.loads(run.out)
    one, job = found["measured"], found["forecast"]
    # Both jobs had 150 pictures in three chunks, the first of which was made beside Ray.
    # Which of two workers gets the others is a matter of which of them is there first.
    assert (one["pictures"], one["early"]) == (172, 64)
    sizes = [path.stat().st_size for path in sorted((corpus_folder / "images").iterdir())[:64]]
    assert one["read"] == pytest.approx(sum(sizes) / 64)
    assert (one["requests"], one["requests_a_chunk"]) == (2, 1)
    assert {"decode", "resize", "embed", "score/cca-knn", "fuse", "writing"} < set(one["parts"])
    assert 0.0005 < one["driver"] < 0.1
    assert one["start"] > 0
    each = sum(one["parts"].values())
    assert job["seconds"] >= 0.9 * 1e8 * each / 10
    assert job["cost"] == pytest.approx(0.2 * 5 * job["seconds"] / 3600)
    assert [size["pictures"] for size in found["sizes"]] == [10**n for n in range(6, 11)]
    assert found["deadline"]["forecast"]["high"] <= 86_400
    assert "waits for" in run.err
    (tmp_path / "plan.json").write_text(run.out)
    command = ("plan", "--nodes", 5, "--profile", "plan.json", "--cpus-per-node", 2, *asked)
    again = tagloom(*command)
    assert again.code == 0, again.err
    assert json.loads(again.out) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--nodes", 0), "'--nodes'"),
        (("--nodes", 1, "--pictures", "nan"), "'--pictures'"),
        (("--nodes", 1, "--network-gbit", 0), "'--network-gbit'"),
        (("--nodes", 1, "--failure-rate", -1), "'--failure-rate'"),
        (("--nodes", 1, "--deadline", "soon"), "'soon' is not a time"),
        (("--nodes", 1, "--gpus-per-node", 1), "with --gpu-speedup"),
        (("--nodes", 1, "--profile", "plan.json"), "in place of both"),
    ],
)
def test_nonsense_is_refused_before_anything_is_measured(
    tagloom, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    given = ("--input", tmp_path / "not there", "--bundle", tmp_path / "nor this")
    run = tagloom("plan", *given, *options)
    assert run.code in (1, 2)
    assert message in " ".join(run.err.replace("│", " ").split())


@pytest.mark.parametrize("text", [None, "{", "[]", '{"measured": {"pictures": 3}}'])
def test_a_file_that_no_plan_printed_is_refused(tagloom, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text)
    run = tagloom("plan", "--nodes", 1, "--profile", file)
    assert run.code == 1
    assert "not what 'tagloom plan' printed" in run.err
