"""`tagloom serve` as a user runs it: clients, the page in Chromium, a swap, the end."""

import asyncio
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import schemathesis
import tritonclient.http as triton
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from playwright.sync_api import Browser, Page, expect
from schemathesis import GenerationMode
from schemathesis.errors import SchemathesisError

from engine.bundle import load_bundle
from engine.sample import SamplePicture
from serve.client import AsyncClient, Client
from tests.serving import Load, Server, await_replicas, chromium, retouch, start, stop

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path, cluster: None
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served") / "bundle"
    shutil.copytree(bundle_folder, folder)
    running = start(
        folder,
        *("--set", "ingress.max_replicas=2", "--set", "ingress.target_ongoing=2"),
        *("--set", "ingress.upscale_delay=0.5", "--set", "ingress.downscale_delay=2"),
        *("--set", "ingress.look_back=10.5", "--set", "ingress.cpus=0.5"),
    )
    try:
        running.wait_for("serving at")
        yield running
    finally:
        stop(running)


@pytest.fixture(scope="module")
def jpegs(pictures: list[SamplePicture]) -> list[bytes]:
    return [one.jpeg for one in pictures[:8]]


def test_the_clients_agree(server: Server, jpegs: list[bytes]) -> None:
    async def ask() -> object:
        async with AsyncClient(server.url) as client:
            answer = await client.annotate(jpegs[:2], top_k=3)
            assert (await client.bundle()).id == answer.bundle_id
            return answer.results

    with Client(server.url) as client:
        results = client.annotate(jpegs[:2], top_k=3).results
        assert [len(one.tags) for one in results] == [3, 3]
        assert len(client.embed(jpegs[:1]).results[0].embedding or ()) == client.bundle().width
        assert client.neighbours(jpegs[:1]).results[0].neighbours
        broken = client.annotate([b"rubbish"])
        assert broken.error is not None
        assert broken.error.code == "not_an_image"
    assert asyncio.run(ask()) == results


def test_a_client_that_others_wrote_tags_pictures(server: Server, jpegs: list[bytes]) -> None:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tagloom")
        assert client.get_model_metadata("tagloom")["inputs"][0]["name"] == "image"
        given = triton.InferInput("image", [3], "BYTES")
        given.set_data_from_numpy(np.array([*jpegs[:2], b"rubbish"], dtype=np.object_))
        answer = client.infer("tagloom", [given], parameters={"top_k": 4})
        assert answer.as_numpy("scores").shape == (3, 4)
        assert answer.as_numpy("errors").tolist() == [b"", b"", b"not_an_image"]
        with Client(server.url) as ours:
            expected = ours.annotate(jpegs[:2], top_k=4).results
        tags = [[tag.tag for tag in one.tags] for one in expected]
        assert [[tag.decode() for tag in row] for row in answer.as_numpy("tags")[:2]] == tags
    finally:
        client.close()


def test_the_annotation_job_can_use_the_server(
    server: Server, tagloom: Any, corpus_folder: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted((corpus_folder / "images").iterdir())[:5]:
        shutil.copy(file, few)
    (few / "broken.jpg").write_bytes(b"rubbish")
    out = tmp_path / "out"
    done = tagloom("annotate", "--input", few, "--server", server.url, "--output", out, "--quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["errors"] == {"not_an_image": 1}
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 6
    assert all(len(row["tags"]) == 5 for row in rows if row["error"] is None)


def test_no_generated_request_makes_it_fail(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried: Counter[str] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(mode))
            @settings(
                max_examples=6,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )
            def answered(case: schemathesis.Case) -> None:
                answer = case.call(timeout=30)
                tried[case.path] += 1
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)

            # Some operations have nothing that a negative request could break.
            with suppress(Unsatisfiable, SchemathesisError):
                answered()
    assert set(tried) >= {"/v1/annotate", "/v1/embed", "/v2/models/{model}/infer"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@dataclass
class Visit:
    """A page in a context of its own, and what it asked for and complained of."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(params=[(1280, "light"), (360, "dark")], ids=["wide", "phone"])
def visit(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Visit]:
    width, colours = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=colours,
        permissions=["clipboard-read", "clipboard-write"],
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    seen = Visit(page)
    page.on("request", lambda asked: seen.asked.append(asked.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            seen.complaints.append(message.text)
            if message.type in ("error", "warning") and "422" not in message.text
            else None
        ),
    )
    page.goto(server.url + "/")
    expect(page.locator("#bundle")).to_contain_text(load_bundle(server.folder).id)
    yield seen
    context.close()
    outside = [url for url in seen.asked if not url.startswith((server.url, "blob:", "data:"))]
    assert not outside
    assert not seen.complaints


def upload(page: Page, *files: tuple[str, bytes]) -> None:
    page.set_input_files(
        "#files",
        [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files],
    )


def test_the_page_shows_tags_shares_and_neighbours(visit: Visit, jpegs: list[bytes]) -> None:
    page = visit.page
    upload(page, ("<b>one</b>.jpg", jpegs[0]), ("broken.jpg", b"rubbish"))
    expect(page.locator("#status")).to_contain_text("2 of 2 pictures tagged")
    broken, card = page.locator(".card").all()
    expect(broken.locator(".error code")).to_have_text("not_an_image")
    expect(card.locator(".id")).to_have_text("<b>one</b>.jpg")
    page.locator("#threshold").fill("0")
    expect(card.locator(".tag:visible")).to_have_count(20)
    assert "cca-knn" in (card.locator(".tag").first.get_attribute("title") or "")
    card.locator(".neighbour").first.focus()
    expect(card.locator(".who")).not_to_be_empty()
    assert card.locator(".neighbour img").first.evaluate("image => image.naturalWidth") > 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_tags_follow_the_threshold_and_can_be_copied(
    visit: Visit, server: Server, jpegs: list[bytes]
) -> None:
    page = visit.page
    upload(page, ("a.jpg", jpegs[1]))
    expect(page.locator("#status")).to_contain_text("1 of 1 pictures tagged")
    with Client(server.url) as client:
        tags = client.annotate([jpegs[1]], top_k=20).results[0].tags
    slider = page.locator("#threshold")
    for level in (0, 30, 100):
        slider.fill(str(level))
        kept = [tag.tag for tag in tags if tag.score >= level / 100 - 1e-9]
        expect(page.locator(".tag:visible")).to_have_count(len(kept))
        assert page.locator(".tag:visible .name").all_inner_texts() == kept
    slider.fill("30")
    slider.press("ArrowLeft")
    expect(page.locator("#level")).to_have_text("29%")
    page.get_by_role("button", name="Copy as JSON", exact=True).click()
    expect(page.locator("#status")).to_have_text("Copied the tags of a.jpg.")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert [one["tag"] for one in copied["tags"]] == [t.tag for t in tags if t.score >= 0.29]


def test_a_picture_can_be_pasted_and_dropped(visit: Visit, jpegs: list[bytes]) -> None:
    page = visit.page
    for event, holder in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(
            """([kind, holder, bytes]) => {
              const data = new DataTransfer();
              const type = "image/jpeg";
              data.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`, {type}));
              const Made = kind === "paste" ? ClipboardEvent : DragEvent;
              document.dispatchEvent(new Made(kind, {[holder]: data, bubbles: true}));
            }""",
            [event, holder, list(jpegs[2])],
        )
        expect(page.locator(".card .id").first).to_have_text(f"{event}.jpg")
    expect(page.locator("#status")).to_contain_text("2 of 2 pictures tagged")


def test_the_page_works_by_keyboard_and_names_its_controls(
    visit: Visit, jpegs: list[bytes]
) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Dark colours")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#files")).to_be_focused()
    upload(page, ("a.jpg", jpegs[0]))
    expect(page.locator("#status")).to_contain_text("1 of 1 pictures tagged")
    for control in page.locator("button:visible, input:visible").all():
        assert control.evaluate(
            "c => (c.ariaLabel || c.labels?.[0]?.textContent || c.textContent).trim() !== ''"
        )
    page.get_by_role("button", name="Remove a.jpg").press("Enter")
    expect(page.locator(".card")).to_have_count(0)


def test_replicas_follow_the_load(server: Server, jpegs: list[bytes]) -> None:
    await_replicas(server.url, 1, 60)
    with Load(server.url, jpegs, clients=6) as load:
        await_replicas(server.url, 2, 90)
    assert {status for _, _, status, _ in load.answers} <= {200, 503}
    await_replicas(server.url, 1, 60)


def test_a_bundle_is_swapped_without_a_lost_request(server: Server, jpegs: list[bytes]) -> None:
    old = load_bundle(server.folder)
    retouch(server.folder, "swapped in")
    new = load_bundle(server.folder)
    assert new.id != old.id
    with Load(server.url, jpegs[:2], clients=2) as load:
        time.sleep(0.5)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(f"serving bundle {new.id}")
        time.sleep(0.5)
    assert {status for _, _, status, _ in load.answers} == {200}
    by_start = [bundle for _, _, _, bundle in sorted(load.answers)]
    assert by_start[0] == old.id
    assert by_start[-1] == new.id


def test_a_bundle_that_is_damaged_is_not_swapped_in(server: Server, jpegs: list[bytes]) -> None:
    manifest = (server.folder / "manifest.json").read_text(encoding="utf-8")
    try:
        (server.folder / "manifest.json").write_text("{}", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the old bundle goes on")
    finally:
        (server.folder / "manifest.json").write_text(manifest, encoding="utf-8")
    with Client(server.url) as client:
        assert client.annotate(jpegs[:1]).results[0].tags


def test_what_is_in_flight_is_answered_at_the_end(server: Server, jpegs: list[bytes]) -> None:
    with Load(server.url, jpegs, clients=4) as load:
        time.sleep(2)
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        server.wait_for("stopping", 30)
        server.process.wait(60)
    flying = [status for begun, ended, status, _ in load.answers if begun < told - 0.3 < ended]
    assert flying
    assert set(flying) == {200}
    refused = {told for _, _, status, told in load.answers if status == 503}
    assert refused <= {"stopping", "overloaded"}
    assert server.process.returncode == 0
