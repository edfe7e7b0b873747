"""The HTTP application: routes, their documentation, and the page."""

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve import answers
from serve.config import Settings
from serve.errors import Refused, RequestError
from serve.gate import Gate, Traffic, trace
from serve.inference import inference_routes
from serve.models import (
    AnnotateRequest,
    AnnotateResponse,
    BundleResponse,
    EmbedResponse,
    FormOptions,
    NeighboursResponse,
    Pictures,
    VocabularyResponse,
)
from serve.pipeline import Pipeline
from serve.reading import Reader
from serve.stages import Want

if TYPE_CHECKING:
    from serve.fetch import Fetcher

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": text}
    for status, text in {
        400: "The request cannot be read",
        401: "No valid API key",
        403: "Not allowed here",
        413: "Too large, or too many pictures",
        415: "Not a content type that is read",
        422: "A value breaks its rules, or no picture could be used",
        503: "Overloaded or stopping: try again after Retry-After seconds",
    }.items()
}
_HTML = "text/html; charset=utf-8"
_CSS = "text/css; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"
_PARTS = {
    "page.css": ("serve.page", "page.css", _CSS),
    "page.js": ("serve.page", "page.js", _SCRIPT),
    # One family: the page wears the gallery's own clothes.
    "base.css": ("engine.page", "base.css", _CSS),
    "gallery.css": ("engine.gallery", "page.css", _CSS),
    "docs.js": ("serve.page", "docs.js", _SCRIPT),
    # That package is Swagger UI's files; FastAPI's own page would have a browser fetch them.
    "swagger-ui.css": ("fastapi_offline", "static/swagger-ui.css", _CSS),
    "swagger-ui-bundle.js": ("fastapi_offline", "static/swagger-ui-bundle.js", _SCRIPT),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    settings: Settings,
    keys: tuple[bytes, ...],
    pipeline: Pipeline,
    traffic: Traffic,
    exposition: Callable[[], Awaitable[bytes]],
    fetcher: "Fetcher | None" = None,
) -> FastAPI:
    """The application over a pipeline.

    Args:
        exposition: gives what /metrics answers.
    """
    app = FastAPI(
        title="tagloom",
        version="1",
        description="Tags for pictures, by the bundle that this server was started with.",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    reader = Reader(settings, fetcher)
    # The gate checks the keys; here they are only told of, for who reads or tries the document.
    told = [Security(HTTPBearer(auto_error=False, description="An API key"))] if keys else []
    app.include_router(
        _api(settings, pipeline, reader, exposition), tags=["Pictures"], dependencies=told
    )
    app.include_router(
        inference_routes(settings, pipeline), tags=["Open Inference Protocol"], dependencies=told
    )
    app.include_router(_page())
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(
        Gate, settings=settings, keys=keys, metrics=pipeline.metrics, traffic=traffic
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type", "x-api-key", "x-request-id"),
            expose_headers=("retry-after", "x-request-id"),
        )
    return app


def _api(
    settings: Settings,
    pipeline: Pipeline,
    reader: Reader,
    exposition: Callable[[], Awaitable[bytes]],
) -> APIRouter:
    routes = APIRouter(responses=_REFUSALS)

    @routes.post(
        "/v1/annotate", response_model=AnnotateResponse, openapi_extra=_body(AnnotateRequest, True)
    )
    async def annotate(request: Request) -> Response:
        """Tag pictures: a form with one or many files, a raw body, or JSON."""
        pictures, options = await reader.annotate(request)
        trace.get().pictures = len(pictures)
        want: Want = "explained" if options.explain else "tags"
        table = await pipeline.fold(want, pictures, answers.to_ask(options, pipeline.bundle))
        return _answer(answers.annotations(pipeline.bundle, trace.get().id, pictures, table))

    @routes.post("/v1/embed", response_model=EmbedResponse, openapi_extra=_body(Pictures, False))
    async def embed(request: Request) -> Response:
        """The backbone's embedding of each picture, float32."""
        pictures = await reader.pictures(request)
        trace.get().pictures = len(pictures)
        table = await pipeline.fold("embedding", pictures, answers.ANYTHING)
        return _answer(answers.embeddings(pipeline.bundle, trace.get().id, pictures, table))

    @routes.post(
        "/v1/neighbours", response_model=NeighboursResponse, openapi_extra=_body(Pictures, False)
    )
    async def neighbours(request: Request) -> Response:
        """The training pictures nearest to each picture, by the annotators that have any."""
        pictures = await reader.pictures(request)
        trace.get().pictures = len(pictures)
        table = await pipeline.fold("neighbours", pictures, answers.ANYTHING)
        return _answer(answers.neighbours(pipeline.bundle, trace.get().id, pictures, table))

    @routes.get("/v1/vocabulary", response_model=VocabularyResponse)
    async def vocabulary() -> Response:
        """The tags that can be given, most frequent first."""
        return _json(answers.vocabulary(pipeline.bundle).model_dump_json())

    @routes.get("/v1/bundle", response_model=BundleResponse)
    async def bundle() -> Response:
        """What the tags come from."""
        described = answers.description(pipeline.bundle, settings)
        return _json(described.model_dump_json())

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(await exposition(), media_type="text/plain; version=0.0.4")

    return routes


def _page() -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> Response:
        return _file("serve.page", "index.html", _HTML)

    @routes.get("/docs")
    async def documentation() -> Response:
        return _file("serve.page", "docs.html", _HTML)

    @routes.get("/page/{name}")
    async def part(name: Annotated[str, Path()]) -> Response:
        if name not in _PARTS:
            raise HTTPException(404)
        return _file(*_PARTS[name])

    return routes


def _file(package: str, file: str, kind: str) -> Response:
    text = (resources.files(package) / file).read_bytes()
    return Response(text, headers={"content-type": kind, "content-security-policy": _POLICY})


def _answer(answer: AnnotateResponse | EmbedResponse | NeighboursResponse) -> Response:
    """As JSON; 422 where no picture could be used."""
    mine = trace.get()
    for result in answer.results:
        if result.error is not None:
            code = result.error.code
            mine.errors[code] = mine.errors.get(code, 0) + 1
    return _json(answer.model_dump_json(exclude_unset=True), 200 if answer.error is None else 422)


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _body(model: type[AnnotateRequest | Pictures], has_options: bool) -> dict[str, Any]:
    """OpenAPI's words for the three forms of a body."""
    raw = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    fields = FormOptions.model_json_schema()["properties"] if has_options else {}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "array", "items": file, "minItems": 1}, **fields},
        "additionalProperties": False,
    }
    content = {
        "application/json": {"schema": _inlined(model.model_json_schema())},
        "multipart/form-data": {"schema": form},
        "image/jpeg": raw,
        "application/octet-stream": raw,
    }
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    assert "$defs" not in schema
    return schema


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "http_error")
    answer = RequestError(error.status_code, code, str(error.detail)).response(trace.get().id)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    reason = "; ".join(
        f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in faults[:5]
    )
    return RequestError(422, "invalid", reason).response(trace.get().id)


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of the server's own; Starlette logs its trace, the client gets none."""
    request_id = request.scope.get("request_id", "")
    reason = "the server failed; its log tells more under this request id"
    return RequestError(500, "internal", reason).response(request_id)
