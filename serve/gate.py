"""What every request passes: an id, a key, room, a size limit, a time limit, a line in the log."""

import asyncio
import contextvars
import hmac
import ipaddress
import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.config import Settings
from serve.errors import RequestError
from serve.metrics import Metrics

log = logging.getLogger("tagloom.serve")

OPEN_PATHS = ("/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready")
"""Answered without a key: the pages, which then ask for one, and the probes of health."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass
class Trace:
    """What the log and the metrics tell of one request."""

    id: str
    started: float
    status: int = 0
    pictures: int = 0
    errors: dict[str, int] = field(default_factory=dict)


trace: contextvars.ContextVar[Trace] = contextvars.ContextVar("trace")


@dataclass
class Traffic:
    """How many requests are in progress in this replica, and whether it still takes new ones."""

    open: int = 0
    stopping: bool = False


class Gate:
    """ASGI middleware around the whole application.

    Args:
        keys: one of them must come with each request; none: only loopback is answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        keys: tuple[bytes, ...],
        metrics: Metrics,
        traffic: Traffic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        mine = Trace(request_id, time.perf_counter())
        token = trace.set(mine)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                mine.status = message["status"]
                sent = MutableHeaders(scope=message)
                # Serve's proxy gives a request its id, and the answer the same.
                if not given:
                    sent["x-request-id"] = request_id
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        is_probe = scope["path"].startswith("/v2/health/")
        self._traffic.open += not is_probe
        try:
            self._admit(scope, headers, is_probe)
            async with asyncio.timeout(self._settings.request_timeout):
                await self._app(scope, self._bounded(receive), answer)
        except TimeoutError:
            seconds = self._settings.request_timeout
            error = RequestError(503, "timeout", f"no answer within {seconds:g} s", retry_after=1)
            if begun:
                raise
            await self._refuse(error, scope, receive, answer)
        except RequestError as error:
            await self._refuse(error, scope, receive, answer)
        finally:
            self._traffic.open -= not is_probe
            trace.reset(token)
            self._tell(scope, mine)

    def _admit(self, scope: Scope, headers: Headers, is_probe: bool) -> None:
        if not is_open(scope["path"]):
            self._check_key(scope, headers)
        if self._traffic.stopping and scope["path"] != "/v2/health/live":
            reason = "this server is stopping; another may have taken its place in 5 s"
            raise RequestError(503, "stopping", reason, retry_after=5)
        if not is_probe and self._traffic.open > self._settings.queue:
            reason = f"{self._traffic.open - 1} requests are in progress already; try again in 1 s"
            raise RequestError(503, "overloaded", reason, retry_after=1)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._settings.max_body_bytes:
            raise self._too_long()

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        if not self._keys:
            if not is_loopback(scope):
                reason = "this server has no API keys and so answers its own machine alone"
                raise RequestError(403, "loopback_only", reason)
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Every key is compared, and to its end: the time taken tells nothing of any.
        matches = [hmac.compare_digest(given.encode(), key) for key in self._keys]
        if not any(matches):
            raise RequestError(
                401, "wrong_key", "send a valid API key as 'Authorization: Bearer KEY'"
            )

    def _bounded(self, receive: Receive) -> Receive:
        """The body's messages, as long as they stay within the limit."""
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._settings.max_body_bytes:
                raise self._too_long()
            return message

        return bounded

    def _too_long(self) -> RequestError:
        limit = self._settings.max_body_bytes
        return RequestError(413, "body_too_large", f"a body may have {limit} bytes at most")

    async def _refuse(
        self, error: RequestError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        mine = trace.get()
        mine.errors[error.code] = mine.errors.get(error.code, 0) + 1
        self._metrics.error(error.code)
        await error.response(mine.id)(scope, receive, send)

    def _tell(self, scope: Scope, mine: Trace) -> None:
        seconds = time.perf_counter() - mine.started
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._metrics.request(path, mine.status, seconds)
        line = {
            "request_id": mine.id,
            "method": scope["method"],
            "path": path,
            "status": mine.status,
            "ms": round(seconds * 1000, 1),
            "pictures": mine.pictures,
            "errors": mine.errors,
        }
        log.info(json.dumps(line))


def is_open(path: str) -> bool:
    """Whether a path is answered without a key."""
    return path in OPEN_PATHS or path.startswith("/page/")


def is_loopback(scope: Scope) -> bool:
    """Whether the connection comes from this machine itself."""
    client = scope.get("client")
    if not client:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
