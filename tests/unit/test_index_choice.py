"""Which index a number of vectors, a width and a budget lead to, and what it may take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.index import ArrayVectors, IndexWish, build, build_index, choose_plan, parse_memory
from engine.index.choice import EXACT_UP_TO, spell_memory
from tests.unit.test_index import unit_vectors

BOUNDED = settings(max_examples=200, derandomize=True, deadline=None, database=None)
MB = 10**6


@pytest.mark.parametrize(
    ("count", "width", "budget", "kind", "store"),
    [
        (1_000, 128, None, "flat", "none"),
        (EXACT_UP_TO, 128, 26 * MB, "flat", "none"),
        (EXACT_UP_TO, 128, 20 * MB, "ivf-pq", "fp16"),
        (EXACT_UP_TO + 1, 128, None, "ivf-flat", "none"),
        (1_000_000, 128, None, "ivf-flat", "none"),
        (1_000_000, 128, 524 * MB, "ivf-flat", "none"),
        (1_000_000, 128, 400 * MB, "ivf-pq", "fp16"),
        (1_000_000, 128, 250 * MB, "ivf-pq", "sq8"),
        (1_000_000, 128, 100 * MB, "ivf-pq", "none"),
        (10_000_000, 384, 2_000 * MB, "ivf-pq", "none"),
    ],
)
def test_the_choice(count: int, width: int, budget: int | None, kind: str, store: str) -> None:
    plan = choose_plan(count, width, IndexWish(max_bytes=budget))
    assert (plan.kind, plan.store) == (kind, store)
    assert f"{count:,} vectors of {width} dimensions" in plan.reason
    assert budget is None or plan.bytes <= budget


def test_the_reason_names_what_was_passed_over() -> None:
    plan = choose_plan(1_000_000, 128, IndexWish(max_bytes=400 * MB))
    assert "re-ranked in float16" in plan.reason
    assert "under a memory budget of 400.0 MB" in plan.reason
    assert "inverted lists of whole vectors would take 52" in plan.reason


def test_a_kind_that_is_asked_for_is_taken() -> None:
    for kind in ("flat", "ivf-flat", "ivf-pq", "hnsw"):
        plan = choose_plan(100_000, 64, IndexWish(kind))
        assert plan.kind == kind
        assert "the kind was asked for" in plan.reason


@BOUNDED
@given(
    count=st.integers(1, 5_000_000),
    width=st.integers(1, 600),
    budget=st.integers(1, 4 * 10**9),
    kind=st.sampled_from(["auto", "flat", "ivf-flat", "ivf-pq", "hnsw"]),
)
def test_a_plan_keeps_the_budget_or_the_error_names_one_that_does(
    count: int, width: int, budget: int, kind: str
) -> None:
    wish = IndexWish(kind, budget)
    try:
        plan = choose_plan(count, width, wish)
    except ConfigError as error:
        if "needs at least" in str(error):
            return
        least = int(str(error).split("would do is ")[1].split(" bytes")[0].replace(",", ""))
        assert least > budget
        assert choose_plan(count, width, IndexWish(kind, least)).bytes <= least
        return
    assert plan.bytes <= budget
    assert 40 * plan.lists <= max(40, plan.sample)
    assert plan.sample <= count
    assert plan.subspaces == 0 or plan.sample >= 256
    # What training holds at once: the sample, and residuals of it.
    assert 8 * plan.sample * plan.stored_width <= budget
    assert plan.subspaces == 0 or plan.stored_width % plan.subspaces == 0
    assert 0 <= plan.stored_width - width < 8


@pytest.mark.parametrize("budget", [180_000, 130_000, 80_000])
def test_what_was_built_keeps_the_budget(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.index.choice.PQ_LEAST", 500)
    monkeypatch.setattr("engine.index.choice.EXACT_UP_TO", 500)
    monkeypatch.setattr(build, "BLOCK", 128)
    vectors_NL = unit_vectors(3000, seed=0)
    entry = build_index(ArrayVectors(vectors_NL), IndexWish(max_bytes=budget, nearest=10)).entry
    assert entry is not None
    assert entry.bytes <= entry.max_bytes == budget
    assert entry.kind == "ivf-pq"


def test_a_budget_that_nothing_fits_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ConfigError, match=r"fits the memory budget of 1,000 bytes; the least"):
        build_index(ArrayVectors(np.zeros((500, 8), np.float32)), IndexWish(max_bytes=1000))


def test_too_few_vectors_for_a_quantiser_are_said() -> None:
    with pytest.raises(ConfigError, match="needs at least 10,000 vectors, and there are 50"):
        choose_plan(50, 8, IndexWish("ivf-pq"))


@pytest.mark.parametrize(
    ("text", "count"),
    [("512MB", 512 * MB), ("2 GiB", 2 * 1024**3), ("1.5kb", 1500), ("77", 77), ("3B", 3)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_memory(text) == count


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1 elephant", "0", "0.1B", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no amount of memory"):
        parse_memory(text)


def test_sizes_are_spelt_rounded_up() -> None:
    assert spell_memory(999) == "999 bytes"
    assert spell_memory(1_000_001) == "1.1 MB"
    assert spell_memory(2 * 10**9) == "2.0 GB"
