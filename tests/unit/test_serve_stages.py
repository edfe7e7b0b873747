"""Slices of the plan: cut into deployments' parts, they answer as the whole does."""

from pathlib import Path

import pyarrow as pa
import pytest

from engine import schema
from engine.answer import Ask
from engine.bundle import Bundle, load_bundle
from engine.errors import BundleError
from engine.sample import SamplePicture
from serve.pipeline import Picture, _to_table
from serve.stages import (
    WANTS,
    BundleRef,
    Fold,
    Want,
    join,
    layout,
    reads_of,
    sliced,
    wanted_plan,
)


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def ref(bundle: Bundle) -> BundleRef:
    return BundleRef(str(bundle.folder), bundle.id)


@pytest.fixture(scope="module")
def table(pictures: list[SamplePicture]) -> pa.Table:
    sent = [Picture(one.image_id, one.jpeg) for one in pictures[:3]]
    lost = Picture("lost", None, (), "unreadable_uri", "gone")
    return _to_table([sent[0], Picture("broken", b"rubbish"), sent[1], lost, sent[2]], Ask(4))


@pytest.fixture(scope="module")
def whole(ref: BundleRef, bundle: Bundle) -> Fold:
    ((part,),) = layout(bundle, "fused")
    return Fold(ref, part.stages)


@pytest.mark.parametrize("want", WANTS)
def test_split_levels_answer_as_the_whole(
    want: Want, ref: BundleRef, bundle: Bundle, whole: Fold, table: pa.Table
) -> None:
    split = table
    for level in layout(bundle, "split"):
        parts = []
        for part in level:
            plan = sliced(wanted_plan(bundle, want), part.stages)
            if plan.stages:
                parts.append(Fold(ref, part.stages)(want, split.select(reads_of(plan))).table)
        split = join(split, parts)
    fused = whole(want, table).table
    for name in fused.column_names:
        assert split.column(name).to_pylist() == fused.column(name).to_pylist(), name
    codes = fused.column(schema.ERROR).to_pylist()
    assert codes == [None, "not_an_image", None, "unreadable_uri", None]


def test_an_embedding_needs_no_annotator(bundle: Bundle) -> None:
    assert [stage.name for stage in wanted_plan(bundle, "embedding").stages] == ["decode", "embed"]
    assert "fuse" not in [stage.name for stage in wanted_plan(bundle, "neighbours").stages]


def test_a_batch_tells_how_long_each_stage_took(whole: Fold, table: pa.Table) -> None:
    (batch,) = whole("tags", table).batches
    assert batch.rows == table.num_rows
    assert list(batch.seconds)[:2] == ["decode", "embed"]
    assert all(seconds >= 0 for seconds in batch.seconds.values())


def test_another_bundle_in_the_folder_is_refused(ref: BundleRef) -> None:
    with pytest.raises(BundleError, match="was asked for"):
        Fold(BundleRef(ref.folder, "0" * 16), ("decode",))
