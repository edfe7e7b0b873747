"""The Kubernetes manifests as kustomize renders them, and the schemas that they must keep to."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from typer.core import TyperGroup

from jobs.__main__ import app

TOP = Path(__file__).parents[1]
FOLDER = TOP / "k8s"
VARIANTS = ("base", *(f"overlays/{path.name}" for path in sorted((FOLDER / "overlays").iterdir())))
"""What can be applied, by folder."""

CLUSTERS = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
"""KubeRay's kinds, and where in their specification that of a Ray cluster is."""

_CRDS = Path(os.environ.get("KUBERAY_CRDS", TOP.parent / "shared" / "kuberay-crds"))

Manifest = dict[str, Any]


def load_all(text: str) -> list[Manifest]:
    """The documents of a YAML text, by libyaml, which is ten times as fast."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def kustomize(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder; it needs neither a cluster nor a network."""
    beside = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    program = beside or shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl here; the extra [dev] has it")
    done = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_all(done.stdout)


@cache
def rendered(variant: str) -> tuple[Manifest, ...]:
    """All objects of a variant. Not to be changed."""
    return tuple(kustomize(FOLDER / variant))


def named(variant: str, kind: str, name: str) -> Manifest:
    """One object of a variant."""
    (found,) = (o for o in rendered(variant) if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def cluster(manifest: Manifest) -> Manifest:
    """The Ray cluster's specification in one of KubeRay's kinds."""
    spec: Manifest = manifest["spec"]
    for key in CLUSTERS[manifest["kind"]]:
        spec = spec[key]
    return spec


def pods(node: object) -> Iterator[Manifest]:
    """Every pod template within, as {'metadata': ..., 'spec': ...}."""
    if isinstance(node, dict):
        spec = node.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            yield node
        else:
            for inner in node.values():
                yield from pods(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from pods(inner)


def parsed(entrypoint: str) -> tuple[str, dict[str, Any]]:
    """A command and its options, as the program's own parser reads them."""
    program, command, *arguments = shlex.split(entrypoint)
    assert program == "tagloom"
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return command, group.commands[command].make_context(command, arguments).params


@cache
def kuberay_schema(kind: str) -> Manifest:
    """KubeRay's own schema of one of its kinds, in which fields that it does not list are wrong.

    The test is skipped where there are no resource definitions.
    """
    path = _CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"no KubeRay resource definitions at {_CRDS}; set KUBERAY_CRDS")
    (definition,) = load_all(path.read_text(encoding="utf-8"))
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema: Manifest = version["schema"]["openAPIV3Schema"]
    _close(schema)
    return schema


def kuberay_errors(manifest: Manifest) -> list[str]:
    """What is wrong with an object of KubeRay's. Only as much of the schema is read as it needs."""
    validator = jsonschema.Draft202012Validator(kuberay_schema(manifest["kind"]))
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(manifest)]


def _close(node: object) -> None:
    if isinstance(node, dict):
        listed = "properties" in node and "additionalProperties" not in node
        if listed and not node.get("x-kubernetes-preserve-unknown-fields"):
            node["additionalProperties"] = False
        for inner in node.values():
            _close(inner)
    elif isinstance(node, list):
        for inner in node:
            _close(inner)


def dashboard_metrics() -> set[str]:
    """The names of all metrics that the Grafana dashboard asks for, as Prometheus knows them."""
    text = (FOLDER / "grafana" / "dashboard.json").read_text(encoding="utf-8")
    asked: list[str] = []
    for panel in json.loads(text)["panels"]:
        asked.extend(target["expr"] for target in panel.get("targets", []))
    # Without what stands in braces and after 'by' or 'on', which are labels.
    bare = (re.sub(r"\{[^}]*\}|\b(by|on)\s*\([^)]*\)", "", expression) for expression in asked)
    return {name for text in bare for name in re.findall(r"\b(?:ray|tagloom)_\w+", text)}
