"""The HTTP application without Ray: bodies, options, errors, limits, keys, overload."""

import asyncio
import base64
import io
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from engine import schema
from engine.bundle import load_bundle
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from serve.batching import Job
from serve.config import Settings
from serve.gate import Traffic
from serve.pipeline import Run
from serve.stages import Folded
from tests.serving import application, client, direct

JPEG = {"content-type": "image/jpeg"}
HTML = b"<!DOCTYPE html><html><body>not a picture</body></html>"


@pytest.fixture(scope="module")
def settings(bundle_folder: Path) -> Settings:
    return Settings(bundle=str(bundle_folder), max_body_bytes=4_000_000, max_pictures=8)


@pytest.fixture(scope="module")
def run(settings: Settings) -> Run:
    return direct(settings)


@pytest.fixture(scope="module")
def app(settings: Settings, run: Run) -> FastAPI:
    return application(settings, run)


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[TestClient]:
    with client(app) as opened:
        yield opened


@pytest.fixture(scope="module")
def jpeg(pictures: list[SamplePicture]) -> bytes:
    return pictures[0].jpeg


def base(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that declares 60,000 by 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(60_001))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def refused(response: Any, status: int, code: str) -> str:
    """The reason of a refusal, whose body says which and shows nothing of the inside."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["error"]["code"] == code
    assert body["error"]["reason"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert "site-packages" not in response.text
    return str(body["error"]["reason"])


def test_the_three_bodies_give_the_same_tags(http: TestClient, jpeg: bytes) -> None:
    raw = http.post("/v1/annotate?top_k=4", content=jpeg, headers=JPEG)
    form = http.post("/v1/annotate", files={"file": ("a.jpg", jpeg)}, data={"top_k": "4"})
    told = http.post("/v1/annotate", json={"images": [base(jpeg)], "top_k": 4})
    tags = [answer.json()["results"][0]["tags"] for answer in (raw, form, told)]
    assert tags[0] == tags[1] == tags[2]
    assert len(tags[0]) == 4


def test_the_answer_is_the_engines_own(
    http: TestClient, bundle_folder: Path, pictures: list[SamplePicture]
) -> None:
    bundle = load_bundle(bundle_folder)
    sent = pictures[:5]
    batch = pa.table(
        {
            schema.IMAGE_ID: [one.image_id for one in sent],
            schema.BYTES: [one.jpeg for one in sent],
        }
    )
    expected = annotation_plan(bundle, 5).workers()(batch).column(schema.TAGS).to_pylist()
    answer = http.post("/v1/annotate", json={"images": [base(one.jpeg) for one in sent]}).json()
    assert answer["bundle_id"] == bundle.id
    assert [result["tags"] for result in answer["results"]] == [
        [{"tag": one["tag"], "score": pytest.approx(one["score"], abs=1e-6)} for one in row]
        for row in expected
    ]


def test_a_broken_picture_among_many_has_its_own_error(http: TestClient, jpeg: bytes) -> None:
    files = [("file", ("a.jpg", jpeg)), ("file", ("b.jpg", HTML)), ("file", ("c.jpg", jpeg[:-900]))]
    answer = http.post("/v1/annotate", files=files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["name"] for result in results] == ["a.jpg", "b.jpg", "c.jpg"]
    codes = [result["error"] and result["error"]["code"] for result in results]
    assert codes == [None, "not_an_image", "truncated"]
    assert results[0]["tags"]
    assert not results[1]["tags"]


@pytest.mark.parametrize(
    ("data", "code"), [(b"", "empty"), (HTML, "not_an_image"), (bomb(), "too_large")]
)
def test_a_request_without_a_usable_picture_is_a_4xx(
    http: TestClient, data: bytes, code: str
) -> None:
    answer = http.post("/v1/annotate", content=data, headers=JPEG)
    refused(answer, 422, code)
    assert answer.json()["results"][0]["error"]["code"] == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid"),
        ({"images": []}, "invalid"),
        ({"images": ["no base64!"]}, "invalid_base64"),
        ({"images": ["QUJ"]}, "invalid_base64"),
        ({"images": [""], "threshold": -0.1}, "invalid"),
        ({"images": [""], "threshold": 1.5}, "invalid"),
        ({"images": [""], "top_k": 0}, "invalid"),
        ({"images": [""], "top_k": "many"}, "invalid"),
        ({"images": [""], "top_k": 2.5}, "invalid"),
        ({"images": [""], "topk": 5}, "invalid"),
        ({"images": [""], "include": ["no such tag"]}, "unknown_tag"),
        ({"images": [""], "social_tags": [["a"], ["b"]]}, "invalid"),
        ({"images": [7]}, "invalid"),
        ([1, 2], "invalid"),
    ],
)
def test_bad_values_are_refused(http: TestClient, body: object, code: str) -> None:
    refused(http.post("/v1/annotate", json=body), 422, code)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_threshold_that_is_no_number_is_refused(
    http: TestClient, jpeg: bytes, number: str
) -> None:
    text = f'{{"images": ["{base(jpeg)}"], "threshold": {number}}}'
    headers = {"content-type": "application/json"}
    refused(http.post("/v1/annotate", content=text, headers=headers), 422, "invalid")
    answer = http.post(f"/v1/annotate?threshold={number}", content=jpeg, headers=JPEG)
    refused(answer, 422, "invalid")


def test_bodies_that_are_no_bodies_are_refused(http: TestClient, jpeg: bytes) -> None:
    refused(http.post("/v1/annotate", data={"top_k": "3"}, files={}), 415, "unsupported_media_type")
    only_field = {"top_k": (None, "3")}
    refused(http.post("/v1/annotate", files=only_field), 400, "no_picture")
    headers = {"content-type": "text/plain"}
    refused(http.post("/v1/annotate", content=jpeg, headers=headers), 415, "unsupported_media_type")
    headers = {"content-type": "multipart/form-data"}
    refused(http.post("/v1/annotate", content=jpeg, headers=headers), 400, "bad_form")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    refused(http.post("/v1/annotate", content=b"rubbish", headers=headers), 400, "bad_form")
    headers = {"content-type": "application/json"}
    refused(http.post("/v1/annotate", content=b"{", headers=headers), 422, "invalid")
    refused(http.post("/v1/annotate?tpo_k=3", content=jpeg, headers=JPEG), 422, "invalid")
    refused(http.post("/v1/embed?top_k=3", content=jpeg, headers=JPEG), 422, "invalid")
    refused(http.get("/v1/annotate"), 405, "method_not_allowed")
    refused(http.get("/nowhere"), 404, "not_found")


def test_a_large_body_is_refused_by_its_length_and_as_it_comes(http: TestClient) -> None:
    refused(
        http.post("/v1/annotate", content=bytes(50_000_000), headers=JPEG), 413, "body_too_large"
    )
    pieces = (bytes(500_000) for _ in range(100))
    refused(http.post("/v1/annotate", content=pieces, headers=JPEG), 413, "body_too_large")


def test_too_many_pictures_are_refused(http: TestClient) -> None:
    refused(http.post("/v1/annotate", json={"images": [""] * 10_000}), 413, "too_many_pictures")
    many = [("file", ("a.jpg", b"x"))] * 10_000
    refused(http.post("/v1/annotate", files=many), 413, "too_many_pictures")


def test_options_say_which_tags_are_given(http: TestClient, jpeg: bytes) -> None:
    def tags(**options: object) -> dict[str, float]:
        answer = http.post("/v1/annotate", json={"images": [base(jpeg)], **options})
        assert answer.status_code == 200, answer.text
        return {one["tag"]: one["score"] for one in answer.json()["results"][0]["tags"]}

    everything = tags(top_k=1000)
    names = list(everything)
    assert list(everything.values()) == sorted(everything.values(), reverse=True)
    assert list(tags(top_k=3)) == names[:3]
    bar = everything[names[2]]
    assert list(tags(top_k=1000, threshold=bar)) == names[:3]
    assert list(tags(top_k=2, threshold=bar)) == names[:2]
    assert tags(threshold=1.0) == {}
    assert list(tags(top_k=2, exclude=names[:1])) == names[1:3]
    assert list(tags(top_k=9, include=[names[5], names[3]])) == [names[3], names[5]]
    assert tags(include=names[:1], exclude=names[:1]) == {}
    assert 1 <= len(tags(top_k="auto")) <= 20


def test_an_explanation_tells_shares_and_neighbours(
    http: TestClient, jpeg: bytes, bundle_folder: Path
) -> None:
    result = http.post("/v1/annotate?explain=true", content=jpeg, headers=JPEG).json()["results"][0]
    annotators = set(load_bundle(bundle_folder).manifest.annotators)
    for tag in result["tags"]:
        assert set(tag["shares"]) == annotators
        assert sum(tag["shares"].values()) == pytest.approx(1, abs=1e-5)
    given = {tag["tag"] for tag in result["tags"]}
    assert result["neighbours"]
    for near in result["neighbours"]:
        assert given & set(near["tags"])
        assert Image.open(io.BytesIO(base64.b64decode(near["thumbnail"]))).format == "JPEG"


def test_neighbours_and_embedding_of_a_training_picture(
    http: TestClient, pictures: list[SamplePicture]
) -> None:
    files = [("file", ("a.jpg", pictures[3].jpeg)), ("file", ("b.jpg", HTML))]
    near = http.post("/v1/neighbours", files=files).json()["results"]
    assert near[0]["neighbours"][0]["image_id"] == pictures[3].image_id
    distances = [one["distance"] for one in near[0]["neighbours"]]
    assert distances == sorted(distances)
    assert near[1]["error"]["code"] == "not_an_image"
    embedded = http.post("/v1/embed", files=files).json()
    assert len(embedded["results"][0]["embedding"]) == embedded["width"]
    assert embedded["results"][1]["embedding"] is None


def test_the_bundle_and_its_vocabulary_are_told(http: TestClient, bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    told = http.get("/v1/vocabulary").json()
    assert [one["tag"] for one in told["tags"]] == list(bundle.vocabulary.tags)
    assert http.get("/v1/bundle").json()["id"] == bundle.id


def test_metrics_count_requests_stages_batches_and_errors(settings: Settings, run: Run) -> None:
    with client(application(settings, run)) as http:
        http.post("/v1/annotate", content=HTML, headers=JPEG)
        text = http.get("/metrics").text
    assert 'tagloom_requests_total{path="/v1/annotate",replica="test",status="422"} 1.0' in text
    assert 'tagloom_errors_total{code="not_an_image",replica="test"} 1.0' in text
    assert 'tagloom_stage_seconds_count{replica="test",stage="decode"} 1.0' in text
    assert 'tagloom_batch_pictures_sum{replica="test",slice="all"} 1.0' in text
    assert 'tagloom_queue_pictures{replica="test"} 0.0' in text


def test_keys_are_wanted_where_there_are_any(settings: Settings, run: Run, jpeg: bytes) -> None:
    app = application(settings, run, keys=(b"first", b"second"))
    with client(app, ("203.0.113.9", 1)) as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "firs"}):
            answer = http.post("/v1/annotate", content=jpeg, headers={**JPEG, **headers})
            refused(answer, 401, "wrong_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer second"}, {"x-api-key": "first"}):
            assert http.get("/v1/bundle", headers=headers).status_code == 200
        assert http.get("/metrics").status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/page/docs.js", "/v2/health/ready"):
            assert http.get(path).status_code == 200


def test_without_keys_only_this_machine_is_answered(app: FastAPI) -> None:
    with client(app, ("203.0.113.9", 1)) as http:
        refused(http.get("/v1/bundle"), 403, "loopback_only")
    with client(app, ("::1", 1)) as http:
        assert http.get("/v1/bundle").status_code == 200


class Held:
    """A run that waits until it is let go."""

    def __init__(self, inner: Run) -> None:
        self._inner = inner
        self.go = asyncio.Event()

    async def __call__(self, job: Job) -> Folded:
        await self.go.wait()
        return await self._inner(job)


def test_a_full_queue_answers_503_and_recovers(bundle_folder: Path, run: Run, jpeg: bytes) -> None:
    settings = Settings(bundle=str(bundle_folder), queue=2)
    held = Held(run)
    with client(application(settings, held)) as http:

        async def crowd() -> list[int]:
            import httpx2

            transport = httpx2.ASGITransport(http.app, client=("127.0.0.1", 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as many:
                send = [
                    asyncio.create_task(many.post("/v1/annotate", content=jpeg, headers=JPEG))
                    for _ in range(6)
                ]
                done, _ = await asyncio.wait(send, timeout=20, return_when="FIRST_COMPLETED")
                while len(done) < 4:
                    done, _ = await asyncio.wait(send, timeout=0.05)
                for task in done:
                    refused(task.result(), 503, "overloaded")
                    assert int(task.result().headers["retry-after"]) >= 1
                held.go.set()
                answers = await asyncio.gather(*send)
                last = await many.post("/v1/annotate", content=jpeg, headers=JPEG)
                return [*sorted(answer.status_code for answer in answers), last.status_code]

        assert http.portal is not None
        assert http.portal.call(crowd) == [200, 200, 503, 503, 503, 503, 200]


def test_a_request_that_takes_too_long_is_given_up(
    bundle_folder: Path, run: Run, jpeg: bytes
) -> None:
    settings = Settings(bundle=str(bundle_folder), request_timeout=0.05)
    with client(application(settings, Held(run))) as http:
        answer = http.post("/v1/annotate", content=jpeg, headers=JPEG)
        refused(answer, 503, "timeout")
        assert answer.headers["retry-after"]


def test_a_stopping_server_takes_nothing_new(settings: Settings, run: Run, jpeg: bytes) -> None:
    traffic = Traffic(stopping=True)
    with client(application(settings, run, traffic=traffic)) as http:
        refused(http.post("/v1/annotate", content=jpeg, headers=JPEG), 503, "stopping")
        assert http.get("/v2/health/ready").status_code == 503
        assert http.get("/v2/health/live").status_code == 200


def test_a_fault_of_the_servers_own_shows_nothing(settings: Settings, jpeg: bytes) -> None:
    async def broken(job: Job) -> Folded:
        raise RuntimeError("secret of the inside")

    with client(application(settings, broken)) as http:
        answer = http.post("/v1/annotate", content=jpeg, headers=JPEG)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text


def test_the_log_tells_a_request_and_nothing_of_the_picture(
    http: TestClient, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tagloom.serve"):
        answer = http.post(
            "/v1/annotate?exclude=tree",
            files=[("file", ("private.jpg", jpeg)), ("file", ("b.jpg", HTML))],
            headers={"x-request-id": "order-66"},
        )
    assert answer.json()["request_id"] == "order-66"
    (line,) = [json.loads(record.message) for record in caplog.records]
    assert line.pop("ms") > 0
    assert line == {
        "request_id": "order-66",
        "method": "POST",
        "path": "/v1/annotate",
        "status": 200,
        "pictures": 2,
        "errors": {"not_an_image": 1},
    }


def test_a_request_id_that_could_forge_a_log_is_not_taken(http: TestClient) -> None:
    answer = http.get("/v1/bundle2", headers={"x-request-id": 'x", "status": 200, "y": "'})
    assert '"' not in answer.json()["request_id"]


def test_other_origins_are_let_in_only_when_listed(settings: Settings, run: Run) -> None:
    headers = {"origin": "https://page.example", "access-control-request-method": "POST"}
    listed = settings.model_copy(update={"cors_origins": ("https://page.example",)})
    with client(application(settings, run)) as http:
        assert (
            "access-control-allow-origin"
            not in http.options("/v1/annotate", headers=headers).headers
        )
    with client(application(listed, run)) as http:
        allowed = http.options("/v1/annotate", headers=headers)
        assert allowed.headers["access-control-allow-origin"] == "https://page.example"
        headers["origin"] = "https://other.example"
        refusal = http.options("/v1/annotate", headers=headers)
        assert "access-control-allow-origin" not in refusal.headers


def test_a_lower_limit_on_pixels_is_kept(bundle_folder: Path, jpeg: bytes) -> None:
    settings = Settings(bundle=str(bundle_folder), max_pixels=1000)
    with client(application(settings, direct(settings))) as http:
        refused(http.post("/v1/annotate", content=jpeg, headers=JPEG), 422, "too_large")
