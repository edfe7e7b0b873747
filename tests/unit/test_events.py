"""The measure of the benchmarks: the same for whoever writes outputs, and in whatever order."""

from pathlib import Path

import pytest

from benchmarks.events import measure, note, read_run


def test_start_up_and_steady_rate_are_told_apart() -> None:
    outputs = [(16.0, 30), (12.0, 10), (14.0, 20)]
    run = measure(outputs, began=10.0, processes=1)
    assert (run.first, run.steady, run.total) == (2.0, 12.5, 6.0)


def test_two_processes_in_step_do_not_count_their_first_outputs() -> None:
    run = measure([(2.0, 64), (2.0, 64), (4.0, 64), (4.0, 64)], began=0.0, processes=2)
    assert (run.first, run.steady) == (2.0, 64.0)


def test_notes_of_several_processes_make_one_run(tmp_path: Path) -> None:
    file = tmp_path / "events"
    for rows in (32, 32, 8):
        note(file, rows)
    began = float(file.read_text().split()[0]) - 1
    run = read_run(file, began, 1)
    assert run.first == pytest.approx(1, abs=1e-3)
    assert run.steady * (run.total - run.first) == pytest.approx(40, rel=1e-3)
