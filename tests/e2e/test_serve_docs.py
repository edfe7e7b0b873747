"""The page of the API's documentation in Chromium, on the application behind plain uvicorn."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from serve.config import Settings
from serve.pipeline import Run
from tests.serving import application, chromium, direct, free_port

KEY = "sesame"


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def settings(bundle_folder: Path) -> Settings:
    return Settings(bundle=str(bundle_folder))


@pytest.fixture(scope="module")
def run(settings: Settings) -> Run:
    return direct(settings)


@pytest.fixture(scope="module")
def url(settings: Settings, run: Run) -> Iterator[str]:
    with listening(application(settings, run, keys=(KEY.encode(),))) as address:
        yield address


@pytest.fixture
def page(url: str) -> Iterator[Page]:
    """The documentation, on a phone in the dark; nothing outside was asked, nothing amiss told."""
    asked: list[str] = []
    complaints: list[str] = []
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": 360, "height": 800}, color_scheme="dark", service_workers="block"
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{url}/")
        page.get_by_role("link", name="API documentation").click()
        complaints.clear()  # Without a key the first page is told so.
        yield page
        context.close()
    outside = [one for one in asked if not one.startswith((url, "data:", "blob:"))]
    assert not outside
    assert not complaints


def test_the_documentation_shows_every_operation(page: Page, url: str) -> None:
    document = httpx2.get(f"{url}/openapi.json").json()
    expected = sorted(
        (method.upper(), path) for path, found in document["paths"].items() for method in found
    )
    expect(page.locator(".opblock")).to_have_count(len(expected))
    methods = page.locator(".opblock-summary-method").all_inner_texts()
    paths = page.locator(".opblock-summary-path").all_inner_texts()
    shown = [path.replace("\N{ZERO WIDTH SPACE}", "") for path in paths]
    assert sorted(zip(methods, shown, strict=True)) == expected
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_operation_can_be_tried_with_a_key(page: Page) -> None:
    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(KEY)
    page.locator(".auth-btn-wrapper button[type=submit]").click()
    page.locator(".auth-btn-wrapper .btn-done").click()
    block = page.locator("#operations-Pictures-bundle_v1_bundle_get")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response-col_status").last).to_contain_text("200")


def test_the_page_may_do_what_it_needs_and_no_more(url: str) -> None:
    policy = httpx2.get(f"{url}/docs").headers["content-security-policy"]
    assert policy == httpx2.get(f"{url}/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
