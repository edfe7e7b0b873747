"""Pictures by URL: https alone, from listed hosts alone, and never from a private address.

The address that was checked is the one connected to: the connector takes it from the checking
resolver, so that a name which resolves otherwise a moment later (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from engine.image import ImageErrorCode
from serve.config import Settings
from serve.errors import RequestError
from serve.pipeline import Picture

_REDIRECTS = {301, 302, 303, 307, 308}
_AT_ONCE = 4


class PrivateAddressError(Exception):
    """A name resolves to an address that is not public."""


class Resolver(Protocol):
    """What aiohttp asks of a resolver."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]: ...

    async def close(self) -> None: ...


def is_public(address: str) -> bool:
    """Whether an IP address may be connected to: global, also where IPv6 wraps an IPv4 one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        wrapped = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        nat64 = parsed in ipaddress.ip_network("64:ff9b::/96")
        if nat64:
            wrapped = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if wrapped is not None and not is_public(str(wrapped)):
            return False
    return parsed.is_global and not parsed.is_multicast


class CheckingResolver(AbstractResolver):
    """Resolves a name, and refuses it if any of its addresses is not public."""

    def __init__(self, inner: Resolver, allowed: Callable[[str], bool]) -> None:
        self._inner = inner
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As aiohttp asks for it.

        Raises:
            PrivateAddressError: an address is private, loopback, link-local or otherwise reserved.
        """
        results = await self._inner.resolve(host, port, family)
        for result in results:
            if not self._allowed(result["host"]):
                raise PrivateAddressError(host)
        return results

    async def close(self) -> None:
        await self._inner.close()


class Fetcher:
    """Fetches pictures from the hosts that the settings list.

    Args:
        resolver, allowed, tls: other than the system's in tests alone.
    """

    def __init__(
        self,
        settings: Settings,
        resolver: Resolver | None = None,
        allowed: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
        port: int = 443,
    ) -> None:
        self._settings = settings
        self._hosts = {host.lower().rstrip(".") for host in settings.url_hosts}
        self._resolver = resolver
        self._allowed = allowed
        self._tls = tls
        self._port = port

    async def fetch_all(self, urls: Sequence[str]) -> list[Picture]:
        """A picture for each URL; one that cannot be had carries `unreadable_uri`.

        Raises:
            RequestError: a URL, or where it leads, is not allowed; nothing more is fetched then.
        """
        if not urls:
            return []
        if not self._hosts:
            raise RequestError(403, "urls_off", "this server fetches no URLs; send the pictures")
        for url in urls:
            self._check(url)
        resolver = CheckingResolver(self._resolver or ThreadedResolver(), self._allowed)
        connector = aiohttp.TCPConnector(
            resolver=resolver, ssl=self._tls or True, limit=_AT_ONCE, use_dns_cache=False
        )
        timeout = aiohttp.ClientTimeout(total=self._settings.url_timeout)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        ) as session:
            tasks = [asyncio.create_task(self._fetch(session, url)) for url in urls]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()

    def _check(self, url: str) -> None:
        """Refuse a URL for what it says.

        Raises:
            RequestError: it is not https on a listed host.
        """
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").lower().rstrip(".")
            port = parts.port or self._port
        except ValueError as error:
            raise _refused("it cannot be parsed") from error
        if parts.scheme != "https":
            raise _refused("only https is fetched")
        if parts.username is not None or parts.password is not None:
            raise _refused("it names a user")
        if "\\" in url or any(ord(c) <= 32 or ord(c) == 127 for c in url):
            raise _refused("it holds a character that no URL may")
        if host not in self._hosts:
            raise _refused("its host is not on this server's list")
        if port != self._port:
            raise _refused("only the default port is connected to")
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return
        # aiohttp asks no resolver about a literal address.
        if not self._allowed(str(literal)):
            raise _refused("its address is not public")

    async def _fetch(self, session: aiohttp.ClientSession, url: str) -> Picture:
        name = url[:200]
        try:
            for _ in range(self._settings.url_redirects + 1):
                async with session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await self._body(response, name)
                    url = urljoin(url, response.headers.get("location", ""))
                    self._check(url)
        except PrivateAddressError as error:
            raise _refused("its host has an address that is not public") from error
        except TimeoutError:
            return _unreadable(name, f"no answer within {self._settings.url_timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error.__cause__, PrivateAddressError):
                raise _refused("its host has an address that is not public") from error
            return _unreadable(name, f"it could not be fetched ({type(error).__name__})")
        return _unreadable(name, f"more than {self._settings.url_redirects} redirects")

    async def _body(self, response: aiohttp.ClientResponse, name: str) -> Picture:
        if response.status != 200:
            return _unreadable(name, f"its server answered {response.status}")
        data = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            data += chunk
            if len(data) > self._settings.url_bytes:
                reason = f"over the limit of {self._settings.url_bytes} bytes for a URL"
                return Picture(name, None, (), str(ImageErrorCode.TOO_LARGE), reason)
        return Picture(name, bytes(data))


def _refused(reason: str) -> RequestError:
    return RequestError(400, "url_not_allowed", f"a URL is not fetched: {reason}")


def _unreadable(name: str, reason: str) -> Picture:
    return Picture(name, None, (), str(ImageErrorCode.UNREADABLE_URI), reason)
