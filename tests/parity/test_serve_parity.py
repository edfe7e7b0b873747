"""The batch job and the endpoint, fused and split, give the same pictures the same tags."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.sample import SamplePicture, draw_picture
from serve.client import Client
from tests.serving import quick, serving

PICTURES = 200
AT_ONCE = 20


@pytest.fixture(scope="module")
def drawn() -> list[SamplePicture]:
    return [draw_picture(index, seed=11) for index in range(PICTURES)]


@pytest.fixture(scope="module")
def by_id(drawn: list[SamplePicture]) -> dict[str, bytes]:
    """With some that are broken, each in another way."""
    jpegs = {one.image_id: one.jpeg for one in drawn}
    names = list(jpegs)
    jpegs[names[3]] = b""
    jpegs[names[50]] = b"<html>"
    jpegs[names[111]] = jpegs[names[111]][:-700]
    return jpegs


Expected = dict[str, tuple[str | None, list[str] | None, list[float] | None]]


@pytest.fixture
def expected(
    by_id: dict[str, bytes],
    bundle_folder: Path,
    tagloom: Any,
    tmp_path: Path,
) -> Expected:
    """What the batch job says: an error's code, or tags and scores."""
    source = tmp_path / "pictures"
    source.mkdir()
    for name, jpeg in by_id.items():
        (source / f"{name}.jpg").write_bytes(jpeg)
    out = tmp_path / "out"
    done = tagloom("annotate", "--input", source, "--bundle", bundle_folder, "--output", out)
    assert done.code == 0, done.err
    found: Expected = {}
    for row in pq.read_table(sorted(out.glob("part-*.parquet"))).to_pylist():
        tags = None if row["error"] else [one["tag"] for one in row["tags"]]
        scores = None if row["error"] else [one["score"] for one in row["tags"]]
        found[Path(row["image_id"]).stem] = (row["error"], tags, scores)
    return found


def test_the_job_and_the_endpoint_agree(
    cluster: None, by_id: dict[str, bytes], bundle_folder: Path, expected: Expected
) -> None:
    names = list(by_id)
    groups = [names[start : start + AT_ONCE] for start in range(0, PICTURES, AT_ONCE)]
    for topology in ("fused", "split"):
        with (
            serving(quick(bundle_folder, topology=topology)) as (url, _),
            Client(url) as client,
            ThreadPoolExecutor(3) as threads,
        ):
            answers = threads.map(lambda g: client.annotate([by_id[n] for n in g]), groups)
            results = [result for answer in answers for result in answer.results]
        for name, result in zip(names, results, strict=True):
            error, tags, scores = expected[name]
            assert (result.error and result.error.code) == error, (topology, name)
            if tags is not None:
                assert [one.tag for one in result.tags] == tags, (topology, name)
                # Batches differ, and with them the last bits of a sum.
                assert [one.score for one in result.tags] == pytest.approx(scores, abs=1e-5)
