"""Sections given in part: what is not given stays what the owner's own default says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from engine.annotators import REGISTRY
from engine.config import load_config
from engine.ensemble import CountConfig
from engine.optimisation import Optimisation
from engine.settings import Settings


def sections(owner: BaseModel, *above: str) -> Iterator[tuple[str, ...]]:
    """The paths of the sections below an owner, at any depth."""
    for name, value in owner:
        if isinstance(value, BaseModel):
            yield (*above, name)
            yield from sections(value, *above, name)


SECTIONS = [
    (kind, path)
    for kind, entry in REGISTRY.items()
    for path in sections(entry.recipe.model_validate({"kind": kind}))
]


def default_of(kind: str) -> dict[str, Any]:
    return REGISTRY[kind].recipe.model_validate({"kind": kind}).model_dump()


def section_of(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        content = content[name]
    return content


def test_the_methods_that_have_sections_are_found() -> None:
    assert ("ms-cnn", ("regressor", "optimisation")) in SECTIONS
    assert ("multimodal", ("training", "pretraining")) in SECTIONS
    by_gradient = {
        kind
        for kind, entry in REGISTRY.items()
        if any(field.annotation is Optimisation for field in entry.recipe.model_fields.values())
    }
    assert len(by_gradient) > 10
    assert by_gradient <= {kind for kind, _ in SECTIONS}
    own = [section_of(default_of(kind), path) for kind, path in SECTIONS]
    assert any("epochs" in one and one != Optimisation().model_dump() for one in own)


@pytest.mark.parametrize(
    ("kind", "path"), SECTIONS, ids=[f"{kind}.{'.'.join(path)}" for kind, path in SECTIONS]
)
def test_one_key_of_a_section_leaves_the_others_as_the_method_has_them(
    kind: str, path: tuple[str, ...]
) -> None:
    """Each key is given what it is already, so that nothing may change; then one is changed."""
    for key, value in section_of(default_of(kind), path).items():
        given: object = {key: value}
        for name in reversed(path):
            given = {name: given}
        assert isinstance(given, dict)
        found = REGISTRY[kind].recipe.model_validate({"kind": kind, **given})
        assert found.model_dump() == default_of(kind), key
    if "batch" in section_of(default_of(kind), path):
        key = ".".join(("annotators.one", *path, "batch"))
        config = load_config(
            None, ['annotators={base={kind="prior"}}', f"annotators.one.kind={kind}", f"{key}=7"]
        )
        expected = default_of(kind)
        section_of(expected, path)["batch"] = 7
        assert config.annotators["one"].model_dump() == expected


def test_a_file_may_give_a_section_in_part(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[annotators.one]\nkind = "jvsp"\noptimisation = { batch = 16 }\n'
        "[count.lqp.optimisation]\nepochs = 3\n",
        encoding="utf-8",
    )
    config = load_config(path, ["annotators.one.optimisation.decay=0.9"])
    expected = default_of("jvsp")
    expected["optimisation"] |= {"batch": 16, "decay": 0.9}
    assert config.annotators["one"].model_dump() == expected
    lqp = CountConfig().lqp
    epochs = lqp.optimisation.model_copy(update={"epochs": 3})
    assert config.count.lqp == lqp.model_copy(update={"optimisation": epochs})


def test_a_file_says_with_inf_that_a_gradient_is_not_clipped() -> None:
    """TOML has no null, and the recipe's own limit would stay."""
    one = 'annotators={base={kind="prior"},one={kind="ranked-lstm",optimisation={clip=inf}}}'
    recipe = load_config(None, [one]).annotators["one"]
    assert default_of("ranked-lstm")["optimisation"]["clip"] is not None
    assert recipe.model_dump()["optimisation"]["clip"] is None


class Inner(Settings):
    one: int = 1
    two: int = 2


class Middle(Settings):
    inner: Inner = Inner()
    source: str = "a"


class Outer(Settings):
    middle: Middle = Middle(inner=Inner(one=5), source="b")


def test_the_outermost_default_counts() -> None:
    found = Outer.model_validate({"middle": {"inner": {"two": 7}}})
    assert found == Outer(middle=Middle(inner=Inner(one=5, two=7), source="b"))


def test_an_instance_is_whole() -> None:
    assert Outer(middle=Middle()).middle == Middle()
    assert Outer.model_validate({"middle": {"inner": Inner()}}).middle.inner == Inner()


def test_unknown_keys_and_other_types_are_refused_as_ever() -> None:
    with pytest.raises(ValueError, match=r"middle\.inner\.three"):
        Outer.model_validate({"middle": {"inner": {"three": 3}}})
    with pytest.raises(ValueError, match="middle"):
        Outer.model_validate({"middle": 3})


class Named(Settings):
    source: str = Field(default="a", alias="from")
    other: int = 1
    model_config = ConfigDict(populate_by_name=True)


class OfNamed(Settings):
    named: Named = Named(source="b", other=2)


@pytest.mark.parametrize("key", ["source", "from"])
def test_a_key_with_a_name_in_files_of_its_own_is_known_by_both(key: str) -> None:
    found = OfNamed.model_validate({"named": {key: "c"}}).named
    assert (found.source, found.other) == ("c", 2)
    assert OfNamed.model_validate({"named": {"other": 3}}).named.source == "b"
