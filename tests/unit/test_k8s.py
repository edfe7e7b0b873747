"""The Kubernetes manifests agree with the program, the package and each other; no cluster here."""

import tomllib
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.serve.schema import ServeDeploySchema

from serve.config import Settings
from tests.manifests import (
    CLUSTERS,
    FOLDER,
    TOP,
    VARIANTS,
    Manifest,
    cluster,
    named,
    parsed,
    pods,
    rendered,
)

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PARTS = {"cluster", "fit", "annotate", "serve"}

each_variant = pytest.mark.parametrize("variant", VARIANTS)


def clusters(variant: str) -> list[tuple[Manifest, Manifest]]:
    """KubeRay's objects, each with its Ray cluster."""
    return [(o, cluster(o)) for o in rendered(variant) if o["kind"] in CLUSTERS]


def jobs(variant: str) -> dict[str, tuple[dict[str, Any], Manifest]]:
    """By command: its options as the program's own parser reads them, and the job's cluster."""
    found = {}
    for manifest in rendered(variant):
        if manifest["kind"] == "RayJob":
            command, options = parsed(manifest["spec"]["entrypoint"])
            assert manifest["metadata"]["name"] == f"tagloom-{command}"
            found[command] = options, cluster(manifest)
    return found


def served(variant: str) -> tuple[Settings, Manifest]:
    """The server's settings by the server's own classes, and its cluster."""
    service = named(variant, "RayService", "tagloom-serve")
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (application,) = config.applications
    return Settings.model_validate(application.args), cluster(service)


def most(spec: Manifest, resource: str) -> float:
    """How much of a resource all the workers of a cluster may have."""
    (group,) = spec["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return float(group["maxReplicas"]) * float(limits.get(resource, 0))


def box(pod: Manifest) -> Manifest:
    """A pod's one container."""
    (container,) = pod["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@each_variant
def test_there_are_the_two_jobs_and_annotation_waits_for_the_bundle(variant: str) -> None:
    found = jobs(variant)
    assert set(found) == {"fit", "annotate"}
    bundle = found["annotate"][0]["bundle"]
    # As text: a path would make one slash of an address's two.
    fit = named(variant, "RayJob", "tagloom-fit")["spec"]["entrypoint"]
    assert f"--out {bundle} " in fit
    assert served(variant)[0].bundle == bundle
    assert named(variant, "RayJob", "tagloom-annotate")["spec"]["suspend"] is True


@each_variant
def test_what_is_read_and_written_lies_where_all_nodes_see_it(variant: str) -> None:
    claims = [o for o in rendered(variant) if o["kind"] == "PersistentVolumeClaim"]
    fit, annotate = (jobs(variant)[name][0] for name in ("fit", "annotate"))
    places = [fit["corpus"], annotate["input_"], annotate["output"], annotate["bundle"]]
    in_bucket = [place.startswith("s3://BUCKET/") for place in places]
    if any(in_bucket):
        assert all(in_bucket)
        # What a fit keeps while it learns is in no bucket.
        places = [fit["scratch"]]
    for owner, spec in clusters(variant):
        for pod in pods(spec):
            container = box(pod)
            if any(in_bucket):
                sources = [next(iter(s.values()))["name"] for s in container["envFrom"]]
                assert sources == ["tagloom-object-store"] * 2
                assert named(variant, "ConfigMap", sources[0])["data"]["AWS_ENDPOINT_URL"]
                if owner["metadata"]["name"] != "tagloom-fit":
                    assert "volumes" not in pod["spec"]
                    continue
            (volume,) = pod["spec"]["volumes"]
            (mount,) = container["volumeMounts"]
            assert volume["persistentVolumeClaim"]["claimName"] == claims[0]["metadata"]["name"]
            assert mount["name"] == volume["name"]
            assert all(PurePosixPath(p).is_relative_to(mount["mountPath"]) for p in places)


@each_variant
def test_what_is_asked_for_is_what_the_pods_may_hold(variant: str) -> None:
    for options, spec in jobs(variant).values():
        assert options["workers"] == most(spec, "cpu")
    settings, spec = served(variant)
    scaling = settings.ingress
    assert scaling.cpus * scaling.max_replicas == most(spec, "cpu")
    assert scaling.gpus * scaling.max_replicas == most(spec, "nvidia.com/gpu")
    (group,) = spec["workerGroupSpecs"]
    assert group["minReplicas"] <= scaling.min_replicas <= scaling.max_replicas


@each_variant
def test_clusters_scale_and_have_the_ray_that_is_pinned(variant: str) -> None:
    (pinned,) = (need for need in PROJECT["dependencies"] if need.startswith("ray["))
    assert len(clusters(variant)) == len(PARTS)
    for _, spec in clusters(variant):
        assert spec["rayVersion"] == pinned.partition("==")[2]
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["autoscalerOptions"]["idleTimeoutSeconds"] > 0
        assert spec["authOptions"] == {"mode": "token"}
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        (group,) = spec["workerGroupSpecs"]
        assert group["minReplicas"] == group["replicas"] <= group["maxReplicas"]


@each_variant
def test_no_pod_may_do_more_than_it_must(variant: str) -> None:
    seen = 0
    for manifest in rendered(variant):
        for pod in pods(manifest):
            seen += 1
            context = pod["spec"]["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["runAsUser"] == 1000
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            container = box(pod)
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            account = "tagloom-head" if container["name"] == "ray-head" else "tagloom"
            assert pod["spec"]["serviceAccountName"] == account
    assert seen == 2 * len(PARTS) + 2, "a head and a worker each, and two submitters"
    assert named(variant, "ServiceAccount", "tagloom")["automountServiceAccountToken"] is False


@each_variant
def test_ray_pods_are_probed_and_have_what_they_may_use(variant: str) -> None:
    for _, spec in clusters(variant):
        for pod in pods(spec):
            container = box(pod)
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["path"].endswith("healthz")
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports["metrics"] == 8080


@each_variant
def test_a_stopping_worker_has_the_time_that_it_takes(variant: str) -> None:
    for _, spec in clusters(variant):
        (group,) = spec["workerGroupSpecs"]
        (pod,) = pods(group)
        *_, command = box(pod)["lifecycle"]["preStop"]["exec"]["command"]
        seconds = sum(int(word.rstrip(";")) for word in command.split() if word[0].isdigit())
        assert "ray stop" in command
        assert seconds < pod["spec"]["terminationGracePeriodSeconds"]


@each_variant
def test_every_part_is_guarded(variant: str) -> None:
    for manifest, spec in clusters(variant):
        part = manifest["metadata"]["labels"]["tagloom/part"]
        for pod in (*pods(spec), *pods(manifest["spec"].get("submitterPodTemplate", {}))):
            assert pod["metadata"]["labels"]["tagloom/part"] == part
        within = named(variant, "NetworkPolicy", f"tagloom-within-{part}")["spec"]
        assert within["podSelector"] == {"matchLabels": {"tagloom/part": part}}
        budget = named(variant, "PodDisruptionBudget", f"tagloom-{part}-head")["spec"]
        # KubeRay's objects have no scale: a budget in per cent, or of the missing, has no effect.
        assert budget["minAvailable"] == 1
        assert budget["selector"]["matchLabels"]["ray.io/node-type"] == "head"
    deny = named(variant, "NetworkPolicy", "tagloom-deny")["spec"]
    assert set(deny) == {"podSelector", "policyTypes"}
    reached = {
        policy["metadata"]["name"]
        for policy in rendered(variant)
        if policy["kind"] == "NetworkPolicy"
        for rule in policy["spec"].get("ingress", [])
        for port in rule.get("ports", [])
        if port["port"] == 8265
    }
    assert reached == {"tagloom-operator"}


def test_gpus_are_told_to_ray_as_to_kubernetes() -> None:
    for _, spec in clusters("overlays/gpu"):
        (group,) = spec["workerGroupSpecs"]
        (pod,) = pods(group)
        limits = box(pod)["resources"]["limits"]
        assert group["rayStartParams"]["num-gpus"] == limits["nvidia.com/gpu"] == "1"
        assert [t["key"] for t in pod["spec"]["tolerations"]] == ["nvidia.com/gpu"]


def test_heads_stay_off_the_machines_that_may_be_taken_back() -> None:
    for _, spec in clusters("overlays/spot"):
        wanted = {}
        for place in (spec["headGroupSpec"], spec["workerGroupSpecs"][0]):
            affinity = place["template"]["spec"]["affinity"]["nodeAffinity"]
            terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
            rules = [e for t in terms["nodeSelectorTerms"] for e in t["matchExpressions"]]
            (operator,) = {rule["operator"] for rule in rules}
            wanted[operator] = {rule["key"] for rule in rules}
        assert wanted["NotIn"] == wanted["In"]
        (pod,) = pods(spec["workerGroupSpecs"])
        assert {t["key"] for t in pod["spec"]["tolerations"]} == wanted["In"]


def test_there_is_one_image_and_it_is_of_this_version() -> None:
    image = f"{PROJECT['name']}:{PROJECT['version']}"
    for variant in VARIANTS:
        named_so = {box(pod)["image"] for o in rendered(variant) for pod in pods(o)}
        assert named_so == {f"{image}-gpu" if variant == "overlays/gpu" else image}
    for file in ("Dockerfile", "README.md"):
        assert f" -t {image} " in (FOLDER / file).read_text(encoding="utf-8")


def test_the_image_gets_versions_that_the_package_allows() -> None:
    lines = (FOLDER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    for need in map(Requirement, [*PROJECT["dependencies"], *extras["cpu"], *extras["gpu"]]):
        assert need.specifier.contains(pins[canonicalize_name(need.name)]), need


def test_the_image_is_made_of_the_whole_package_and_little_else() -> None:
    config = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    packages = config["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = {"pyproject.toml", "README.md", "k8s/constraints.txt"}
    needed |= {name.removesuffix("*") for name in packages}
    let_through = (TOP / ".dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{name}" for name in needed} <= set(let_through)
    assert "*" in let_through
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    stages = [line for line in lines if line.startswith("FROM")]
    assert {"AS cpu", "AS gpu"} <= {line[line.index("AS ") :] for line in stages}
    # Both end as the user that is not root.
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"] * 2
