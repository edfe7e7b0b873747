"""The simulated pipeline against cases that are worked out by hand, and against itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from jobs.pipeline import Limit, Pipeline, Segment
from jobs.simulation import simulate

HOUR = 3600.0


def seconds(pipeline: Pipeline, nodes: int, *runs: tuple[int, int]) -> float:
    return simulate(pipeline, nodes, runs, grain=None).seconds


def test_one_worker_without_overhead_takes_each_pictures_time() -> None:
    found = simulate(Pipeline((Segment(1, 0.01),)), 1, [(100, 7), (50, 1)], grain=None)
    assert found.seconds == pytest.approx(750 * 0.01)
    assert found.busy == pytest.approx((1.0,))
    assert (found.failures, found.redone) == (0, 0)


def test_start_gaps_and_end_are_added() -> None:
    pipeline = Pipeline((Segment(1, 0.01, start=3),), gap=0.5, before=5, after=2)
    assert seconds(pipeline, 1, (100, 4)) == pytest.approx(5 + 3 + 4 * (1 + 0.5) + 2)
    assert simulate(pipeline, 1, [(100, 4)]).idle == pytest.approx(5 + 3 + 2)


def test_chunks_that_do_not_come_out_even_leave_workers_waiting() -> None:
    # Five chunks of 1 s among four workers: two rounds.
    found = simulate(Pipeline((Segment(2, 0.01),)), 2, [(100, 5)], grain=None)
    assert found.seconds == pytest.approx(2)
    assert found.busy == pytest.approx((5 / 8,))


def test_a_worker_that_was_given_a_chunk_ahead_keeps_it() -> None:
    # 'a' is given 10 s and then 1 s, 'b' as much: nobody takes what waits behind the long ones.
    runs = [(1000, 2), (100, 2)]
    assert seconds(Pipeline((Segment(2, 0.01),), ahead=2), 1, *runs) == pytest.approx(11)
    uneven = [(1000, 1), (100, 3)]
    assert seconds(Pipeline((Segment(2, 0.01),), ahead=1), 1, *uneven) == pytest.approx(10)
    assert seconds(Pipeline((Segment(2, 0.01),), ahead=2), 1, *uneven) == pytest.approx(11)


def test_busy_workers_slow_each_other_down() -> None:
    # Two chunks beside each other at 1.5 times their time, then the third alone.
    pipeline = Pipeline((Segment(2, 0.01),), slowdowns=(1.0, 1.5))
    assert seconds(pipeline, 1, (100, 3)) == pytest.approx(1.5 + 1)


def test_workers_beyond_the_cores_take_turns() -> None:
    # Four chunks of 1, 1, 2 and 2 s share two cores: 1 s of work is done after 2 s, the long ones
    # have a core each from then on.
    pipeline = Pipeline((Segment(4, 0.01),), slowdowns=(1.0, 1.0, 1.5, 2.0))
    assert seconds(pipeline, 1, (100, 2), (200, 2)) == pytest.approx(2 + 1)


def test_of_two_segments_the_slower_one_sets_the_rate() -> None:
    # 1 s a chunk on one worker, then 3 s on another: the second is never idle once it has begun.
    pipeline = Pipeline((Segment(1, 0.01, window=5), Segment(1, 0.03)), ahead=1)
    found = simulate(pipeline, 1, [(100, 10)], grain=None)
    assert found.seconds == pytest.approx(1 + 10 * 3)
    assert found.busy == pytest.approx((10 / 31, 30 / 31))


def test_what_waits_between_segments_is_bounded() -> None:
    # One chunk at a time on its way: no step of the two overlaps with another chunk's.
    pipeline = Pipeline((Segment(1, 0.01, window=1), Segment(1, 0.03)), ahead=1)
    assert seconds(pipeline, 1, (100, 10)) == pytest.approx(10 * 4)


def test_a_node_cannot_take_more_than_its_network_carries() -> None:
    # 400 chunks of 100 pictures of 1 MB through 100 MB/s a node, two nodes of eight workers.
    network = Limit("network", 100e6, per_picture=1e6, is_per_node=True)
    found = simulate(Pipeline((Segment(8, 0.01),), limits=(network,)), 2, [(100, 400)], grain=None)
    assert found.seconds == pytest.approx(400 * 100e6 / 200e6)
    assert found.used == {"network": pytest.approx(1.0)}
    assert found.busy == pytest.approx((400 * 1 / (16 * 200),))


def test_a_storage_gives_no_more_to_more_nodes() -> None:
    storage = Limit("storage", 50e6, per_picture=1e6)
    pipeline = Pipeline((Segment(8, 0.01),), limits=(storage,))
    assert seconds(pipeline, 2, (100, 40)) == pytest.approx(40 * 100e6 / 50e6)
    assert seconds(pipeline, 20, (100, 40)) == pytest.approx(40 * 100e6 / 50e6)


def test_requests_and_the_driver_are_limits_by_the_chunk() -> None:
    requests = Limit("requests", 10, per_picture=1, per_chunk=50)
    driver = Limit("driver", 1, per_chunk=2.0)
    pipeline = Pipeline((Segment(50, 0.01),), limits=(requests, driver))
    found = simulate(pipeline, 1, [(100, 20)], grain=None)
    assert found.seconds == pytest.approx(20 * 15)
    assert found.used == pytest.approx({"requests": 1.0, "driver": 40 / 300})


def test_reading_goes_on_beside_the_work() -> None:
    # Half of what the network carries is asked for, evenly: it costs no time.
    network = Limit("network", 200e6, per_picture=1e6, is_per_node=True)
    pipeline = Pipeline((Segment(1, 0.01),), limits=(network,))
    assert seconds(pipeline, 1, (100, 10)) == pytest.approx(10)


FAILING = Pipeline(
    (Segment(4, 0.01, start=5),), gap=0.01, ahead=2, failures=2 / HOUR, back=60, before=5
)


def test_failures_lengthen_a_job_by_what_they_take() -> None:
    runs, nodes = [(1024, 3000)], 4
    calm = Pipeline(FAILING.segments, gap=0.01, ahead=2, before=5)
    without = seconds(calm, nodes, *runs)
    found = [simulate(FAILING, nodes, runs, seed, grain=None) for seed in range(8)]
    assert min(one.seconds for one in found) > without
    # A lost node is away for 65 s, and half of a chunk of 10 s is lost besides.
    failures = sum(one.failures for one in found) / 8
    mean = sum(one.seconds for one in found) / 8
    assert failures == pytest.approx(2 * nodes * mean / HOUR, rel=0.2)
    assert mean - without == pytest.approx(failures * (65 + 5.1) / nodes, rel=0.1)
    # All four chunks in work; none, where a node is lost while its workers start.
    assert 3.5 * 8 * failures < sum(one.redone for one in found) <= 4 * 8 * failures


def test_a_lost_node_takes_what_it_held_for_the_next_segment_along() -> None:
    pipeline = Pipeline(
        (Segment(2, 0.01, window=20), Segment(1, 0.01)), ahead=1, failures=5 / HOUR, back=30
    )
    found = simulate(pipeline, 2, [(1000, 200)], seed=1, grain=None)
    assert found.failures > 0
    # More than the three chunks in work.
    assert found.redone > 3 * found.failures


def test_a_job_that_can_never_end_is_refused() -> None:
    pipeline = Pipeline((Segment(1, 0.01),), failures=1.0, back=1)
    with pytest.raises(ConfigError, match="no chunk is ever finished"):
        simulate(pipeline, 1, [(100_000, 1)])


def test_the_same_seed_gives_the_same_job_and_another_one_another() -> None:
    pipeline = Pipeline((Segment(3, 0.01),), spread=0.5, failures=1 / HOUR, back=60)
    found = simulate(pipeline, 3, [(1000, 500)], seed=1)
    assert simulate(pipeline, 3, [(1000, 500)], seed=1) == found
    assert simulate(pipeline, 3, [(1000, 500)], seed=2) != found


def test_stragglers_keep_the_mean_and_lengthen_the_end() -> None:
    even, spread = (Pipeline((Segment(8, 0.01),), spread=sigma) for sigma in (0.0, 0.6))
    found = [simulate(spread, 1, [(100, 8000)], seed, grain=None).seconds for seed in range(4)]
    assert sum(found) / 4 == pytest.approx(seconds(even, 1, (100, 8000)), rel=0.01)
    found = [simulate(spread, 1, [(100, 8)], seed, grain=None).seconds for seed in range(20)]
    assert sum(found) / 20 > 1.5 * seconds(even, 1, (100, 8))


NETWORK = Limit("network", 20e6, per_picture=1e5, is_per_node=True)
STORAGE = Limit("storage", 75e6, per_picture=1e5)


@pytest.mark.parametrize(
    "pipeline",
    [
        pytest.param(
            Pipeline((Segment(4, 0.01, start=5),), gap=0.02, ahead=2, before=5), id="work"
        ),
        pytest.param(FAILING, id="failures"),
        pytest.param(Pipeline((Segment(4, 0.01),), ahead=2, spread=0.8), id="stragglers"),
        pytest.param(Pipeline((Segment(4, 0.01),), ahead=2, limits=(NETWORK,)), id="network"),
        pytest.param(
            Pipeline((Segment(4, 0.01),), ahead=2, limits=(STORAGE,), spread=0.3), id="storage"
        ),
        pytest.param(
            Pipeline((Segment(3, 0.01, 5, 30), Segment(1, 0.004, 5)), ahead=2, spread=0.3),
            id="segments",
        ),
    ],
)
@pytest.mark.parametrize("chunks", [60, 4000])
def test_units_of_many_chunks_come_to_the_same_as_chunk_by_chunk(
    pipeline: Pipeline, chunks: int
) -> None:
    runs = [(64, 2), (128, 1), (256, 1), (1024, chunks)]
    finely = [simulate(pipeline, 4, runs, seed, grain=None) for seed in range(6)]
    coarsely = [simulate(pipeline, 4, runs, seed) for seed in range(6)]
    mean = sum(one.seconds for one in finely) / 6
    assert sum(one.seconds for one in coarsely) / 6 == pytest.approx(mean, rel=0.02)
    for fine, coarse in zip(finely, coarsely, strict=True):
        assert coarse.used == pytest.approx(fine.used, rel=0.1)


CHUNKS = st.lists(st.integers(1, 300), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(chunks=CHUNKS, slots=st.integers(1, 3), nodes=st.integers(1, 5), each=st.floats(1e-3, 0.1))
def test_more_nodes_are_never_slower_and_more_pictures_never_faster(
    chunks: list[int], slots: int, nodes: int, each: float
) -> None:
    pipeline = Pipeline((Segment(slots, each, start=1),), before=2, gap=0.1)
    runs = [(rows, 1) for rows in chunks]
    found = seconds(pipeline, nodes, *runs)
    assert seconds(pipeline, nodes + 1, *runs) <= found + 1e-9
    assert seconds(pipeline, nodes, *runs, (1, 1)) >= found - 1e-9
    work = sum(chunks) * each + 0.1 * len(chunks)
    longest = max(chunks) * each + 0.1
    # Graham's bound for a list of tasks.
    assert work / (slots * nodes) + 3 - 1e-9 <= found
    assert found <= work / (slots * nodes) + 3 + longest + 1e-9


@settings(max_examples=30, deadline=None)
@given(
    chunks=CHUNKS,
    nodes=st.integers(1, 4),
    ahead=st.integers(1, 3),
    window=st.integers(1, 6),
    failures=st.sampled_from([0.0, 20 / HOUR]),
    seed=st.integers(0, 100),
)
def test_every_chunk_is_done_whatever_happens(
    chunks: list[int], nodes: int, ahead: int, window: int, failures: float, seed: int
) -> None:
    pipeline = Pipeline(
        (Segment(2, 0.05, 1, window), Segment(1, 0.02, 1, window), Segment(1, 0.03, 1)),
        slowdowns=(1.0, 1.2, 1.8, 2.4),
        ahead=ahead,
        spread=0.3,
        failures=failures,
        back=10,
        limits=(Limit("network", 1e6, 1e4, is_per_node=True),),
    )
    for grain in (None, 1, 16):
        found = simulate(pipeline, nodes, [(rows, 1) for rows in chunks], seed, grain)
        assert found.seconds >= max(chunks) * 0.1 * 0.2
        assert all(0 <= share <= 1 + 1e-9 for share in (*found.busy, *found.used.values()))
