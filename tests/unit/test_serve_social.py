"""Social tags of a request: they change the answer, and an explanation says by how much."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine.bundle import load_bundle
from engine.sample import SamplePicture
from serve.config import Settings
from serve.stages import layout, reads_of, sliced, wanted_plan
from tests.serving import application, client, direct


@pytest.fixture(scope="module")
def http(social_bundle_folder: Path) -> Iterator[TestClient]:
    settings = Settings(bundle=str(social_bundle_folder))
    with client(application(settings, direct(settings))) as opened:
        yield opened


def asked(http: TestClient, pictures: list[SamplePicture], **options: object) -> list[Any]:
    images = [base64.b64encode(one.jpeg).decode() for one in pictures]
    answer = http.post("/v1/annotate", json={"images": images, "explain": True, **options})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def test_social_tags_change_the_answer_of_their_own_picture_alone(
    http: TestClient, pictures: list[SamplePicture]
) -> None:
    same = [pictures[0]] * 3
    plain = asked(http, same[:1])[0]
    told, silent, unknown = asked(http, same, social_tags=[["Penguin", "tent"], [], ["qwertz"]])
    tags = [one["tag"] for one in plain["tags"]]
    assert not {"penguin", "tent"} & set(tags)
    assert {"penguin", "tent"} <= {one["tag"] for one in told["tags"]}
    for other in (silent, unknown):
        assert [one["tag"] for one in other["tags"]] == tags
        assert [one["score"] for one in other["tags"]] == pytest.approx(
            [one["score"] for one in plain["tags"]], abs=1e-6
        )


def test_an_explanation_shows_the_share_of_the_social_tags(
    http: TestClient, pictures: list[SamplePicture]
) -> None:
    told, silent = asked(http, [pictures[0]] * 2, social_tags=[["penguin"], []])
    for one in [*told["tags"], *silent["tags"]]:
        assert set(one["shares"]) == {"linear", "social"}
        assert sum(one["shares"].values()) == pytest.approx(1, abs=1e-5)
    shares = {one["tag"]: one["shares"]["social"] for one in told["tags"]}
    assert shares["penguin"] > 0.9
    assert all(0 < share < 1 for share in shares.values())
    assert [one["shares"]["social"] for one in silent["tags"]] == [0] * len(silent["tags"])


def test_a_form_with_one_picture_takes_them_too(
    http: TestClient, pictures: list[SamplePicture]
) -> None:
    files = {"file": ("a.jpg", pictures[0].jpeg)}
    told = http.post("/v1/annotate", files=files, data={"social_tags": ["penguin", "tent"]})
    (expected,) = asked(http, pictures[:1], social_tags=[["penguin", "tent"]], explain=False)
    assert told.json()["results"][0]["tags"] == expected["tags"]


def test_only_what_reads_social_tags_is_sent_them(social_bundle_folder: Path) -> None:
    bundle = load_bundle(social_bundle_folder)
    plan = wanted_plan(bundle, "tags")
    reads = {
        part.name: set(reads_of(sliced(plan, part.stages)))
        for level in layout(bundle, "split")
        for part in level
    }
    assert {name for name, columns in reads.items() if "social_tags" in columns} == {"score-social"}
    assert "embedding" not in reads["score-social"]
