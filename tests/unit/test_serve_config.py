"""Settings: of the command line, of YAML, and the API keys."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from engine.errors import ConfigError
from serve.app import build
from serve.config import Settings, load_settings, read_keys
from serve.local import APP, run
from tests.manifests import cluster, named, pods

TOP = Path(__file__).parents[2]


def test_assignments_of_the_command_line_reach_their_parts() -> None:
    settings = load_settings("b", None, ["topology=split", "annotators.linear.gpus=0.5", "queue=7"])
    assert settings.topology == "split"
    assert settings.scaling("score-linear").gpus == 0.5
    assert settings.scaling("score-cca-knn").gpus == 0
    assert settings.queue == 7


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("queue=0", "queue"),
        ("quue=3", "quue"),
        ("queue", "name=value"),
        ("bundle.x=1", "is a value, not a section"),
        ("ingress.batch=x", "ingress.batch"),
    ],
)
def test_a_bad_assignment_is_told_by_name(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings("b", None, [assignment])


def test_serve_run_can_pass_lists_as_text() -> None:
    settings = Settings.model_validate({"bundle": "b", "url_hosts": "a.example,b.example"})
    assert settings.url_hosts == ("a.example", "b.example")
    with pytest.raises(ValidationError):
        Settings.model_validate({"bundle": "b", "unknown": 1})


def test_serve_run_can_pass_names_of_parts() -> None:
    settings = Settings.model_validate(
        {"bundle": "b", "ingress.max_replicas": "2", "annotators.cca-knn.gpus": "0.5", "queue": "9"}
    )
    assert settings.ingress.max_replicas == 2
    assert settings.scaling("score-cca-knn").gpus == 0.5
    assert settings.queue == 9
    with pytest.raises(ValidationError, match=r"ingress\.replicas"):
        Settings.model_validate({"bundle": "b", "ingress.replicas": "2"})
    with pytest.raises(ConfigError, match="is a value, not a section"):
        Settings.model_validate({"bundle": "b", "queue": "9", "queue.most": "2"})


def test_keys_come_from_the_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\none # of Ann\n\ntwo\n")
    settings = Settings(bundle="b", key_file=str(file))
    assert read_keys(settings, {"TAGLOOM_API_KEYS": "three, one"}) == (b"three", b"one", b"two")
    assert read_keys(Settings(bundle="b"), {}) == ()


def test_a_file_without_keys_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")
    for name in ("keys", "absent"):
        with pytest.raises(ConfigError, match=name):
            read_keys(Settings(bundle="b", key_file=str(tmp_path / name)), {})


def test_other_machines_are_let_in_with_keys_alone(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAGLOOM_API_KEYS", raising=False)
    with pytest.raises(ConfigError, match="no API keys"):
        run(Settings(bundle=str(bundle_folder)), "0.0.0.0", 8000, print)


def configs() -> list[dict[str, Any]]:
    """Every Serve configuration in the repository."""
    service = named("base", "RayService", "tagloom-serve")
    alone = (TOP / "serve" / "serve-config.yaml").read_text(encoding="utf-8")
    return [yaml.safe_load(service["spec"]["serveConfigV2"]), yaml.safe_load(alone)]


@pytest.mark.parametrize("config", configs(), ids=["kubernetes", "alone"])
def test_the_configurations_build(config: dict[str, Any], bundle_folder: Path) -> None:
    parsed = ServeDeploySchema.model_validate(config)
    (application,) = parsed.applications
    assert application.name == APP
    assert application.import_path == "serve.app:build"
    settings = Settings.model_validate({**application.args, "bundle": str(bundle_folder)})
    assert build(settings)


def test_without_keys_only_this_machine_is_listened_to() -> None:
    kubernetes, alone = map(ServeDeploySchema.model_validate, configs())
    assert alone.http_options.host == "127.0.0.1"
    assert kubernetes.http_options.host == "0.0.0.0"
    for pod in pods(cluster(named("base", "RayService", "tagloom-serve"))):
        (keys,) = (
            e
            for e in pod["spec"]["containers"][0]["env"]
            if e["name"] == Settings(bundle="b").key_variable
        )
        assert "secretKeyRef" in keys["valueFrom"]


def test_the_configurations_mean_the_same() -> None:
    (kubernetes,), (alone,) = (config["applications"] for config in configs())
    args = [one.pop("args") for one in (kubernetes, alone)]
    assert kubernetes == alone
    for name in ("bundle", "topology"):
        assert args[0][name] == args[1][name]
