"""The account of a job's time: every worker-second is in it, once, and under the right name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.profile import divide, summary
from jobs.work import Diary, Stopwatch, Work, since

SPANS = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 3))


def a_diary() -> Diary:
    """Two workers, three chunks: 3 s of start-up, 12 s of work, 1 s of closing."""
    diary = Diary(began=100.0)
    diary.marks = [("imports", 101.0), ("starting Ray", 103.0), ("closing", 116.0)]
    diary.works = [
        Work("a", 10, 104.0, 108.0, {"loading models": 1.0, "embed": 2.0, "writing": 0.5}),
        Work("b", 20, 105.0, 110.0, {"loading models": 1.0, "embed": 3.0, "writing": 1.0}),
        Work("a", 30, 108.5, 115.0, {"embed": 6.0, "writing": 0.5}),
    ]
    return diary


def test_each_second_goes_where_it_belongs() -> None:
    found = divide(a_diary())
    assert found == {
        "imports": 2.0,
        "starting Ray": 4.0,
        "starting workers": 3.0,
        "loading models": 2.0,
        "embed": 11.0,
        "writing": 2.0,
        "other": 0.5,
        "ray": 0.5,
        "waiting": 5.0,
        "closing": 2.0,
    }


def test_a_summary_tells_the_rate_after_the_first_part() -> None:
    found = summary(a_diary(), 60)
    assert (found.pictures, found.workers, found.wall, found.first) == (60, 2, 16.0, 8.0)
    assert found.steady == pytest.approx(50 / 7)


def test_one_part_has_no_steady_rate() -> None:
    diary = a_diary()
    diary.works = diary.works[:1]
    assert summary(diary, 10).steady == 0


@given(
    phases=st.lists(SPANS, min_size=2, max_size=5),
    workers=st.lists(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=5), min_size=1),
)
def test_the_parts_add_up_to_the_wall_time_of_all_the_workers(
    phases: list[float], workers: list[list[tuple[float, float]]]
) -> None:
    diary = Diary(began=1000.0)
    now = diary.began
    for place, span in enumerate(phases[:-1]):
        now += span
        diary.marks.append((f"phase {place}", now))
    for name, chunks in enumerate(workers):
        free = now
        for gap, span in chunks:
            began = free + gap
            free = began + span
            diary.works.append(Work(str(name), 1, began, free, {"writing": span / 2}))
    last = max(work.ended for work in diary.works)
    diary.marks.append(("closing", last + phases[-1]))
    whole = (diary.marks[-1][1] - diary.began) * len(workers)
    found = divide(diary)
    assert sum(found.values()) == pytest.approx(whole, abs=1e-6)
    assert min(found.values()) >= -1e-6


def test_work_survives_its_way_to_the_driver() -> None:
    work = a_diary().works[0]
    assert Work.from_json(work.to_json()) == work


def test_a_stopwatch_counts_a_block_that_raises() -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.on("a"):
        raise KeyError
    assert watch.seconds["a"] > 0
    assert since({"a": 1.0}, {"a": 3.0, "b": 2.0}) == {"a": 2.0, "b": 2.0}
