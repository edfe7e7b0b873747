"""The configuration: what may be set, by file and by --set, and what is refused by name."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

import jobs
from engine.annotators.cca_knn import CcaKnnRecipe
from engine.annotators.prior import PriorRecipe
from engine.config import FitConfig, limit_index_memory, load_config
from engine.errors import ConfigError

TOMLS = [
    path
    for path in sorted((Path(jobs.__file__).parent / "configs").glob("**/*.toml"))
    if "rows" not in tomllib.loads(path.read_text(encoding="utf-8"))
]
"""Those of a fit; tests/unit/test_table.py has the tables."""


def test_the_defaults_are_the_defaults() -> None:
    assert load_config(None) == FitConfig()
    assert "cca-knn" in FitConfig().annotators


@pytest.mark.parametrize("path", TOMLS, ids=[path.stem for path in TOMLS])
def test_every_configuration_that_is_shipped_is_good(path: Path) -> None:
    config = load_config(path)
    assert FitConfig.model_validate_json(config.model_dump_json()) == config


def test_a_file_and_overrides_come_together(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'seed = 4\n[embed]\nbackbone = "resnet18"\n[annotators.base]\nkind = "prior"\n'
        '[annotators.near]\nkind = "cca-knn"\nneighbours = 9\n',
        encoding="utf-8",
    )
    config = load_config(path, ["embed.backbone=random", "annotators.near.temperature = 0.5"])
    assert config.seed == 4
    assert config.embed.backbone == "random"
    assert config.annotators["base"] == PriorRecipe()
    assert config.annotators["near"] == CcaKnnRecipe(neighbours=9, temperature=0.5)
    assert list(config.annotators) == ["base", "near"]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("refit=false", "refit", False),
        ("validation=0.25", "validation", 0.25),
        ("embed.compute=torch", "embed.compute", "torch"),
        ('embed.compute="torch"', "embed.compute", "torch"),
        ("vocabulary.min_count = 3", "vocabulary.min_count", 3),
        ("decode.max_pixels=1_000", "decode.max_pixels", 1000),
    ],
)
def test_an_override_reaches_its_key(override: str, key: str, value: object) -> None:
    place: object = load_config(None, [override])
    for name in key.split("."):
        place = getattr(place, name)
    assert place == value


def test_the_last_override_wins() -> None:
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=1", "sead"),
        ("embed.backbon=random", r"embed\.backbon"),
        ("decode.max_pixel=5", r"decode\.max_pixel"),
        ("embed.backbone=resnet19", "no backbone 'resnet19'; choose one of efficientnet-lite0"),
        ("embed.compute=cuda", r"embed\.compute"),
        ("seed=much", "seed"),
        ("balance=300", r"lift is 0\.15 and balance 300"),
        ("validation=0", "validation"),
        ("validation=1", "validation"),
        ("max_failed=2", "max_failed"),
        ("vocabulary.min_count=0", r"vocabulary\.min_count"),
        ("decode.max_pixels=0", r"decode: .*max_pixels must be"),
        ("decode.max_bytes=-1", r"decode: .*max_bytes"),
        ("annotators={}", "annotators"),
        ('annotators.x.kind="no-cca"', r"annotators\.x: .*'no-cca'; choose one of prior"),
        ("annotators.x.neighbours=3", r"annotators\.x: .*kind is None"),
        ('annotators.x={kind="cca-knn",neighbours=0}', r"annotators\.x.*neighbours"),
        ('annotators.x={kind="cca-knn",neighbour=5}', r"annotators\.x.*neighbour"),
        ('annotators={"../x"={kind="prior"}}', r"\.\./x"),
        (
            'annotators.x={kind="class-posterior",backbone="random"}',
            r"annotators\.x\.backbone is 'random', but",
        ),
    ],
)
def test_a_bad_setting_is_refused_and_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize("override", ["seed", "=3", " =3", ""])
def test_an_override_without_a_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(None, [override])


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'seed' is a value, not a section"):
        load_config(None, ["seed=1", "seed.x=2"])


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b"seed = 'a"])
def test_a_broken_file_is_refused_and_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml"):
        load_config(path)


def test_a_missing_file_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_config(tmp_path / "gone.toml")


def test_a_configuration_is_frozen() -> None:
    config = FitConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.embed.backbone = "random"


def test_a_memory_budget_reaches_every_index() -> None:
    annotators = 'annotators={one={kind="cca-knn"},two={kind="cca"},linear={kind="linear"}}'
    config = limit_index_memory(load_config(None, [annotators]), "512MB")
    limits = [getattr(recipe, "max_index_memory", 0) for recipe in config.annotators.values()]
    assert limits == [512_000_000, 512_000_000, 0]


def test_a_memory_budget_may_stand_in_the_configuration() -> None:
    config = load_config(None, ["annotators.cca-knn.max_index_memory=2GiB"])
    assert getattr(config.annotators["cca-knn"], "max_index_memory", None) == 2 * 1024**3
    with pytest.raises(ConfigError, match="is no amount of memory"):
        load_config(None, ["annotators.cca-knn.max_index_memory=lots"])


def test_a_memory_budget_for_no_index_is_refused() -> None:
    config = load_config(None, ['annotators={linear={kind="linear"}}'])
    with pytest.raises(ConfigError, match="no annotator of linear searches an index"):
        limit_index_memory(config, "1GB")
