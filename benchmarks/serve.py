"""Serving against plain uvicorn and FastAPI with the same model: python -m benchmarks.serve.

Both servers run at once and are loaded in turn, from a second process, so that what else the
machine does weighs on both alike. The last line is JSON: ratios and figures by name.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil
import pyarrow as pa
import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from engine import schema
from engine.bundle import load_bundle, new_bundle
from engine.config import load_config
from engine.corpus import Corpus
from engine.embed import backbone
from engine.fitting import Material, fit_bundle
from engine.group import Solo
from engine.plan import annotation_plan, embedding_plan
from engine.sample import draw_picture
from engine.vocab import Vocabulary

HEADERS = {"content-type": "image/jpeg"}
CLIENTS = 16
KILLED_RATE = 40
"""Requests a second while a replica is killed: what one of two can carry."""


def fit(folder: Path, pictures: int) -> None:
    """A bundle on lite0 from drawn pictures."""
    config = load_config(None, ["embed.backbone=efficientnet-lite0"])
    drawn = [draw_picture(index, seed=0) for index in range(pictures)]
    batch = pa.table(
        {
            schema.IMAGE_ID: [one.image_id for one in drawn],
            schema.BYTES: [one.jpeg for one in drawn],
        }
    )
    embedded = embedding_plan(config, thumbnails=True).workers()(batch)
    tags = [one.tags for one in drawn]
    vocabulary = Vocabulary.learn(tags)
    ids = tuple(one.image_id for one in drawn)
    levels = backbone(config.embed.network).levels
    vectors = schema.float_tensor(embedded, schema.EMBEDDING)
    corpus = Corpus(ids, vectors, vocabulary.encode(tags), levels)
    thumbnails = dict(zip(ids, embedded.column(schema.THUMBNAIL).to_pylist(), strict=True))
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, Material(corpus, vocabulary, thumbnails), config, Solo(), lambda _: None)


def plain(bundle: str, port: int) -> None:
    """The other side: the same stages behind uvicorn and FastAPI, a request at a time."""
    workers = annotation_plan(load_bundle(Path(bundle)), 5).workers()
    lock = threading.Lock()
    app = FastAPI()

    def fold(data: bytes) -> list[dict[str, object]]:
        with lock:
            table = workers(pa.table({schema.IMAGE_ID: ["0"], schema.BYTES: [data]}))
        tags: list[dict[str, object]] = table.column(schema.TAGS)[0].as_py()
        return tags

    @app.post("/v1/annotate")
    async def annotate(request: Request) -> dict[str, object]:
        return {"results": [{"tags": await run_in_threadpool(fold, await request.body())}]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


async def load(url: str, clients: int, seconds: float, rate: float) -> dict[str, object]:
    """Answers by status and latencies in seconds; `rate` 0: each client asks when answered."""
    jpegs = [draw_picture(index, seed=1).jpeg for index in range(32)]
    answers: list[tuple[int, float]] = []
    connector = aiohttp.TCPConnector(limit=0)
    until = time.monotonic() + seconds

    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(place: int) -> None:
            begun = time.monotonic()
            data = jpegs[place % len(jpegs)]
            try:
                async with session.post(url, data=data, headers=HEADERS) as answer:
                    await answer.read()
                    status = answer.status
            except aiohttp.ClientError:
                status = 0
            answers.append((status, time.monotonic() - begun))

        async def client(place: int) -> None:
            while time.monotonic() < until:
                await ask(place)
                place += clients

        if rate == 0:
            await asyncio.gather(*(client(place) for place in range(clients)))
        else:
            begun = time.monotonic()
            tasks = []
            for place in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, begun + place / rate - time.monotonic()))
                tasks.append(asyncio.create_task(ask(place)))
            await asyncio.gather(*tasks)
    good = sorted(latency for status, latency in answers if status == 200)
    return {
        "statuses": dict(Counter(str(status) for status, _ in answers)),
        "rate": len(good) / seconds,
        "p50": _quantile(good, 0.5),
        "p99": _quantile(good, 0.99),
    }


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def loaded(url: str, seconds: float, clients: int = CLIENTS, rate: float = 0) -> dict[str, float]:
    """`load` in a second process."""
    options = ["--url", url, "--seconds", seconds, "--clients", clients, "--rate", rate]
    command = [sys.executable, "-m", "benchmarks.serve", "load", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@contextmanager
def server(*command: object) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def await_answer(url: str) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        if loaded(url, 0.2, 1)["statuses"].get("200"):
            return
        time.sleep(1)
    raise SystemExit(f"{url}: no answer within 180 s")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def memory(process: psutil.Process) -> float:
    """Of the replicas, in MB."""
    return sum(one.memory_info().rss for one in replicas_of(process)) / 2**20


def replicas_of(process: psutil.Process) -> list[psutil.Process]:
    children = process.children(recursive=True)
    return [one for one in children if "ServeReplica" in " ".join(one.cmdline())]


def overload(
    url: str, process: psutil.Process, rate: float, seconds: float
) -> tuple[Counter[str], list[float]]:
    """Answers by status under a rate, and the replicas' memory every second."""
    found: list[dict[str, float]] = []
    thread = threading.Thread(target=lambda: found.append(loaded(url, seconds, rate=rate)))
    thread.start()
    sizes = []
    while thread.is_alive():
        sizes.append(memory(process))
        time.sleep(1)
    return Counter(found[0]["statuses"]), sizes


def recovery(url: str, normal: float) -> float:
    """Seconds until the median of a second's answers is at most twice the usual one."""
    begun = time.monotonic()
    while time.monotonic() - begun < 60:
        started = time.monotonic() - begun
        if loaded(url, 1, 1)["p50"] <= 2 * normal:
            return started
    return float("inf")


def killed(bundle: str, replicas: int, options: list[str]) -> dict[str, object]:
    """A replica is killed under load: what was answered, and after how long it is 200 again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/annotate"
    scaling = [
        f"ingress.{name}={value}"
        for name, value in (("cpus", 0.5), ("min_replicas", replicas), ("max_replicas", replicas))
    ]
    sets = [part for one in scaling for part in ("--set", one)]
    command = ("jobs", "serve", "--bundle", bundle, "--port", port, "--quiet", *options, *sets)
    found: list[dict[str, object]] = []
    with server(*command) as tagloom:
        await_answer(url)
        loaded(url, 2)
        thread = threading.Thread(target=lambda: found.append(loaded(url, 30, rate=KILLED_RATE)))
        thread.start()
        time.sleep(5)
        replicas_of(tagloom)[0].kill()
        began = time.monotonic()
        while loaded(url, 0.1, 1)["statuses"].keys() != {"200"}:
            time.sleep(0.1)
        back = time.monotonic() - began
        thread.join()
    return {"statuses": found[0]["statuses"], "seconds_until_200": round(back, 1)}


def compare(
    bundle: str, rounds: int, seconds: float, overload_seconds: float, options: list[str]
) -> None:
    ports = free_port(), free_port()
    plain_url, serve_url = (f"http://127.0.0.1:{port}/v1/annotate" for port in ports)
    with (
        server("benchmarks.serve", "plain", "--bundle", bundle, "--port", ports[0]),
        server(
            "jobs", "serve", "--bundle", bundle, "--port", ports[1], "--quiet", *options
        ) as tagloom,
    ):
        for url in (plain_url, serve_url):
            await_answer(url)
            loaded(url, 2)
        full = [(loaded(plain_url, seconds), loaded(serve_url, seconds)) for _ in range(rounds)]
        plain_rate = statistics.median(one["rate"] for one, _ in full)
        serve_rate = statistics.median(two["rate"] for _, two in full)
        half = plain_rate / 2
        halves = [
            (loaded(plain_url, seconds, rate=half), loaded(serve_url, seconds, rate=half))
            for _ in range(rounds)
        ]
        plain_p99 = statistics.median(one["p99"] for one, _ in halves)
        serve_p99 = statistics.median(two["p99"] for _, two in halves)
        normal = loaded(serve_url, 3, 1)["p50"]
        statuses, sizes = overload(serve_url, tagloom, 4 * serve_rate, overload_seconds)
        back = recovery(serve_url, normal)
    quarter = max(1, len(sizes) // 4)
    result = {
        "requests_per_second": {"plain": round(plain_rate, 1), "tagloom": round(serve_rate, 1)},
        "requests_ratio": round(serve_rate / plain_rate, 3),
        "requests_ratio_by_round": [round(t["rate"] / p["rate"], 3) for p, t in full],
        "p99_ms_at_half": {
            "plain": round(1e3 * plain_p99, 1),
            "tagloom": round(1e3 * serve_p99, 1),
        },
        "p99_ratio": round(serve_p99 / plain_p99, 3),
        "overload_statuses": dict(statuses),
        "overload_only_200_and_503": set(statuses) <= {"200", "503"},
        "overload_memory_ratio": round(
            statistics.median(sizes[-quarter:]) / statistics.median(sizes[:quarter]), 3
        ),
        "overload_recovery_seconds": round(back, 1),
        "killed_of_1": killed(bundle, 1, options),
        "killed_of_2": killed(bundle, 2, options),
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("all", "plain", "load"), default="all")
    parser.add_argument("--bundle", help="without: one is fitted on lite0")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--url")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument(
        "--proxy", choices=("auto", "python", "haproxy"), default="auto", help="who listens"
    )
    given = parser.parse_args()
    if given.part == "plain":
        plain(given.bundle, given.port)
    elif given.part == "load":
        found = asyncio.run(load(given.url, given.clients, given.seconds, given.rate))
        print(json.dumps(found))
    else:
        with tempfile.TemporaryDirectory() as folder:
            bundle = given.bundle or str(Path(folder) / "bundle")
            options = ["--proxy", given.proxy]
            if not given.bundle:
                fit(Path(bundle), 200)
            compare(bundle, given.rounds, given.seconds, given.overload_seconds, options)


if __name__ == "__main__":
    main()
