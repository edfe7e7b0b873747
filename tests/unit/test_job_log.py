"""The line of JSON that a job writes for each part."""

import json
from pathlib import Path

import pytest

from engine.errors import ConfigError
from jobs.job_log import driver_note, worker_note
from jobs.metrics import outcomes
from jobs.sink import Receipt
from jobs.work import Work

RECEIPT = Receipt(
    "00003-000128",
    64,
    {"empty": 2, "truncated": 1},
    (
        Work("a", 64, 10.0, 13.0, {"reading": 1.0, "decode": 1.5}),
        Work("b", 64, 13.0, 15.0, {"reading": 0.25, "writing": 0.5}),
    ),
)


def test_the_driver_adds_a_line_a_part(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    for _ in range(2):
        with driver_note(file) as note:
            assert note is not None
            note(RECEIPT)
    first, second = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert first.pop("time") <= second.pop("time")
    assert (
        first
        == second
        == {
            "event": "part",
            "chunk": "00003-000128",
            "part": "part-00003-000128.parquet",
            "rows": 64,
            "failed": 3,
            "errors": {"empty": 2, "truncated": 1},
            "seconds": {"reading": 1.25, "decode": 1.5, "writing": 0.5},
            "workers": ["a", "b"],
        }
    )


def test_a_job_that_never_began_leaves_no_log(tmp_path: Path) -> None:
    with driver_note(tmp_path / "log.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []
    with driver_note(None) as note:
        assert note is None


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"absent.*name a file in a folder"),
        driver_note(tmp_path / "absent" / "log.jsonl"),
    ):
        pass


def test_a_worker_writes_the_same_line_where_ray_collects_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker_note()(RECEIPT)
    worker_note()(RECEIPT)
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["rows"] for line in lines] == [64, 64]


def test_pictures_are_counted_by_what_became_of_them() -> None:
    assert outcomes(RECEIPT) == {"empty": 2, "truncated": 1, "ok": 61}
    assert outcomes(Receipt("c", 2, {"empty": 2})) == {"empty": 2}
