"""Jobs on a cluster of two nodes, by `tagloom submit` and by `ray job submit`."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.clusters import PATIENCE, Cluster, wait_until
from tests.gates import Gate


def _run(
    cluster: Cluster, program: Sequence[object], *words: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, program), *map(str, words)],
        env={**cluster.environment, "SECRET": "sesame"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


SUBMIT = (sys.executable, "-m", "jobs", "submit")


def test_a_job_ends_as_it_would_here(
    two_nodes: Cluster, corpus_folder: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = ["annotate", "--input", corpus_folder, "--bundle", bundle_folder, "--output", out]
    own = ["--address", two_nodes.dashboard, "--submission-id", "first", "--env", "SECRET"]
    run = _run(two_nodes, SUBMIT, *job, *own, "--entrypoint-num-cpus", "0.1")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == json.loads((out / "manifest.json").read_text())
    assert json.loads(run.stdout)["rows"] == 150
    assert "job first is at" in run.stderr
    assert "150 pictures: 150 tagged, 0 failed" in run.stderr
    told = two_nodes.job("first")
    assert told["runtime_env"]["env_vars"]["SECRET"] == "sesame"  # type: ignore[index]
    assert "sesame" not in run.stdout + run.stderr

    # Ray's own command, which finds the work done.
    ray = [Path(sys.executable).parent / "ray", "job", "submit", "--address", two_nodes.dashboard]
    run = _run(two_nodes, ray, "--", "python", "-m", "jobs", *job)
    assert run.returncode == 0, run.stderr
    parts = len(list(out.glob("part-*.parquet")))
    assert f"going on: {parts} of {parts} parts are there" in run.stdout


def test_a_jobs_exit_code_is_that_of_submit(two_nodes: Cluster, tmp_path: Path) -> None:
    (tmp_path / "work" / "corpus").mkdir(parents=True)
    address = ["--address", two_nodes.dashboard]
    # Found in the uploaded folder, where it holds nothing.
    words = ["corpus", "split", "--corpus", "corpus", "--out", tmp_path / "out"]
    run = _run(two_nodes, SUBMIT, "--working-dir", tmp_path / "work", *address, *words)
    assert run.returncode == 1
    assert "/corpus: " in run.stderr.rpartition("error: ")[2]
    # Neither --bundle nor --server: what only the job itself finds.
    run = _run(two_nodes, SUBMIT, "annotate", "--input", "/in", "--output", "/out", *address)
    assert run.returncode == 2
    # Without the token, and where nobody listens.
    words = ["gallery", "/in", "--out", "/out.html"]
    two_nodes_without = {**two_nodes.environment, "RAY_AUTH_TOKEN": "wrong"}
    for environment, where, told in (
        (two_nodes_without, two_nodes.dashboard, "asks for a token; set RAY_AUTH_MODE=token"),
        (two_nodes.environment, "http://127.0.0.1:9", "no Ray cluster answers there"),
    ):
        run = subprocess.run(
            [*SUBMIT, *words, "--address", where],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert run.returncode == 1
        assert f"error: {where}: {told}" in run.stderr
        assert run.stderr.count("\n") == 1, run.stderr


def test_following_ends_alone_and_a_stopped_job_is_told(
    two_nodes: Cluster,
    gate: Gate,
    gate_server: tuple[Gate, str],
    tmp_path: Path,
    interruptible: None,
) -> None:
    jobs = {}
    for name in ("left", "stopped"):
        # They wait for the server's first answer.
        words = ["annotate", "--input", "/in", "--output", str(tmp_path / name)]
        words += ["--server", gate_server[1].rpartition("/")[0]]
        jobs[name] = subprocess.Popen(
            [*SUBMIT, *words, "--submission-id", name, "--address", two_nodes.dashboard],
            env=two_nodes.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        for name, process in jobs.items():
            wait_until(lambda name=name: two_nodes.job(name).get("status") == "RUNNING", process)
        jobs["left"].send_signal(signal.SIGINT)
        _, err = jobs["left"].communicate(timeout=PATIENCE)
        assert jobs["left"].returncode == 130, err
        assert f"'ray job logs --follow left --address {two_nodes.dashboard}'" in err
        assert two_nodes.job("left")["status"] == "RUNNING"
        two_nodes.stop_job("stopped")
        _, err = jobs["stopped"].communicate(timeout=PATIENCE)
        assert jobs["stopped"].returncode not in (0, 130), err
        assert "error: job stopped was stopped" in err
    finally:
        for name in jobs:
            two_nodes.stop_job(name)
        for process in jobs.values():
            process.kill()
            process.communicate()
