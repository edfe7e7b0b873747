"""Jobs that are killed, and workers that are killed: they go on, and end with every row once."""

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from engine.bundle import load_bundle
from engine.errors import CorpusError
from engine.plan import annotation_plan
from engine.stage import Resources
from jobs.annotate import preparing
from jobs.console import Console
from jobs.runner import RunSettings, run_plan
from jobs.sink import Receipt
from jobs.source import take_inventory
from jobs.store import Store
from tests.clusters import canonical, parts
from tests.conftest import Tagloom
from tests.gates import PATIENCE, ROWS, Gate
from tests.victims import victim


def _until(happened: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def _check_output(output: Path) -> None:
    """Every row once, an account that adds up, and nothing left over."""
    rows = [row for part in parts(output) for row in pq.read_table(part).to_pylist()]
    assert [row["image_id"] for row in rows] == [str(row) for row in range(ROWS)]
    account = json.loads((output / "manifest.json").read_text())
    errors = Counter(row["error"] for row in rows if row["error"])
    assert errors == {"empty": 1, "not_an_image": 1, "truncated": 1}
    assert account["errors"] == errors
    assert (account["rows"], account["tagged"], account["failed"]) == (ROWS, ROWS - 3, 3)
    assert account["parts"] == len(parts(output))
    named = {part.name for part in parts(output)} | {"job.json", "manifest.json"}
    assert {path.name for path in output.iterdir()} == named


def _annotate(source: Path, bundle: Path, output: Path) -> list[str]:
    options = {"--input": source, "--bundle": bundle, "--output": output}
    words = [str(word) for pair in options.items() for word in pair]
    return ["annotate", *words, "--workers", "2"]


def test_a_killed_job_goes_on_and_ends_with_every_row_once(
    gate: Gate,
    gated_rows: Path,
    undisturbed: bytes,
    bundle_folder: Path,
    tmp_path: Path,
    tagloom: Tagloom,
) -> None:
    output = tmp_path / "out"
    command = _annotate(gated_rows, bundle_folder, output)
    with victim(command) as job:
        _until(lambda: parts(output) and gate.asked.is_set(), job.process)
        group = job.look()
        # Ray's own agents need a minute to notice, and are of no matter to anyone.
        agents = [one for one in group if "Agent" in " ".join(one.cmdline())]
        job.process.kill()
        # What it started ends by itself.
        started = [one for one in group if one not in agents]
        _, alive = psutil.wait_procs(started, timeout=PATIENCE)
        assert not alive
    before = {part: part.stat().st_mtime_ns for part in parts(output)}
    assert before
    assert not (output / "manifest.json").exists()
    (output / ".draft-1-part-00000-00000.parquet").write_bytes(b"half a part")

    gate.open.set()
    run = tagloom(*command)
    assert run.code == 0, run.err
    assert f"going on: {len(before)} of" in run.err
    assert {part: part.stat().st_mtime_ns for part in before} == before
    assert json.loads(run.out) == json.loads((output / "manifest.json").read_text())
    _check_output(output)
    assert canonical(output) == undisturbed


def test_a_draft_of_a_worker_that_was_killed_on_the_way_does_not_stay(
    cluster: None, corpus_folder: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    """Its successor writes the part under a name of its own."""
    output = tmp_path / "out"
    drafts = iter([output / ".draft-1-part-00000-00000.parquet"])

    def left_on_the_way(receipt: Receipt) -> None:
        for draft in drafts:
            draft.write_bytes(b"half a part")

    asked = (str(corpus_folder / "images"), str(bundle_folder), str(output), 5)
    with preparing(*asked, Console(quiet=True), RunSettings(workers=1)) as job:
        account = job.run(note=left_on_the_way)
    assert next(drafts, None) is None
    left = {path.name for path in output.iterdir()}
    assert left == {part.name for part in parts(output)} | {"job.json", "manifest.json"}
    assert account.parts == len(parts(output))


def _workers() -> list[psutil.Process]:
    """The job's actors among the children of this process's own Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "SegmentWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_job_outlives_its_workers(
    cluster: None,
    gate: Gate,
    gated_rows: Path,
    bundle_folder: Path,
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path / "out"))
    inventory = take_inventory(str(gated_rows), store, is_corpus=False)
    plan = annotation_plan(load_bundle(bundle_folder), 5)
    run = run_plan(plan, inventory, frozenset(), store, RunSettings(workers=2), 10_000_000)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(list[Receipt], run)
        try:
            _until(lambda: job.done() or (parts(tmp_path / "out") and gate.asked.is_set()))
            assert not job.done(), job.result()
            workers = _workers()
            assert workers
            for worker in workers:
                worker.kill()
        finally:
            gate.open.set()
        found = job.result(PATIENCE)
    assert sorted(receipt.chunk for receipt in found) == [c.name for c in inventory.chunks]
    assert sum(receipt.rows for receipt in found) == ROWS
    rows = [row for part in parts(tmp_path / "out") for row in pq.read_table(part).to_pylist()]
    assert [row["image_id"] for row in rows] == [str(row) for row in range(ROWS)]


def test_what_a_worker_finds_wrong_is_told_as_it_is(
    cluster: None, gated_rows: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    """Through a later segment too, to which the rows of that chunk never come."""
    store = Store(str(tmp_path / "out"))
    source = tmp_path / "in.parquet"
    shutil.copy(gated_rows, source)
    inventory = take_inventory(str(source), store, is_corpus=False)
    pq.write_table(pq.read_table(source).slice(0, 10), source)
    resources = {"decode": Resources(cpus=0.5), "fuse": Resources(cpus=0.9)}
    plan = annotation_plan(load_bundle(bundle_folder), 5, resources=resources)
    with pytest.raises(CorpusError, match=f"^{source}: held 64 rows from .* when the job began"):
        list(run_plan(plan, inventory, frozenset(), store, RunSettings(workers=1), 10_000_000))
    assert parts(tmp_path / "out") == []
