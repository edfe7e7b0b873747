"""A small client of the API, for a thread or for an event loop; it waits when told to (503)."""

import asyncio
import base64
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TypedDict, TypeVar, Unpack

import httpx2
from pydantic import BaseModel, ValidationError

from engine.cut import TopK
from engine.errors import TagloomError
from serve.errors import Problem, Refused
from serve.models import (
    AnnotateResponse,
    BundleResponse,
    EmbedResponse,
    NeighboursResponse,
    VocabularyResponse,
)

_TIMEOUT = 60.0
_LONGEST_WAIT = 30.0

Answer = TypeVar("Answer", bound=BaseModel)


class ServerError(TagloomError):
    """The server refused a request, or cannot be reached.

    `status` is 0 where there was no answer; `problem.code` is for programs.
    """

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.reason}")
        self.status = status
        self.problem = problem


class Options(TypedDict, total=False):
    """As in the API: see `serve.models.AnnotateRequest`."""

    top_k: TopK
    threshold: float
    include: Sequence[str]
    exclude: Sequence[str]
    explain: bool
    social_tags: Sequence[Sequence[str]]


class Client:
    """Calls a server from a thread.

    Args:
        url: such as http://127.0.0.1:8000.
        key: an API key, where the server wants one.
        patience: seconds that a request may wait for a server that answers 503, all in all.
    """

    def __init__(self, url: str, key: str | None = None, patience: float = 120.0) -> None:
        self._http = httpx2.Client(base_url=url, headers=_headers(key), timeout=_TIMEOUT)
        self._patience = patience

    def annotate(self, pictures: Sequence[bytes], **options: Unpack[Options]) -> AnnotateResponse:
        """Tag encoded pictures; one that is broken has its error in its result.

        Raises:
            ServerError: the request was refused, or the server cannot be reached.
        """
        body = {**_images(pictures), **options}
        return self._call("POST", "/v1/annotate", body, AnnotateResponse)

    def embed(self, pictures: Sequence[bytes]) -> EmbedResponse:
        """Embed encoded pictures; raises as `annotate`."""
        return self._call("POST", "/v1/embed", _images(pictures), EmbedResponse)

    def neighbours(self, pictures: Sequence[bytes]) -> NeighboursResponse:
        """The training pictures nearest to encoded pictures; raises as `annotate`."""
        return self._call("POST", "/v1/neighbours", _images(pictures), NeighboursResponse)

    def vocabulary(self) -> VocabularyResponse:
        """The tags that can be given; raises as `annotate`."""
        return self._call("GET", "/v1/vocabulary", None, VocabularyResponse)

    def bundle(self) -> BundleResponse:
        """What the server's tags come from; raises as `annotate`."""
        return self._call("GET", "/v1/bundle", None, BundleResponse)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(
        self, method: str, path: str, body: dict[str, object] | None, model: type[Answer]
    ) -> Answer:
        until = time.monotonic() + self._patience
        while True:
            try:
                response = self._http.request(method, path, json=body)
            except httpx2.TransportError as error:
                raise _unreachable(self._http.base_url, error) from error
            wait = _wait(response, until - time.monotonic())
            if wait is None:
                return _read(response, model)
            time.sleep(wait)


class AsyncClient:
    """`Client` for an event loop."""

    def __init__(self, url: str, key: str | None = None, patience: float = 120.0) -> None:
        self._http = httpx2.AsyncClient(base_url=url, headers=_headers(key), timeout=_TIMEOUT)
        self._patience = patience

    async def annotate(
        self, pictures: Sequence[bytes], **options: Unpack[Options]
    ) -> AnnotateResponse:
        """As `Client.annotate`."""
        body = {**_images(pictures), **options}
        return await self._call("POST", "/v1/annotate", body, AnnotateResponse)

    async def embed(self, pictures: Sequence[bytes]) -> EmbedResponse:
        """As `Client.embed`."""
        return await self._call("POST", "/v1/embed", _images(pictures), EmbedResponse)

    async def neighbours(self, pictures: Sequence[bytes]) -> NeighboursResponse:
        """As `Client.neighbours`."""
        return await self._call("POST", "/v1/neighbours", _images(pictures), NeighboursResponse)

    async def vocabulary(self) -> VocabularyResponse:
        """As `Client.vocabulary`."""
        return await self._call("GET", "/v1/vocabulary", None, VocabularyResponse)

    async def bundle(self) -> BundleResponse:
        """As `Client.bundle`."""
        return await self._call("GET", "/v1/bundle", None, BundleResponse)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(
        self, method: str, path: str, body: dict[str, object] | None, model: type[Answer]
    ) -> Answer:
        until = time.monotonic() + self._patience
        while True:
            try:
                response = await self._http.request(method, path, json=body)
            except httpx2.TransportError as error:
                raise _unreachable(self._http.base_url, error) from error
            wait = _wait(response, until - time.monotonic())
            if wait is None:
                return _read(response, model)
            await asyncio.sleep(wait)


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _images(pictures: Sequence[bytes]) -> dict[str, object]:
    return {"images": [base64.b64encode(data).decode() for data in pictures]}


def _wait(response: httpx2.Response, left: float) -> float | None:
    """Seconds to wait before the next try; None: the answer stands."""
    if response.status_code != 503:
        return None
    told = response.headers.get("retry-after", "1")
    wait = min(float(told) if told.isdecimal() else 1.0, _LONGEST_WAIT)
    return wait if wait <= left else None


def _read(response: httpx2.Response, model: type[Answer]) -> Answer:
    """A success, or a request none of whose pictures could be used: it has its results too."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as invalid:
        try:
            problem = Refused.model_validate_json(response.content).error
        except ValidationError:
            reason = f"status {response.status_code}, and not an answer of this API"
            problem = Problem(code="not_this_api", reason=reason)
        raise ServerError(response.status_code, problem) from invalid


def _unreachable(url: httpx2.URL, error: httpx2.TransportError) -> ServerError:
    reason = f"{url}: {type(error).__name__} ({error}); see that a server runs there"
    return ServerError(0, Problem(code="unreachable", reason=reason))
