"""Nodes that are killed with a submitted job on them: SIGKILL to all processes of a node."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters import PATIENCE, Cluster, canonical, counts, parts, wait_until
from tests.conftest import Tagloom
from tests.gates import ROWS, Gate


@contextmanager
def _submitted(
    cluster: Cluster, source: Path, bundle: Path, output: Path
) -> Iterator[subprocess.Popen[str]]:
    """`tagloom submit annotate`, following it."""
    options = {
        "--input": source,
        "--bundle": bundle,
        "--output": output,
        "--workers": 2,
        "--address": cluster.dashboard,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", "submit", "annotate", *words],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        try:
            yield job
        finally:
            job.kill()


def _check(output: Path, undisturbed: bytes) -> None:
    assert canonical(output) == undisturbed
    assert counts(output) == {
        "rows": ROWS,
        "tagged": ROWS - 3,
        "failed": 3,
        "errors": {"empty": 1, "not_an_image": 1, "truncated": 1},
        "parts": len(parts(output)),
    }
    named = {part.name for part in parts(output)} | {"job.json", "manifest.json"}
    assert {path.name for path in output.iterdir()} == named


def test_a_job_outlives_a_node(
    two_nodes: Cluster,
    gate: Gate,
    gated_rows: Path,
    undisturbed: bytes,
    bundle_folder: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    other = two_nodes.nodes[-1]
    with _submitted(two_nodes, gated_rows, bundle_folder, output) as job:
        wait_until(lambda: parts(output) and gate.asked.is_set(), job)
        wait_until(lambda: other.has("SegmentWorker"), job)
        other.kill()
        two_nodes.join()
        gate.open.set()
        _, err = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, err
    _check(output, undisturbed)


def test_the_same_job_goes_on_elsewhere_when_the_head_was_killed(
    tagloom: Tagloom,
    two_nodes: Cluster,
    gate: Gate,
    gated_rows: Path,
    undisturbed: bytes,
    bundle_folder: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    with _submitted(two_nodes, gated_rows, bundle_folder, output) as job:
        wait_until(lambda: parts(output) and gate.asked.is_set(), job)
        two_nodes.nodes[0].kill()
        _, err = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1
    assert f"error: {two_nodes.dashboard}: no Ray cluster answers there" in err
    # Or what is left of the other node would still write the parts that it holds.
    two_nodes.kill()
    before = {part: part.stat().st_mtime_ns for part in parts(output)}
    assert before
    assert not (output / "manifest.json").exists()

    gate.open.set()
    words = ["--input", gated_rows, "--bundle", bundle_folder, "--output", output]
    run = tagloom("annotate", *words)
    assert run.code == 0, run.err
    assert f"going on: {len(before)} of" in run.err
    assert {part: part.stat().st_mtime_ns for part in before} == before
    _check(output, undisturbed)
