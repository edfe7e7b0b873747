"""How far a job is: its speed, its failures, the time left, and the lines that say so."""

import pytest

from jobs.console import Console
from jobs.pace import Pace, duration


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_an_earlier_run_did_counts_but_not_in_the_speed() -> None:
    clock = Clock()
    pace = Pace(1000, done=400, failed=2, clock=clock)
    assert (pace.speed, pace.left) == (None, None)
    clock.now += 10
    pace.add(100, failed=1)
    assert (pace.done, pace.failed, pace.speed, pace.left) == (500, 3, 10.0, 50.0)


def test_the_start_is_no_part_of_the_speed_once_there_is_more_to_go_by() -> None:
    clock = Clock()
    pace = Pace(None, clock=clock)
    for wait in (60, 10, 10):
        clock.now += wait
        pace.add(200)
    assert pace.speed == 20.0
    assert pace.left is None, "nobody knows how many there are"
    pace.total = 1000
    assert pace.left == 20.0


def test_the_speed_is_that_of_the_last_two_minutes() -> None:
    clock = Clock()
    pace = Pace(10_000, clock=clock)
    for seconds, count in ((10, 1000), (10, 1000), *[(10, 50)] * 20):
        clock.now += seconds
        pace.add(count)
    assert pace.speed == 5.0


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_without_a_terminal_a_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Console(clock=clock).progress("annotating", None, done=10) as advance:
        for _ in range(5):
            clock.now += 10
            advance(100, failed=1)
        advance.expect(1010)
        clock.now += 10
        advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "annotating: 310 pictures, 10/s, 3 failed",
        "annotating: 610 of 1,010 pictures, 10/s, 5 failed, 40 s left",
        "annotating: 610 done, 5 failed",
    ]


def test_on_a_terminal_the_bar_says_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    clock = Clock()
    with Console(clock=clock).progress("annotating", None) as advance:
        clock.now += 10
        advance(100, failed=7)
        advance.expect(300)
    said = capsys.readouterr().err
    assert "7 failed" in said
    assert "10/s" in said
    assert "20 s left" in said
    assert "100/300" in said


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(quiet=True, clock=clock).progress("annotating", 5) as advance:
        clock.now += 60
        advance(5)
    assert capsys.readouterr().err == ""
