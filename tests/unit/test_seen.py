"""An id that comes again is noticed, wherever the first was."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.seen import Seen


@given(batches=st.lists(st.lists(st.text("abc\0é", max_size=3), max_size=20), max_size=8))
def test_ids_that_came_before_are_found(batches: list[list[str]]) -> None:
    seen = Seen()
    before: set[str] = set()
    for ids in batches:
        again = []
        for place, one in enumerate(ids):
            if one in before:
                again.append(place)
            before.add(one)
        assert seen.add(ids).tolist() == again


def test_what_is_kept_lies_in_few_runs() -> None:
    seen = Seen()
    for start in range(0, 20_000, 100):
        assert not len(seen.add(str(number) for number in range(start, start + 100)))
    assert sum(map(len, seen._runs)) == 20_000
    assert len(seen._runs) <= 8
