"""Pictures by URL: what is fetched, and all that is not, against a real TLS server."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import trustme
from aiohttp import web
from aiohttp.abc import ResolveResult

from serve.config import Settings
from serve.errors import RequestError
from serve.fetch import Fetcher, is_public
from serve.pipeline import Picture

HOST = "pictures.example"
JPEG = b"\xff\xd8\xff picture"


@dataclass
class Names:
    """A resolver by heart; each name's addresses in turn, the last one for ever."""

    addresses: dict[str, list[str]]
    asked: list[str] = field(default_factory=list)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        known = self.addresses[host]
        address = known.pop(0) if len(known) > 1 else known[0]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        return None


@dataclass
class Site:
    """What the server was asked, and how to fetch from it."""

    port: int
    authority: trustme.CA
    loop: asyncio.AbstractEventLoop
    visits: list[str] = field(default_factory=list)

    def fetch(self, *urls: str, names: Names | None = None, **settings: object) -> list[Picture]:
        """Fetch as a server would that takes 127.0.0.2 alone for a public address."""
        values = {"bundle": "b", "url_hosts": (HOST, "other.example"), "url_timeout": 3.0}
        tls = ssl.create_default_context()
        self.authority.configure_trust(tls)
        fetcher = Fetcher(
            Settings.model_validate({**values, **settings}),
            resolver=names or Names({HOST: ["127.0.0.2"], "other.example": ["127.0.0.1"]}),
            allowed=lambda address: address == "127.0.0.2",
            tls=tls,
            port=self.port,
        )
        fetching = fetcher.fetch_all([url.format(port=self.port) for url in urls])
        return asyncio.run_coroutine_threadsafe(fetching, self.loop).result(20)


@contextmanager
def site_of(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Iterator[Site]:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "other.example").configure_cert(tls)
    loop = asyncio.new_event_loop()
    site = Site(0, authority, loop)

    async def visited(request: web.Request) -> web.StreamResponse:
        site.visits.append(request.path)
        return await answer(request)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{path:.*}", visited)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        place = web.TCPSite(runner, "0.0.0.0", 0, ssl_context=tls)
        await place.start()
        assert place._server is not None
        site.port = place._server.sockets[0].getsockname()[1]
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield site
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _answer(request: web.Request) -> web.StreamResponse:
    port = request.url.port
    leads = {
        "/there": f"https://{HOST}:{port}/a.jpg",
        "/relative": "/a.jpg",
        "/round": "/round",
        "/loopback": f"https://127.0.0.1:{port}/a.jpg",
        "/plain": f"http://{HOST}/a.jpg",
        "/elsewhere": "https://evil.example/a.jpg",
        "/private": f"https://other.example:{port}/a.jpg",
    }
    if request.path in leads:
        raise web.HTTPFound(leads[request.path])
    if request.path == "/slow":
        await asyncio.sleep(2)
    if request.path == "/large":
        return web.Response(body=bytes(200_000))
    if request.path == "/gone":
        raise web.HTTPNotFound
    return web.Response(body=JPEG)


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site_of(_answer) as site:
        yield site


@pytest.fixture
def site(server: Site) -> Site:
    server.visits.clear()
    return server


@pytest.mark.parametrize("path", ["a.jpg", "there", "relative"])
def test_a_picture_of_a_listed_host_is_fetched(site: Site, path: str) -> None:
    (picture,) = site.fetch(f"https://{HOST}:{{port}}/{path}")
    assert picture.data == JPEG
    assert picture.error is None


def test_urls_are_off_unless_hosts_are_listed(site: Site) -> None:
    with pytest.raises(RequestError, match="urls_off") as caught:
        site.fetch(f"https://{HOST}:{{port}}/a.jpg", url_hosts=())
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/a.jpg",
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "https://[::1]/",
        f"https://{HOST}@evil.example/",
        f"https://{HOST}:pass@{HOST}/",
        "https://evil.example/a.jpg",
        f"https://{HOST}.evil.example/a.jpg",
        f"https://{HOST}\\@evil.example/",
        f"https://evil.example#@{HOST}/",
        f"https://{HOST}:22/",
        f"https://{HOST}:99999/",
        "file:///etc/passwd",
        "ftp://pictures.example/a",
        "//pictures.example/a",
        "https://",
        "https://[",
        f"https://{HOST}/a b",
        f"https://{HOST}/\r\nHost: evil",
        "https://2130706433/",
        "https://0x7f.1/",
    ],
)
def test_a_url_that_is_not_allowed_refuses_the_request(site: Site, url: str) -> None:
    with pytest.raises(RequestError) as caught:
        site.fetch(f"https://{HOST}:{{port}}/a.jpg", url.replace("{", "").replace("}", ""))
    assert caught.value.status == 400
    assert caught.value.code == "url_not_allowed"
    assert site.visits == []


@pytest.mark.parametrize("path", ["loopback", "plain", "elsewhere", "private"])
def test_a_redirect_is_followed_only_within_the_list(site: Site, path: str) -> None:
    with pytest.raises(RequestError, match="url_not_allowed"):
        site.fetch(f"https://{HOST}:{{port}}/{path}")
    assert site.visits == [f"/{path}"]


def test_a_name_with_a_private_address_is_not_connected_to(site: Site) -> None:
    with pytest.raises(RequestError, match="not public"):
        site.fetch("https://other.example:{port}/a.jpg")
    assert site.visits == []


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(site: Site) -> None:
    names = Names({HOST: ["127.0.0.2", "127.0.0.1"]})
    (picture,) = site.fetch(f"https://{HOST}:{{port}}/a.jpg", names=names)
    assert picture.data == JPEG
    assert names.asked == [HOST]


@pytest.mark.parametrize(
    ("path", "code", "settings"),
    [
        ("gone", "unreadable_uri", {}),
        ("round", "unreadable_uri", {}),
        ("slow", "unreadable_uri", {"url_timeout": 0.3}),
        ("large", "too_large", {"url_bytes": 100_000}),
    ],
)
def test_what_cannot_be_had_is_the_pictures_own_error(
    site: Site, path: str, code: str, settings: dict[str, object]
) -> None:
    urls = [f"https://{HOST}:{{port}}/{path}", f"https://{HOST}:{{port}}/a.jpg"]
    lost, found = site.fetch(*urls, **settings)
    assert (lost.data, lost.error) == (None, code)
    assert found.data == JPEG


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0"),
        *("fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "2001:db8::1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)
