"""What is read out of the diaries of two jobs that were made up from known figures."""

import pytest

from engine.errors import CorpusError
from jobs.measured import timing
from jobs.work import BESIDE, Diary, Work

EACH, MORE = 0.010, 0.3
"""Seconds a picture alone, and the share that another busy worker adds."""


def work(worker: str, rows: int, began: float, each: float, first: float = 0.0) -> Work:
    seconds = {"embed": 0.8 * rows * each, "decode": 0.15 * rows * each}
    if first:
        seconds["loading models"] = 0.75 * first
    return Work(worker, rows, began, began + rows * each + first, seconds, imports=2.6)


def job(workers: int) -> Diary:
    """Each worker has 64 pictures and 2.6 s of warming first, then twice 100, 0.5 s apart."""
    diary = Diary(100.0, keeps=True)
    each = EACH * (1 + MORE * (workers - 1))
    for name in "abcd"[:workers]:
        first = work(name, 64, 110.0, each, 2.6)
        second = work(name, 100, first.ended + 0.5, each)
        diary.add([first, second, work(name, 100, second.ended + 0.5, each)])
    return diary


def test_the_figures_that_a_job_was_made_of_are_found() -> None:
    found = timing(104.0, [job(2), job(1)])
    assert found.pictures == 3 * 264
    assert found.workers == 2
    assert found.parts == pytest.approx({"embed": 0.008, "decode": 0.0015, "other": 0.0005})
    assert found.contention == pytest.approx(MORE)
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert found.gap == pytest.approx(0.5)
    # 6 s to the first chunk, of which 2.6 are imports; those and 2.6 s of warming at 1.3 times.
    assert found.waiting == pytest.approx(3.4)
    assert found.start == pytest.approx(4.0, rel=0.02)


def test_the_part_that_is_made_beside_them_slows_workers_but_is_none_of_theirs() -> None:
    diary = job(1)
    beside = Work(BESIDE, 64, 105.0, 112.0, {"embed": 7.0})
    diary.add([beside])
    found = timing(104.0, [job(2), diary])
    assert found.pictures == 3 * 264
    assert found.contention == pytest.approx(MORE)


def test_one_job_alone_tells_nothing_of_contention() -> None:
    found = timing(104.0, [job(2)])
    assert found.contention == 0
    assert sum(found.parts.values()) == pytest.approx(EACH * (1 + MORE))


def test_a_worker_with_one_chunk_is_measured_on_that() -> None:
    diary = Diary(100.0, keeps=True)
    diary.add([work("a", 90, 110.0, EACH, 2.0)])
    found = timing(104.0, [diary])
    # Loading is told apart; what else is slow in a first chunk is not.
    assert sum(found.parts.values()) == pytest.approx(EACH + 0.5 / 90)
    assert found.gap == 0


def test_the_spread_is_that_of_the_chunks() -> None:
    diary = Diary(100.0, keeps=True)
    free = 110.0
    for each in (EACH, 0.8 * EACH, 1.25 * EACH, 0.8 * EACH, 1.25 * EACH):
        diary.add([work("a", 100, free, each)])
        free = diary.works[-1].ended
    assert timing(104.0, [diary]).spread == pytest.approx(0.223, abs=0.01)


def test_a_sample_of_which_ray_gets_nothing_is_refused() -> None:
    diary = Diary(100.0, keeps=True)
    diary.add([Work(BESIDE, 40, 105.0, 112.0, {"embed": 7.0})])
    with pytest.raises(CorpusError, match="too few pictures"):
        timing(104.0, [diary])
