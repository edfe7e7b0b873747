"""A real Chromium without a network, and what pages asked for and complained of in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 30
"""Seconds for what a page is asked, at the very latest, on a machine that does much else."""

expect.set_options(timeout=1000 * PATIENCE)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
]
CONTRAST = """
node => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const light = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = [];
  const style = getComputedStyle;
  for (let at = node; at; at = at.parentElement) behind.unshift(style(at).backgroundColor);
  const ink = node instanceof SVGElement ? style(node).fill : style(node).color;
  const ground = light(...behind), text = light(...behind, ink);
  return (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05);
}
"""
"""Contrast of a node's text with what is behind it, as WCAG has it; enough from 4.5 on."""


@contextmanager
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    assert executable, "no chromium on the PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Offline:
    """Opens pages from files, and keeps what they asked for and complained of."""

    browser: Browser
    folder: Path
    opened: int = 0
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, html: str, width: int = 1280, dark: bool = False) -> Page:
        self.opened += 1
        file = self.folder / "page.html"
        file.write_text(html, encoding="utf-8")
        context = self.browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            offline=True,
        )
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(file.as_uri())
        return page

    def close(self) -> None:
        """Close the pages; none may have asked for anything else or complained."""
        for context in self.browser.contexts:
            context.close()
        outside = [url for url in self.requests if not url.startswith(("file://", "data:"))]
        assert outside == []
        assert sum(url.startswith("file://") for url in self.requests) == self.opened
        assert self.complaints == []
