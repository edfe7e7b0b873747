"""The Kubernetes manifests agree with the program, the package and each other; no cluster here."""

import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from jobs.__main__ import app

TOP = Path(__file__).parents[2]
FOLDER = TOP / "k8s"
FILES = sorted(FOLDER.glob("*.yaml"))
KUSTOMIZATION = FOLDER / "kustomization.yaml"
JOBS = sorted(FOLDER.glob("rayjob-*.yaml"))
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]

each_job = pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parsed(path: Path) -> tuple[str, dict[str, Any]]:
    """A job's command and its options, as the program's own parser reads the entrypoint."""
    program, command, *arguments = shlex.split(load(path)["spec"]["entrypoint"])
    assert program in PROJECT["scripts"]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return command, group.commands[command].make_context(command, arguments).params


def pods(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod's specification in a manifest."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        else:
            for inner in node.values():
                yield from pods(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from pods(inner)


def test_the_kustomization_lists_every_manifest() -> None:
    listed = load(KUSTOMIZATION)["resources"]
    assert sorted(listed) == [path.name for path in FILES if path != KUSTOMIZATION]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_parses_and_says_what_it_is(path: Path) -> None:
    assert {"apiVersion", "kind"} <= set(load(path))


def test_the_jobs_run_the_commands_they_are_named_after() -> None:
    commands = {path.stem: parsed(path)[0] for path in JOBS}
    assert commands == {"rayjob-annotate": "annotate", "rayjob-fit": "fit"}


def test_annotation_waits_for_the_bundle_that_fit_writes() -> None:
    annotate = FOLDER / "rayjob-annotate.yaml"
    assert parsed(annotate)[1]["bundle"] == str(parsed(FOLDER / "rayjob-fit.yaml")[1]["out"])
    assert load(annotate)["spec"]["suspend"] is True


@each_job
def test_a_job_reads_and_writes_on_the_volume_of_all_its_nodes(path: Path) -> None:
    claim = load(FOLDER / "data-claim.yaml")["metadata"]["name"]
    options = parsed(path)[1]
    names = {"corpus", "out", "input_", "bundle", "output"} & set(options)
    cluster = load(path)["spec"]["rayClusterSpec"]
    for pod in pods(cluster):
        (volume,) = pod["volumes"]
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        assert mount["name"] == volume["name"]
        assert all(Path(options[name]).is_relative_to(mount["mountPath"]) for name in names)


@each_job
def test_a_job_asks_for_as_many_workers_as_its_pods_may_hold(path: Path) -> None:
    (group,) = load(path)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (pod,) = pods(group)
    cpus = int(pod["containers"][0]["resources"]["limits"]["cpu"])
    assert parsed(path)[1]["workers"] == group["maxReplicas"] * cpus


def test_there_is_one_image_and_it_is_of_this_version() -> None:
    image = f"{PROJECT['name']}:{PROJECT['version']}"
    containers = [box for path in JOBS for pod in pods(load(path)) for box in pod["containers"]]
    assert {container["image"] for container in containers} == {image}
    for file in ("Dockerfile", "README.md"):
        assert f" -t {image} " in (FOLDER / file).read_text(encoding="utf-8")
    assert [entry["name"] for entry in load(KUSTOMIZATION)["images"]] == [PROJECT["name"]]


@each_job
def test_the_cluster_has_the_ray_that_is_pinned(path: Path) -> None:
    (pinned,) = (need for need in PROJECT["dependencies"] if need.startswith("ray["))
    assert load(path)["spec"]["rayClusterSpec"]["rayVersion"] == pinned.partition("==")[2]


@each_job
def test_no_pod_runs_as_root(path: Path) -> None:
    found = list(pods(load(path)))
    assert len(found) == 3, "submitter, head, worker"
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
