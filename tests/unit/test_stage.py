"""The fold of stages over a batch: which rows and columns come out, and which wiring is refused."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.errors import SchemaError
from engine.stage import FOLDING, Plan, Resources, Stage, Workers

PAIR = schema.tensor_type(np.float32, (2,))
CPU, GPU = Resources(), Resources(gpus=1)


def lengths(batch: pa.Table) -> pa.Table:
    """Fails on the bytes `bad`; else [length, length] as the pixels."""
    given = batch.column(schema.BYTES).to_pylist()
    sizes = np.array([[len(one)] * 2 for one in given], np.float32).reshape(-1, 2)
    is_bad = [one == b"bad" for one in given]
    return pa.table(
        {
            schema.PIXELS: schema.tensor_column(sizes),
            schema.ERROR: pa.array(["empty" if bad else None for bad in is_bad], pa.string()),
            schema.REASON: pa.array(["no good" if bad else None for bad in is_bad], pa.string()),
        }
    )


def doubled(batch: pa.Table) -> pa.Table:
    values = schema.float_tensor(batch, schema.PIXELS)
    return pa.table({schema.EMBEDDING: schema.tensor_column(values * 2)})


def summed(batch: pa.Table) -> pa.Table:
    values = schema.float_tensor(batch, schema.EMBEDDING)
    return pa.table({"total": pa.array(values.sum(axis=1), pa.float32())})


def three_stages(middle: Resources, last: Resources) -> Plan:
    """Bytes to pixels to embedding to total; the total alone is kept."""
    first = Stage(
        "decode",
        lambda: lengths,
        reads=(schema.BYTES,),
        writes=(
            pa.field(schema.PIXELS, PAIR),
            pa.field(schema.ERROR, pa.string()),
            pa.field(schema.REASON, pa.string()),
        ),
    )
    second = Stage(
        "embed", lambda: doubled, (schema.PIXELS,), (pa.field(schema.EMBEDDING, PAIR),), middle
    )
    third = Stage(
        "sum", lambda: summed, (schema.EMBEDDING,), (pa.field("total", pa.float32()),), last
    )
    return Plan((first, second, third), ("total",), {schema.BUNDLE_ID: "b1"})


def batch_of(contents: list[bytes]) -> pa.Table:
    return pa.table(
        {
            schema.IMAGE_ID: pa.array([f"i{row}" for row in range(len(contents))], pa.string()),
            schema.BYTES: pa.array(contents, pa.binary()),
            "caption": pa.array([f"c{row}" for row in range(len(contents))], pa.string()),
        }
    )


def counted(batch: pa.Table) -> pa.Table:
    words = batch.column(schema.SOCIAL_TAGS)
    assert words.type == pa.list_(pa.string())
    return pa.table(
        {
            "total": pa.array(
                [None if w is None else len(w) for w in words.to_pylist()], pa.float32()
            )
        }
    )


SOCIAL = Plan(
    (Stage("count", lambda: counted, (schema.SOCIAL_TAGS,), (pa.field("total", pa.float32()),)),),
    ("total",),
)


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (None, [None, None]),
        (pa.nulls(2), [None, None]),
        (pa.array([[], None]), [0, None]),
        (pa.array([["a"], ["b", "c"]], pa.large_list(pa.large_string())), [1, 2]),
    ],
)
def test_what_a_caller_may_give_is_null_where_it_was_not(
    column: pa.Array | None, found: list[float | None]
) -> None:
    batch = pa.table({schema.IMAGE_ID: ["x", "y"]})
    SOCIAL.check({schema.IMAGE_ID})
    if column is not None:
        batch = batch.append_column(schema.SOCIAL_TAGS, column)
    out = SOCIAL.workers()(batch)
    assert out.column("total").to_pylist() == found
    # The caller's own column rides along as it came, and none is made up.
    assert (schema.SOCIAL_TAGS in out.column_names) == (column is not None)
    assert column is None or out.column(schema.SOCIAL_TAGS).type == column.type


def test_what_a_caller_may_give_must_be_of_its_type() -> None:
    batch = pa.table({schema.IMAGE_ID: ["x"], schema.SOCIAL_TAGS: ["sea, sky"]})
    with pytest.raises(SchemaError, match=r"reads `social_tags` as list.* of type string"):
        SOCIAL.workers()(batch)


MIXED = [b"bad", b"a", b"bad", b"abc", b"ab", b"bad"]


def test_failed_rows_keep_their_place_their_reason_and_the_callers_columns() -> None:
    out = three_stages(CPU, CPU).workers()(batch_of(MIXED))
    assert out.column(schema.IMAGE_ID).to_pylist() == ["i0", "i1", "i2", "i3", "i4", "i5"]
    assert out.column("caption").to_pylist() == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert out.column("total").to_pylist() == [None, 4, None, 12, 8, None]
    assert out.column(schema.ERROR).to_pylist() == ["empty", None, "empty", None, None, "empty"]
    assert out.column(schema.REASON).to_pylist()[:2] == ["no good", None]


def test_dead_columns_are_dropped_and_stamps_are_on_every_row() -> None:
    out = three_stages(CPU, CPU).workers()(batch_of(MIXED))
    assert set(out.column_names) == {
        schema.IMAGE_ID,
        "caption",
        schema.ERROR,
        schema.REASON,
        "total",
        schema.BUNDLE_ID,
    }
    assert out.column(schema.BUNDLE_ID).to_pylist() == ["b1"] * 6


def test_a_kept_tensor_is_null_for_a_failed_row() -> None:
    plan = three_stages(CPU, CPU)
    out = Plan(plan.stages, (schema.EMBEDDING,)).workers()(batch_of([b"bad", b"abc"]))
    assert out.column(schema.EMBEDDING).null_count == 1
    assert out.schema.field(schema.EMBEDDING).type == PAIR
    healthy = out.filter(out.column(schema.ERROR).is_null())
    assert schema.float_tensor(healthy, schema.EMBEDDING).tolist() == [[6, 6]]


@pytest.mark.parametrize("contents", [[], [b"bad", b"bad"], [b"a", b"b"]])
def test_the_columns_do_not_depend_on_what_failed(contents: list[bytes]) -> None:
    workers = three_stages(CPU, CPU).workers()
    out = workers(batch_of(contents))
    assert out.num_rows == len(contents)
    assert out.select(sorted(out.column_names)).schema == (
        (mixed := workers(batch_of(MIXED))).select(sorted(mixed.column_names)).schema
    )


def test_rows_that_came_with_an_error_are_not_worked_on() -> None:
    seen: list[int] = []

    def counting(batch: pa.Table) -> pa.Table:
        seen.append(batch.num_rows)
        return lengths(batch)

    plan = three_stages(CPU, CPU)
    decode = Stage("decode", lambda: counting, plan.stages[0].reads, plan.stages[0].writes)
    batch = (
        batch_of([b"a", b"abc"])
        .append_column(schema.ERROR, pa.array(["unreadable_uri", None], pa.string()))
        .append_column(schema.REASON, pa.array(["gone", None], pa.string()))
    )
    out = Plan((decode, *plan.stages[1:]), plan.keeps).workers()(batch)
    assert seen == [1]
    assert out.column(schema.ERROR).to_pylist() == ["unreadable_uri", None]
    assert out.column(schema.REASON).to_pylist() == ["gone", None]
    assert out.column("total").to_pylist() == [None, 12]


def test_a_slice_of_a_batch_gives_the_slice_of_the_result() -> None:
    workers = three_stages(CPU, CPU).workers()
    batch = batch_of(MIXED)
    whole = workers(batch)
    for start in range(0, 6, 2):
        part = workers(batch.slice(start, 2))
        assert part.to_pylist() == whole.slice(start, 2).to_pylist()


@pytest.mark.parametrize(
    ("middle", "last", "names"),
    [
        (CPU, CPU, [["decode", "embed", "sum"]]),
        (GPU, GPU, [["decode"], ["embed", "sum"]]),
        (CPU, GPU, [["decode", "embed"], ["sum"]]),
        (GPU, CPU, [["decode"], ["embed"], ["sum"]]),
    ],
)
def test_segments_fold_to_the_same_as_the_whole(
    middle: Resources, last: Resources, names: list[list[str]]
) -> None:
    plan = three_stages(middle, last)
    segments = plan.segments()
    assert [[one.name for one in segment.stages] for segment in segments] == names
    batch = batch_of(MIXED)
    for segment in segments:
        batch = segment.workers()(batch)
    whole = plan.workers()(batch_of(MIXED))
    assert set(batch.column_names) == set(whole.column_names)
    assert batch.select(whole.column_names).to_pylist() == whole.to_pylist()


def test_a_column_read_two_segments_later_passes_the_one_between() -> None:
    plan = three_stages(GPU, CPU)

    def both(batch: pa.Table) -> pa.Table:
        pixels = schema.float_tensor(batch, schema.PIXELS)
        embedding = schema.float_tensor(batch, schema.EMBEDDING)
        return pa.table({"total": pa.array((pixels + embedding).sum(axis=1), pa.float32())})

    last = Stage(
        "sum", lambda: both, (schema.PIXELS, schema.EMBEDDING), (pa.field("total", pa.float32()),)
    )
    batch = batch_of(MIXED)
    for segment in Plan((*plan.stages[:2], last), ("total",)).segments():
        batch = segment.workers()(batch)
    assert batch.column("total").to_pylist() == [None, 6, None, 18, 12, None]
    assert schema.PIXELS not in batch.column_names
    assert schema.EMBEDDING not in batch.column_names


def test_a_plan_toward_some_columns_leaves_out_the_stages_they_do_not_need() -> None:
    plan = three_stages(CPU, CPU)
    embedding = plan.toward((schema.EMBEDDING,))
    assert [one.name for one in embedding.stages] == ["decode", "embed"]
    assert embedding.keeps == (schema.EMBEDDING,)
    assert embedding.stamps == plan.stamps
    with pytest.raises(SchemaError, match="no stage writes"):
        plan.toward((schema.EMBEDDING, "depth"))


class InParts:
    """Does as `lengths`, and says that all its time went into two parts of its own."""

    def __init__(self) -> None:
        self.seconds: Mapping[str, float] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        self.seconds = {"decode": 2.0, "resize": self.seconds.get("resize", 0.0) + 1.0}
        return lengths(batch)


def test_workers_count_the_seconds_of_every_stage() -> None:
    workers = three_stages(CPU, CPU).workers()
    assert workers.seconds == {}
    workers(batch_of(MIXED))
    once = workers.seconds
    assert set(once) == {"decode", "embed", "sum", FOLDING}
    assert min(once.values()) > 0
    workers(batch_of(MIXED))
    assert all(workers.seconds[name] > once[name] for name in once)


def test_a_worker_that_tells_its_parts_is_listed_by_them() -> None:
    plan = three_stages(CPU, CPU)
    decode = Stage("decode", InParts, plan.stages[0].reads, plan.stages[0].writes)
    workers: Workers = Plan((decode, *plan.stages[1:]), plan.keeps).workers()
    workers(batch_of(MIXED))
    workers(batch_of(MIXED))
    assert set(workers.seconds) == {"decode", "resize", "embed", "sum", FOLDING}
    assert (workers.seconds["decode"], workers.seconds["resize"]) == (2.0, 2.0)


def test_good_wiring_passes() -> None:
    three_stages(CPU, GPU).check({schema.IMAGE_ID, schema.BYTES})


@pytest.mark.parametrize(
    ("order", "keeps", "given", "message"),
    [
        ((0, 1, 2), ("total",), {schema.IMAGE_ID}, r"stage 'decode' reads \['bytes'\]"),
        ((0, 2, 1), ("total",), {schema.BYTES}, r"stage 'sum' reads \['embedding'\]"),
        ((0, 1, 1), (), {schema.BYTES}, r"stage 'embed' writes \['embedding'\].*already"),
        ((0, 1), ("total",), {schema.BYTES}, r"columns \['total'\] are asked for"),
        ((0,), (), {schema.BYTES, schema.PIXELS}, r"stage 'decode' writes \['pixels'\]"),
    ],
)
def test_bad_wiring_is_refused(
    order: tuple[int, ...], keeps: tuple[str, ...], given: set[str], message: str
) -> None:
    stages = three_stages(CPU, CPU).stages
    with pytest.raises(SchemaError, match=message):
        Plan(tuple(stages[place] for place in order), keeps).check(given)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 2, 2, 3)])
def test_tensors_go_into_a_column_and_out_again(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    table = pa.table({"x": schema.tensor_column(values)})
    np.testing.assert_array_equal(schema.tensor_values(table, "x"), values)
    np.testing.assert_array_equal(schema.tensor_values(table.slice(1), "x"), values[1:])
    np.testing.assert_array_equal(schema.tensor_values(table.slice(0, 0), "x"), values[:0])
    twice = pa.concat_tables([table, table])
    np.testing.assert_array_equal(
        schema.tensor_values(twice, "x"), np.concatenate([values, values])
    )
    empty = table.schema.empty_table()
    np.testing.assert_array_equal(schema.tensor_values(empty, "x"), values[:0])
