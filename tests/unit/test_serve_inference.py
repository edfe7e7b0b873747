"""The Open Inference Protocol by hand: JSON, the binary extension, and what breaks them."""

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine.sample import SamplePicture
from serve.config import Settings
from tests.serving import application, client, direct

INFER = "/v2/models/tagloom/infer"


@pytest.fixture(scope="module")
def http(bundle_folder: Path) -> Iterator[TestClient]:
    settings = Settings(bundle=str(bundle_folder), max_pictures=4)
    with client(application(settings, direct(settings))) as opened:
        yield opened


@pytest.fixture(scope="module")
def jpegs(pictures: list[SamplePicture]) -> list[bytes]:
    return [one.jpeg for one in pictures[:2]]


def tensor(jpegs: list[bytes], **others: object) -> dict[str, object]:
    data = [base64.b64encode(jpeg).decode() for jpeg in jpegs]
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data, **others}


def test_health_and_metadata(http: TestClient) -> None:
    assert http.get("/v2/health/live").json()["live"] is True
    assert http.get("/v2/health/ready").json()["ready"] is True
    assert "binary_tensor_data" in http.get("/v2").json()["extensions"]
    model = http.get("/v2/models/tagloom").json()
    assert [one["name"] for one in model["outputs"]] == ["tags", "scores", "errors"]
    (version,) = model["versions"]
    assert http.get(f"/v2/models/tagloom/versions/{version}/ready").json()["ready"]
    assert http.get("/v2/models/other").status_code == 404
    assert http.get("/v2/models/tagloom/versions/7").status_code == 404


def test_json_in_and_out_agrees_with_the_api(http: TestClient, jpegs: list[bytes]) -> None:
    body = {"id": "7", "inputs": [tensor([*jpegs, b"rubbish"])], "parameters": {"top_k": 3}}
    answer = http.post(INFER, json=body).json()
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert answer["id"] == "7"
    assert outputs["tags"]["shape"] == [3, 3]
    expected = http.post(
        "/v1/annotate?top_k=3", content=jpegs[0], headers={"content-type": "image/*"}
    )
    tags = expected.json()["results"][0]["tags"]
    assert outputs["tags"]["data"][:3] == [one["tag"] for one in tags]
    assert outputs["scores"]["data"][:3] == pytest.approx([one["score"] for one in tags], abs=1e-6)
    assert outputs["tags"]["data"][6:] == ["", "", ""]
    assert outputs["errors"]["data"] == ["", "", "not_an_image"]


def test_binary_in_and_out(http: TestClient, jpegs: list[bytes]) -> None:
    tail = b"".join(struct.pack("<I", len(jpeg)) + jpeg for jpeg in jpegs)
    head = {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [2, 1],
                "parameters": {"binary_data_size": len(tail)},
            }
        ],
        "outputs": [{"name": "scores", "parameters": {"binary_data": True}}],
        "parameters": {"top_k": 2},
    }
    text = json.dumps(head).encode()
    answer = http.post(
        INFER, content=text + tail, headers={"inference-header-content-length": str(len(text))}
    )
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    assert output["shape"] == [2, 2]
    scores = struct.unpack("<4f", answer.content[length:])
    assert scores[0] >= scores[1] > 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"inputs": []}, 400),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1.0]}]}, 400),
        ({"inputs": [tensor([b"x"], shape=[2])]}, 400),
        ({"inputs": [tensor([b"x"], shape=[-1])]}, 400),
        ({"inputs": [tensor([b"x"], data=["no base64!"])]}, 422),
        ({"inputs": [tensor([])]}, 400),
        ({"inputs": [tensor([b"x"], parameters={"binary_data_size": 9})]}, 400),
        ({"inputs": [tensor([b"x"] * 5)]}, 413),
        ({"inputs": [tensor([b"x"])], "parameters": {"top_k": 0}}, 422),
        ({"inputs": [tensor([b"x"])], "outputs": [{"name": "other"}]}, 400),
    ],
)
def test_requests_that_break_the_protocol(
    http: TestClient, body: dict[str, object], status: int
) -> None:
    answer = http.post(INFER, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["reason"]


def test_a_binary_tensor_that_is_cut_is_refused(http: TestClient) -> None:
    tail = struct.pack("<I", 100) + b"short"
    inputs = [tensor([], shape=[1], parameters={"binary_data_size": len(tail)})]
    text = json.dumps({"inputs": inputs}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    assert http.post(INFER, content=text + tail, headers=headers).status_code == 400
    headers = {"inference-header-content-length": "99999"}
    assert http.post(INFER, content=text, headers=headers).status_code == 400
