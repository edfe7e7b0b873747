"""The Grafana dashboard asks for metrics that exist, and shows all that there are."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from jobs import metrics
from serve.metrics import Metrics
from serve.stages import Batch
from tests.manifests import FOLDER, dashboard_metrics, kustomize

DASHBOARD: dict[str, Any] = json.loads(
    (FOLDER / "grafana" / "dashboard.json").read_text(encoding="utf-8")
)
OF_JOBS = {metrics.PICTURES: ["total"], metrics.CHUNK: [], metrics.STAGE: []}
HISTOGRAM = ["bucket", "sum", "count"]


def of_the_server() -> dict[str, set[str]]:
    """By metric: the names that Prometheus gets, after one of everything was noted."""
    replica = Metrics("r")
    replica.request("/v1/annotate", 200, 0.1)
    replica.error("empty")
    replica.batches("all", (Batch(1, {"decode": 0.1}),))
    replica.pictures(1)
    families = text_string_to_metric_families(replica.text().decode())
    return {
        family.name: {sample.name for sample in family.samples}
        for family in families
        if not family.name.endswith("_created")
    }


def of_jobs() -> dict[str, set[str]]:
    """The same of the jobs' metrics, as Ray names them."""
    return {
        name: {f"ray_{name}_{end}" for end in ends or HISTOGRAM} for name, ends in OF_JOBS.items()
    }


def test_every_query_names_a_metric_that_exists_and_every_metric_is_shown() -> None:
    asked = dashboard_metrics()
    known = of_the_server() | of_jobs()
    # Ray's own are held against a running Ray in tests/e2e/test_observed.py.
    ours = {name for name in asked if "tagloom" in name}
    assert ours <= set().union(*known.values())
    assert [name for name, samples in known.items() if not samples & ours] == []
    assert asked - ours


def test_panels_neither_overlap_nor_share_a_number() -> None:
    panels = DASHBOARD["panels"]
    places: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        places.update(
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        )
    assert set(places.values()) == {1}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_monitoring_component_brings_the_dashboard(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    near = os.path.relpath(FOLDER, folder)
    (folder / "kustomization.yaml").write_text(
        f"resources: [{near}/base]\ncomponents: [{near}/components/monitoring]\n"
    )
    (found,) = (o for o in kustomize(folder) if o["metadata"]["name"] == "tagloom-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["dashboard.json"]) == DASHBOARD
