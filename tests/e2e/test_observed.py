"""A job seen from outside: the lines that it logs, and the figures that Prometheus can fetch."""

import json
import time
from pathlib import Path

import httpx2
import ray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from jobs import metrics
from tests.manifests import dashboard_metrics

PATIENCE = 60.0
"""Seconds; Ray's nodes export what their workers count every ten."""


def exported(name: str, label: str) -> dict[str, float]:
    """The sum of a metric's samples over the workers of the tests' Ray, by a label's value."""
    found: dict[str, float] = {}
    for sample in samples():
        if sample.name == f"ray_{name}":
            value = sample.labels[label]
            found[value] = found.get(value, 0.0) + sample.value
    return found


def samples() -> list[Sample]:
    """All that Prometheus would fetch from the tests' Ray."""
    port = ray.nodes()[0]["MetricsExportPort"]
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_a_job_is_logged_part_by_part_and_counted(
    tagloom, corpus_folder: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, file in enumerate(sorted((corpus_folder / "images").iterdir())[:140]):
        # The last ones, which are not in the part that is made while Ray starts.
        data = file.read_bytes()
        kept = len(data) // 2 if number > 137 else len(data)
        (pictures / f"{number:04}.jpg").write_bytes(data[:kept])
    total = f"{metrics.PICTURES}_total"
    before = exported(total, "code")
    log = tmp_path / "log.jsonl"
    run = tagloom(
        *("annotate", "--input", pictures, "--bundle", bundle_folder, "--workers", 1),
        *("--output", tmp_path / "out", "--log", log),
    )
    assert run.code == 0, run.err
    account = json.loads(run.out)
    assert (account["tagged"], account["errors"]) == (138, {"truncated": 2})
    assert "annotating: 140 done, 2 failed" in run.err

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    parts = {path.name for path in (tmp_path / "out").glob("part-*.parquet")}
    assert {line["part"] for line in lines} == parts
    assert sum(line["rows"] for line in lines) == 140
    assert sum(line["errors"].get("truncated", 0) for line in lines) == 2
    assert all({"decode", "embed", "fuse"} < set(line["seconds"]) for line in lines)
    # What Ray's workers made is in the session's logs as well, and nothing else is logged twice.
    session = Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1]
    written = [
        json.loads(line)
        for file in (session / "logs").glob("worker-*.err")
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith('{"time"') and any(f'"{part}"' in line for part in parts)
    ]
    workers = {worker for line in written for worker in line["workers"]}
    by_ray = [line for line in lines if set(line["workers"]) & workers]
    assert {line["part"] for line in by_ray} <= {line["part"] for line in written}
    assert any(line["errors"] == {"truncated": 2} for line in by_ray)

    made = {"ok": sum(line["rows"] - line["failed"] for line in by_ray), "truncated": 2}
    deadline = time.monotonic() + PATIENCE
    while True:
        now = exported(total, "code")
        counted = {code: now.get(code, 0) - before.get(code, 0) for code in made}
        if counted == made or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert counted == made
    stages = exported(f"{metrics.STAGE}_count", "stage")
    assert set(by_ray[0]["seconds"]) <= set(stages)
    # What the dashboard asks of Ray itself, Ray has.
    of_ray = {name for name in dashboard_metrics() if name.startswith("ray_")}
    assert of_ray <= {sample.name for sample in samples()}
