"""The Open Inference Protocol (KServe v2) over HTTP, with its binary extension.

Encoded pictures go in as the BYTES tensor `image` of shape [N] or [N, 1]; out come `tags` (BYTES)
and `scores` (FP32), both [N, K] and padded with empty tags of score 0, and `errors` (BYTES) [N],
empty where a picture was tagged. In JSON, where BYTES are text, a picture is in base64.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from engine import schema
from engine.answer import Ask
from serve.config import Settings
from serve.errors import Refused, RequestError
from serve.gate import trace
from serve.models import Options
from serve.pipeline import Picture, Pipeline
from serve.reading import checked

MODEL = "tagloom"
_HEADER_LENGTH = "inference-header-content-length"
_OUTPUTS = {"tags": "BYTES", "scores": "FP32", "errors": "BYTES"}

Json = dict[str, Any]


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")


class InputTensor(_Loose):
    """A tensor of the request; its data follow the JSON where `binary_data_size` is given."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=2)
    datatype: Literal["BYTES"]
    parameters: dict[str, bool | int | float | str] = {}
    data: list[Any] | None = None


class OutputWish(_Loose):
    """An output that is wanted."""

    name: Literal["tags", "scores", "errors"]
    parameters: dict[str, bool | int | float | str] = {}


class InferRequest(_Loose):
    """JSON part of a request; `parameters` may hold `top_k` and `threshold`."""

    id: Annotated[str, Field(max_length=200)] = ""
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[OutputWish] = []
    parameters: dict[str, bool | int | float | str] = {}


class OutputTensor(BaseModel):
    """A tensor of the answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[str] | list[float] | None = None


class InferResponse(BaseModel):
    """JSON part of an answer."""

    model_name: str
    model_version: str
    id: str = ""
    outputs: list[OutputTensor]


class Ready(BaseModel):
    """Health, as the protocol has it."""

    live: bool | None = None
    ready: bool | None = None


def inference_routes(settings: Settings, pipeline: Pipeline) -> APIRouter:
    """The protocol's endpoints."""
    refusals: dict[int | str, Json] = {
        status: {"model": Refused} for status in (400, 401, 403, 404, 413, 422, 503)
    }
    routes = APIRouter(prefix="/v2", responses=refusals)

    @routes.get("/health/live")
    async def live() -> Ready:
        """The server runs."""
        return Ready(live=True)

    @routes.get("/health/ready")
    async def ready() -> Ready:
        """The server takes pictures."""
        return Ready(ready=True)

    @routes.get("")
    async def server() -> Json:
        """The server's name and extensions."""
        return {"name": MODEL, "version": version("tagloom"), "extensions": ["binary_tensor_data"]}

    @routes.get("/models/{model}")
    @routes.get("/models/{model}/versions/{model_version}")
    async def model(model: str, model_version: str = "") -> Json:
        """The model's tensors."""
        _check_model(pipeline, model, model_version)
        return {
            "name": MODEL,
            "versions": [pipeline.bundle.id],
            "platform": "tagloom",
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": name, "datatype": kind, "shape": [-1] if name == "errors" else [-1, -1]}
                for name, kind in _OUTPUTS.items()
            ],
        }

    @routes.get("/models/{model}/ready")
    @routes.get("/models/{model}/versions/{model_version}/ready")
    async def model_ready(model: str, model_version: str = "") -> Json:
        """The model takes pictures."""
        _check_model(pipeline, model, model_version)
        return {"name": model, "ready": True}

    @routes.post(
        "/models/{model}/infer",
        response_model=InferResponse,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": _flat(InferRequest)},
                    "application/octet-stream": {"schema": {"type": "string"}},
                },
            }
        },
    )
    @routes.post("/models/{model}/versions/{model_version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str, model_version: str = "") -> Response:
        """Tag the pictures of the tensor `image`."""
        _check_model(pipeline, model, model_version)
        asked, binary = _split(await request.body(), request.headers.get(_HEADER_LENGTH))
        pictures = _pictures(asked.inputs[0], binary)
        if len(pictures) > settings.max_pictures:
            reason = f"{len(pictures)} pictures; a request may have {settings.max_pictures}"
            raise RequestError(413, "too_many_pictures", reason)
        trace.get().pictures = len(pictures)
        given = {k: v for k, v in asked.parameters.items() if k in ("top_k", "threshold")}
        options = checked(Options, given)
        table = await pipeline.fold("tags", pictures, Ask(options.top_k, options.threshold))
        rows = table.column(schema.TAGS).to_pylist()
        return _answer(pipeline.bundle.id, asked, rows, table.column(schema.ERROR).to_pylist())

    return routes


def _check_model(pipeline: Pipeline, name: str, wanted: str) -> None:
    if name != MODEL or wanted not in ("", pipeline.bundle.id):
        reason = f"there is '{MODEL}' in version {pipeline.bundle.id}, and no other model"
        raise RequestError(404, "no_such_model", reason)


def _split(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """The JSON of a body, and the binary tensors that follow it."""
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise RequestError(400, "invalid", f"{_HEADER_LENGTH} is beyond the body")
        length = int(header_length)
    try:
        return InferRequest.model_validate_json(body[:length]), body[length:]
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"[:500]
        raise RequestError(400, "invalid", reason) from error


def _pictures(tensor: InputTensor, binary: bytes) -> list[Picture]:
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        encoded = _from_json(tensor.data or [])
    elif size != len(binary):
        raise RequestError(400, "invalid", f"binary_data_size is {size}, found {len(binary)} bytes")
    else:
        encoded = _from_binary(binary)
    if len(encoded) != int(np.prod(tensor.shape)) or tensor.shape[1:] not in ([], [1]):
        reason = f"shape {tensor.shape} does not fit {len(encoded)} pictures; give [N] or [N, 1]"
        raise RequestError(400, "invalid", reason)
    if not encoded:
        raise RequestError(400, "no_picture", "the tensor holds no picture")
    return [Picture(f"image {place}", data) for place, data in enumerate(encoded)]


def _from_json(data: Sequence[object]) -> list[bytes]:
    flat = [one for row in data for one in (row if isinstance(row, list) else [row])]
    try:
        return [base64.b64decode(str(one), validate=True) for one in flat]
    except (binascii.Error, ValueError) as error:
        raise RequestError(422, "invalid_base64", f"data: is not base64 ({error})") from error


def _from_binary(binary: bytes) -> list[bytes]:
    """Elements with their lengths before them, 4 bytes little-endian."""
    found = []
    place = 0
    while place < len(binary):
        length = int.from_bytes(binary[place : place + 4], "little")
        element = binary[place + 4 : place + 4 + length]
        if len(element) != length:
            raise RequestError(400, "invalid", "the binary tensor ends within an element")
        found.append(element)
        place += 4 + length
    return found


def _answer(
    bundle_id: str,
    asked: InferRequest,
    rows: list[list[dict[str, Any]] | None],
    errors: list[str | None],
) -> Response:
    width = max((len(row or ()) for row in rows), default=0)
    padding = {"tag": "", "score": 0.0}
    padded = [[*(row or ()), *[padding] * (width - len(row or ()))] for row in rows]
    values: dict[str, tuple[list[int], list[str] | list[float]]] = {
        "tags": ([len(rows), width], [one["tag"] for row in padded for one in row]),
        "scores": ([len(rows), width], [one["score"] for row in padded for one in row]),
        "errors": ([len(rows)], [error or "" for error in errors]),
    }
    is_binary = asked.parameters.get("binary_data_output") is True
    wishes = asked.outputs or [OutputWish(name=n) for n in ("tags", "scores", "errors")]
    outputs = []
    tail = b""
    for wish in wishes:
        shape, data = values[wish.name]
        output = OutputTensor(name=wish.name, datatype=_OUTPUTS[wish.name], shape=shape)
        if wish.parameters.get("binary_data", is_binary) is True:
            packed = _packed(data, _OUTPUTS[wish.name])
            output.parameters = {"binary_data_size": len(packed)}
            tail += packed
        else:
            output.data = data
        outputs.append(output)
    head = InferResponse(
        model_name=MODEL, model_version=bundle_id, id=asked.id, outputs=outputs
    ).model_dump_json(exclude_none=True)
    headers = {_HEADER_LENGTH: str(len(head.encode()))} if tail else {}
    kind = "application/octet-stream" if tail else "application/json"
    return Response(head.encode() + tail, headers=headers, media_type=kind)


def _packed(data: Sequence[str | float], datatype: str) -> bytes:
    if datatype == "FP32":
        return np.array(data, dtype="<f4").tobytes()
    encoded = [str(one).encode() for one in data]
    return b"".join(len(one).to_bytes(4, "little") + one for one in encoded)


def _flat(model: type[BaseModel]) -> Json:
    """A JSON schema without references, which OpenAPI would look for elsewhere."""
    whole = model.model_json_schema()
    definitions = whole.pop("$defs", {})
    text = json.dumps(whole)
    for name, definition in definitions.items():
        text = text.replace(f'{{"$ref": "#/$defs/{name}"}}', json.dumps(definition))
    flat: Json = json.loads(text)
    return flat
