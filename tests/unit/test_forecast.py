"""What a plan says of a job: time, bottleneck, cost and machines, on made-up measured figures."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.chunks import chunk_runs
from jobs.forecast import Cluster, Forecast, Plan, Prices, fewest
from jobs.measured import Measured

MEASURED = Measured(
    input="x",
    bundle_id="y",
    pictures=1000,
    workers=2,
    parts={"decode": 0.002, "embed": 0.007, "fuse": 0.001},
    contention=0.0,
    spread=0.0,
    gap=0.0,
    driver=1e-6,
    before=0.0,
    waiting=0.0,
    start=0.0,
    after=0.0,
    early=0,
    read=100_000,
    written=1_000,
    requests=2,
    requests_a_chunk=1,
    pixels=150_000,
    listed=1e9,
)


def plan(cluster: Cluster, prices: Prices | None = None, **measured: object) -> Plan:
    return Plan(MEASURED.model_copy(update=measured), cluster, prices or Prices())


def test_time_is_work_over_workers_and_cost_is_time_over_price() -> None:
    prices = Prices(node_hour=3.0, gigabyte=0.01, million_requests=0.5)
    found = plan(Cluster(cpus=4), prices).forecast(10**8, 5)
    assert found.seconds == pytest.approx(10**8 * 0.01 / 20, rel=0.01)
    assert (found.low, found.high, found.lost) == (found.seconds, found.seconds, 0)
    assert found.pictures_per_second == pytest.approx(2000, rel=0.01)
    assert found.bottleneck == "workers"
    chunks = sum(count for _, count in chunk_runs(10**8))
    expected = 3.0 * 5 * found.seconds / 3600 + 0.01 * 10_100 + 0.5 * (200 + chunks / 1e6)
    assert found.cost == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("bottleneck", "rate", "cluster", "measured"),
    [
        ("storage", 1e4, Cluster(cpus=64, storage=1.01e9), {}),
        ("network", 5e3, Cluster(cpus=64, network=1.01e8), {}),
        ("requests", 1e3, Cluster(cpus=64, requests=2000), {}),
        ("listing", 3e3, Cluster(cpus=64, listing=3000), {}),
        (
            "driver",
            4e6 / (0.5 * sum(count for _, count in chunk_runs(4 * 10**6))),
            Cluster(cpus=64),
            {"driver": 0.5},
        ),
    ],
)
def test_what_limits_a_job_is_named(
    bottleneck: str, rate: float, cluster: Cluster, measured: dict[str, float]
) -> None:
    found = plan(cluster, **measured).forecast(4 * 10**6, 5)
    assert found.bottleneck == bottleneck
    assert found.used[bottleneck] > 0.95
    assert found.pictures_per_second == pytest.approx(rate, rel=0.03)


def test_a_short_job_waits_for_its_start() -> None:
    found = plan(Cluster(cpus=4), before=20.0, waiting=5.0, start=4.0, after=1.0).forecast(100, 1)
    # 64 and 36 pictures beside each other.
    assert found.seconds == pytest.approx(20 + 5 + 4 + 0.64 + 1)
    assert found.bottleneck == "start and end"


def test_the_chunk_that_is_made_while_ray_starts_is_no_work_of_the_workers() -> None:
    job = plan(Cluster(cpus=1), early=64)
    assert job.forecast(1000, 1).seconds == pytest.approx(9.36)
    # On a cluster that is there already none is.
    assert plan(Cluster(cpus=1), early=64).forecast(128, 2).seconds == pytest.approx(0.64)


def test_workers_share_the_cores_and_are_slowed_down_as_far_as_that_was_measured() -> None:
    one = MEASURED.model_copy(update={"contention": 0.4, "workers": 3})
    assert one.slowdowns(4, 8) == pytest.approx((1, 1.4, 1.8, 1.8))
    assert one.slowdowns(4, 2) == pytest.approx((1, 1.4, 1.4 * 1.5, 1.4 * 2))
    seconds = {
        cpus: Plan(one, Cluster(cpus=cpus, cores=2)).forecast(10**6, 1).seconds
        for cpus in (1, 2, 4)
    }
    assert seconds[1] == pytest.approx(10_000)
    assert seconds[2] == pytest.approx(7_000, rel=0.01)
    # Twice the workers on as many cores gain nothing.
    assert seconds[4] == pytest.approx(seconds[2], rel=0.01)


def test_gpus_embed_and_the_decoders_feed_them() -> None:
    # 3 CPUs decode 1,500 pictures a second, a GPU's worker does 1 / (0.7 + 1 ms) = 588.
    cluster = Cluster(cpus=4, gpus=1, gpu_speedup=10)
    found = plan(cluster).forecast(10**6, 1)
    assert found.bottleneck == "GPU workers"
    assert found.pictures_per_second == pytest.approx(588, rel=0.02)
    assert found.used["CPU workers"] == pytest.approx(588 / 1500, rel=0.05)
    # A store for one chunk has decoding and embedding take turns.
    small = cluster.model_copy(update={"object_store": 1e6})
    assert plan(small).forecast(10**6, 1).pictures_per_second == pytest.approx(
        1000 / (2 + 1.7), rel=0.02
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpus": 4, "gpus": 1}, "--gpu-speedup"),
        ({"cpus": 2, "gpus": 2, "gpu_speedup": 5}, "need 3 CPUs a node, not 2"),
        ({"cpus": 0}, "greater than 0"),
        ({"cpus": 2, "storage": float("inf")}, "finite"),
        ({"cpus": 2, "failures": -1}, "greater than or equal to 0"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Cluster.model_validate(given)


def test_a_slice_of_a_large_cluster_stands_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(cpus=8, storage=3e8, failures=0.2, spread=0.2)
    job = plan(cluster, before=10.0, start=5.0, gap=0.01, contention=0.05)
    monkeypatch.setattr("jobs.forecast.SEEDS", 3)
    monkeypatch.setattr("jobs.forecast._WORKERS", 8 * 16)
    sliced = job.forecast(10**7, 64)
    monkeypatch.setattr("jobs.forecast._WORKERS", 8 * 64)
    whole = job.forecast(10**7, 64)
    assert sliced.seconds == pytest.approx(whole.seconds, rel=0.02)
    assert sliced.used == pytest.approx(whole.used, rel=0.05, abs=1e-3)


def test_failures_and_their_range() -> None:
    job = plan(Cluster(cpus=4))
    calm = job.forecast(10**7, 4)
    failing = replace(job, cluster=Cluster(cpus=4, failures=1.0, back=600)).forecast(10**7, 4)
    assert calm.seconds < failing.low < failing.seconds < failing.high
    # A node is away for a sixth of an hour, an hour after it came.
    assert failing.seconds == pytest.approx(calm.seconds * 7 / 6, rel=0.1)
    assert failing.lost == pytest.approx(4 * failing.seconds / 3600 * 6 / 7, rel=0.3)
    assert failing == replace(job, cluster=Cluster(cpus=4, failures=1.0, back=600)).forecast(
        10**7, 4
    )


def test_a_deadline_is_met_with_as_few_nodes_as_can_be() -> None:
    job = plan(Cluster(cpus=4), before=20.0, start=5.0)
    found: dict[float, int] = {}
    for hours in (0.25, 1, 4, 24):
        nodes = job.nodes_for(10**7, hours * 3600)
        assert nodes is not None
        assert job.forecast(10**7, nodes).high <= hours * 3600
        if nodes > 1:
            assert job.forecast(10**7, nodes - 1).high > hours * 3600
        found[hours] = nodes
    assert found == {0.25: 29, 1: 8, 4: 2, 24: 1}


def test_no_number_of_nodes_makes_up_for_a_storage() -> None:
    assert plan(Cluster(cpus=4, storage=1e8)).nodes_for(10**6, 600) is None


@given(least=st.integers(1, 500), answer=st.integers(1, 1000), most=st.integers(500, 1000))
def test_the_fewest_that_are_enough_are_found(least: int, answer: int, most: int) -> None:
    asked = []

    def is_enough(number: int) -> bool:
        asked.append(number)
        return number >= answer

    found = fewest(is_enough, least, most)
    assert found == (None if answer > most else max(least, answer))
    assert len(asked) <= 25
    assert all(least <= number <= most for number in asked)


SIZES = st.integers(1, 10**6)


@settings(max_examples=30, deadline=None)
@given(pictures=SIZES, more=SIZES, nodes=st.integers(1, 40))
def test_more_pictures_take_no_less_and_more_nodes_no_more_but_for_a_chunk(
    pictures: int, more: int, nodes: int
) -> None:
    job = plan(Cluster(cpus=4), before=3.0)

    def seconds(count: int, machines: int) -> tuple[float, float]:
        found: Forecast = job.forecast(count, machines)
        return found.seconds, max(rows for rows, _ in chunk_runs(count)) * 0.01

    here, chunk = seconds(pictures, nodes)
    # A larger job has other chunks, and units of them: what comes last may differ by some.
    assert seconds(pictures + more, nodes)[0] >= here - 3 * chunk
    assert seconds(pictures, nodes + 1)[0] <= here + 3 * chunk
