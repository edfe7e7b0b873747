"""From a request's body to pictures and options: a form, a raw picture, or JSON."""

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.config import Settings
from serve.errors import RequestError
from serve.models import AnnotateRequest, FormOptions, Options, Pictures
from serve.pipeline import Picture

if TYPE_CHECKING:
    from serve.fetch import Fetcher

Model = TypeVar("Model", bound=BaseModel)

MOST_FIELDS = 4000
"""Fields of a form: the lists of tags repeat theirs."""

_LISTS = ("include", "exclude", "social_tags")


class Reader:
    """Reads bodies within the server's limits."""

    def __init__(self, settings: Settings, fetcher: "Fetcher | None") -> None:
        self._settings = settings
        self._fetcher = fetcher
        if settings.url_hosts:
            self._fetching()

    async def annotate(self, request: Request) -> tuple[list[Picture], Options]:
        """Pictures and options of POST /v1/annotate.

        Raises:
            RequestError: the body is not one of the three forms, or breaks its rules.
        """
        kind = _content_type(request)
        if kind == "application/json":
            body = _parse(AnnotateRequest, await request.body())
            pictures = await self._pictures(body)
            if body.social_tags is not None:
                pictures = [
                    Picture(p.name, p.data, tuple(tags), p.error, p.reason)
                    for p, tags in zip(pictures, body.social_tags, strict=True)
                ]
            return pictures, body
        pictures, fields = await self._plain(request, kind)
        options = _options(fields)
        if options.social_tags:
            if len(pictures) > 1:
                raise RequestError(
                    422,
                    "invalid",
                    "social_tags: a form with several pictures cannot say whose they are; send "
                    "JSON, with a list for each picture",
                )
            first = pictures[0]
            pictures = [Picture(first.name, first.data, tuple(options.social_tags))]
        return pictures, options

    async def pictures(self, request: Request) -> list[Picture]:
        """Pictures of an endpoint that has no options.

        Raises:
            RequestError: as for `annotate`.
        """
        kind = _content_type(request)
        if kind == "application/json":
            return await self._pictures(_parse(Pictures, await request.body()))
        pictures, fields = await self._plain(request, kind)
        if fields:
            raise RequestError(422, "invalid", f"unknown field '{fields[0][0]}'")
        return pictures

    async def _plain(
        self, request: Request, kind: str
    ) -> tuple[list[Picture], list[tuple[str, str]]]:
        """A form's or a raw body's pictures, and its fields besides."""
        fields = list(request.query_params.multi_items())
        if kind == "multipart/form-data":
            pictures, more = await self._form(request)
            return pictures, [*fields, *more]
        if kind.startswith("image/") or kind == "application/octet-stream":
            return [Picture("body", await request.body())], fields
        raise RequestError(
            415,
            "unsupported_media_type",
            f"content type {kind[:100]!r}; send multipart/form-data, image/* or application/json",
        )

    async def _form(self, request: Request) -> tuple[list[Picture], list[tuple[str, str]]]:
        most = self._settings.max_pictures
        # One more than allowed, so that a form with too many is told of its pictures.
        parser = MultiPartParser(
            request.headers, request.stream(), max_files=most + 1, max_fields=MOST_FIELDS
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            if "Too many files" in error.message:
                raise self._too_many(most + 1) from error
            raise RequestError(400, "bad_form", error.message) from error
        except (KeyError, UnicodeError, ValueError) as error:
            raise RequestError(400, "bad_form", "the form cannot be parsed") from error
        try:
            pictures: list[Picture] = []
            fields: list[tuple[str, str]] = []
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    given = value.filename or f"picture {len(pictures)}"
                    pictures.append(Picture(given[:200], await value.read()))
                else:
                    fields.append((name, value))
        finally:
            await form.close()
        if not pictures:
            raise RequestError(400, "no_picture", "the form has no file; send each picture as one")
        self._check_count(len(pictures))
        return pictures, fields

    async def _pictures(self, body: Pictures) -> list[Picture]:
        self._check_count(len(body.images) + len(body.urls))
        given = [
            Picture(f"image {place}", _decoded(place, text))
            for place, text in enumerate(body.images)
        ]
        return given + (await self._fetching().fetch_all(body.urls) if body.urls else [])

    def _fetching(self) -> "Fetcher":
        """Made when something is to be fetched: its library would hold up a replica's start."""
        if self._fetcher is None:
            from serve.fetch import Fetcher

            self._fetcher = Fetcher(self._settings)
        return self._fetcher

    def _check_count(self, count: int) -> None:
        if count > self._settings.max_pictures:
            raise self._too_many(count)

    def _too_many(self, count: int) -> RequestError:
        most = self._settings.max_pictures
        reason = f"{count} pictures or more; a request may have {most}"
        return RequestError(413, "too_many_pictures", reason)


def _decoded(place: int, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        reason = f"images.{place}: is not base64 ({error})"
        raise RequestError(422, "invalid_base64", reason) from error


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _options(fields: list[tuple[str, str]]) -> FormOptions:
    values: dict[str, object] = {}
    for name, value in fields:
        if name in _LISTS:
            listed = values.setdefault(name, [])
            assert isinstance(listed, list)
            listed.append(value)
        elif name in values:
            raise RequestError(422, "invalid", f"{name}: is given twice")
        else:
            values[name] = value
    return checked(FormOptions, values)


def _parse(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestError(422, "invalid", _told(error)) from error


def checked(model: type[Model], values: object) -> Model:
    """A model of values that came as text.

    Raises:
        RequestError: they break its rules.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RequestError(422, "invalid", _told(error)) from error


def _told(error: ValidationError) -> str:
    """The first faults in words, without the values, which may be pictures."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{_path(fault['loc'])}{_message(fault['msg'])}" for fault in faults[:5])[
        :1000
    ]


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")


def _path(place: Iterable[int | str]) -> str:
    path = ".".join(str(part)[:100] for part in place)
    return f"{path}: " if path else ""
