"""A server with vocabulary rules: its answers obey them, and its clients are told of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine.bundle import load_bundle
from engine.errors import ConfigError
from engine.sample import SamplePicture
from serve.config import Settings
from tests.serving import application, client, direct
from tests.vocabularies import RULES, SOURCES, by_rules, without_rules

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def http(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    rules = tmp_path_factory.mktemp("rules") / "rules.toml"
    rules.write_text(RULES, encoding="utf-8")
    settings = Settings(bundle=str(bundle_folder), vocabulary=str(rules))
    with client(application(settings, direct(settings))) as opened:
        yield opened


def annotated(http: TestClient, jpeg: bytes, options: str) -> dict[str, float]:
    answer = http.post(f"/v1/annotate?{options}", content=jpeg, headers=JPEG)
    assert answer.status_code == 200, answer.text
    return {one["tag"]: one["score"] for one in answer.json()["results"][0]["tags"]}


def test_answers_obey_the_rules(
    http: TestClient, bundle_folder: Path, pictures: list[SamplePicture]
) -> None:
    bundle = load_bundle(bundle_folder)
    for picture, scores in zip(pictures[:4], without_rules(bundle, pictures[:4]), strict=True):
        expected = by_rules(scores)
        given = annotated(http, picture.jpeg, "top_k=50")
        assert given == pytest.approx(expected, abs=1e-6)
        assert list(given.values()) == sorted(given.values(), reverse=True)


def test_a_request_may_use_any_name_that_the_rules_know(
    http: TestClient, pictures: list[SamplePicture]
) -> None:
    jpeg = pictures[0].jpeg
    assert annotated(http, jpeg, "top_k=50&include=vehicles").keys() == {"car", "boat"}
    assert annotated(http, jpeg, "top_k=50&include=River&include=House").keys() == {
        "sea",
        "cottage",
    }
    left = annotated(http, jpeg, "top_k=50&exclude=vehicles&exclude=lake")
    assert left.keys() == {"sky", "snow", "cottage", "sofa"}
    for excluded in ("bus", "dog", "cat"):
        answer = http.post(f"/v1/annotate?include={excluded}", content=jpeg, headers=JPEG)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "unknown_tag"


def test_the_vocabulary_is_told_as_it_is_given(http: TestClient, bundle_folder: Path) -> None:
    vocabulary = load_bundle(bundle_folder).vocabulary
    counts = dict(zip(vocabulary.tags, vocabulary.counts, strict=True))
    told = http.get("/v1/vocabulary").json()
    assert told["digest"] == vocabulary.digest
    found = {one["tag"]: one["count"] for one in told["tags"]}
    assert found == {tag: max(counts[one] for one in names) for tag, names in SOURCES.items()}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert told["aliases"] == {"lake": "sea", "river": "sea", "house": "cottage", "chair": "sofa"}
    assert set(told["groups"].pop("vehicles")) == {"car", "boat"}
    assert told["groups"] == {}
    assert http.get("/v1/bundle").json()["tags"] == len(SOURCES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[aliases]\nsea = 'lake'\nlake = 'sea'", "sea -> lake -> sea goes round in a circle"),
        ("exclude = ['hamster']", "'hamster' matches no tag of the bundle"),
    ],
)
def test_a_server_does_not_start_with_rules_that_it_cannot_obey(
    bundle_folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(text, encoding="utf-8")
    settings = Settings(bundle=str(bundle_folder), vocabulary=str(rules))
    with pytest.raises(ConfigError, match=message):
        direct(settings)
