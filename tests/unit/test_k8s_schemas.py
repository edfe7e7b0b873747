"""Every manifest keeps to the schemas of KubeRay and of Kubernetes; no cluster here."""

import copy
import json
import os
from pathlib import Path

import kubernetes_validate
import pytest

from tests.manifests import (
    CLUSTERS,
    FOLDER,
    VARIANTS,
    Manifest,
    cluster,
    kuberay_errors,
    kustomize,
    named,
    rendered,
)

KUBERNETES = "1.37"
WITHOUT_SCHEMA = {"PodMonitor", "ScrapeConfig"}
"""Of the Prometheus operator, whose schemas are not at hand."""


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """GPUs, object storage and monitoring, all at once."""
    folder = tmp_path_factory.mktemp("combined")
    near = os.path.relpath(FOLDER, folder.resolve())
    (folder / "kustomization.yaml").write_text(
        f"resources: [{near}/overlays/gpu]\n"
        f"components: [{near}/components/object-storage, {near}/components/monitoring]\n"
    )
    return kustomize(folder)


def objects(combined: list[Manifest]) -> list[Manifest]:
    """Each different object of all the variants once."""
    found = {json.dumps(o, sort_keys=True): o for v in VARIANTS for o in rendered(v)}
    found |= {json.dumps(o, sort_keys=True): o for o in combined}
    return list(found.values())


def test_kuberays_kinds_keep_to_its_resource_definitions(combined: list[Manifest]) -> None:
    checked = [o for o in objects(combined) if o["kind"] in CLUSTERS]
    assert len(checked) >= 4 * len(VARIANTS) - 2
    wrong = {o["metadata"]["name"]: errors for o in checked if (errors := kuberay_errors(o))}
    assert not wrong


def test_all_other_kinds_keep_to_kubernetes_schemas(combined: list[Manifest]) -> None:
    others = [o for o in objects(combined) if o["kind"] not in CLUSTERS]
    checked = [o for o in others if o["kind"] not in WITHOUT_SCHEMA]
    kinds = {"ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget"}
    assert {o["kind"] for o in checked} == kinds | {"ServiceAccount"}
    for manifest in checked:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_misspelt_field_of_kuberays_is_caught(kind: str) -> None:
    (first, *_) = (o for o in rendered("base") if o["kind"] == kind)
    for spoil in (_misspell_container, _misspell_group):
        manifest = copy.deepcopy(first)
        told = spoil(cluster(manifest))
        assert any(told in error for error in kuberay_errors(manifest))


def _misspell_container(spec: Manifest) -> str:
    container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["resorces"] = container.pop("resources")
    return "'resorces' was unexpected"


def _misspell_group(spec: Manifest) -> str:
    spec["workerGroupSpecs"][0]["maxReplica"] = 3
    return "'maxReplica' was unexpected"


def test_a_misspelt_field_of_kubernetes_is_caught() -> None:
    manifest = copy.deepcopy(named("base", "NetworkPolicy", "tagloom-requests"))
    manifest["spec"]["ingres"] = manifest["spec"].pop("ingress")
    with pytest.raises(kubernetes_validate.ValidationError, match="ingres"):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_file_is_part_of_something() -> None:
    told = set(FOLDER.rglob("kustomization.yaml"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in told)
    rest = set(FOLDER.rglob("*.yaml")) - told
    assert [path for path in rest if f"- {path.name}\n" not in text] == []
    assert {Path(variant) for variant in VARIANTS} <= {
        path.parent.relative_to(FOLDER) for path in told
    }
