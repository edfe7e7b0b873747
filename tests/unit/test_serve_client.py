"""The client against servers that refuse, are busy, or are none."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serve.client import AsyncClient, Client, ServerError

GOOD = {"bundle_id": "b", "digest": "d", "tags": [{"tag": "sea", "count": 2}]}
REFUSED = {"error": {"code": "wrong_key", "reason": "none"}, "request_id": "r"}
Answer = tuple[int, dict[str, str], object]


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Gives the answers in turn, the last one for ever; and the headers that it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers[min(len(seen), len(answers) - 1)]
            seen.append({name.lower(): value for name, value in self.headers.items()})
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return None

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", seen
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def refusal(client: Client) -> ServerError:
    with pytest.raises(ServerError) as caught:
        client.bundle()
    return caught.value


BUSY: Answer = (503, {"retry-after": "0"}, REFUSED)


def test_it_tries_again_when_told_to() -> None:
    with server(BUSY, BUSY, (200, {}, GOOD)) as (url, seen), Client(url, key="k") as client:
        assert client.vocabulary().tags[0].tag == "sea"
    assert len(seen) == 3
    assert seen[0]["authorization"] == "Bearer k"


def test_in_an_event_loop_it_tries_again_too() -> None:
    async def ask(url: str) -> str:
        async with AsyncClient(url) as client:
            return (await client.vocabulary()).tags[0].tag

    with server(BUSY, (200, {}, GOOD)) as (url, seen):
        assert asyncio.run(ask(url)) == "sea"
    assert len(seen) == 2


def test_its_patience_ends() -> None:
    never: Answer = (503, {"retry-after": "20"}, REFUSED)
    with server(never) as (url, seen), Client(url, patience=5) as client:
        assert refusal(client).status == 503
    assert len(seen) == 1


def test_a_refusal_is_told_with_its_code() -> None:
    with server((401, {}, REFUSED)) as (url, _), Client(url) as client:
        error = refusal(client)
    assert (error.status, error.problem.code) == (401, "wrong_key")


def test_a_server_of_another_kind_is_told() -> None:
    with server((200, {}, "<html>")) as (url, _), Client(url) as client:
        assert "not an answer of this API" in str(refusal(client))


def test_no_server_is_told() -> None:
    with server((200, {}, GOOD)) as (url, _):
        pass
    with Client(url) as client, pytest.raises(ServerError, match="unreachable"):
        client.bundle()
