"""A headless Chromium for tests: Playwright, as the driver only, with the browser that the machine has (Debian's `chromium`).

    browser = pytest.fixture(scope="module")(browser_or_skip)
    with screen(browser, path, "phone") as page: ...

Where Playwright or a browser is missing, tests that ask for it are skipped and say which. Screenshots go to the folder named in
TINYGRAD_CV_SCREENSHOTS, if there is one.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SIZES = {"desktop": (1280, 800), "projector": (1920, 1080), "phone": (390, 844)}
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def browser_or_skip() -> Iterator[Any]:
    """A running browser, for a fixture; skips the test where there is none."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no browser to look at pages with: install Debian's `chromium`, or any Chrome, and have it on PATH")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        pytest.skip("no driver for the browser: pip install playwright (its own browsers are not needed)")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        except Error as error:
            pytest.skip(f"{program} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@contextmanager
def screen(browser: Any, path: Path, size: str = "desktop", scheme: str = "light", motion: str = "reduce") -> Iterator[Any]:
    """The page at `path`, loaded, in a window of its own. At the end nothing may have been written to the console or asked of a network.

    size: a name in SIZES. scheme: "light" or "dark". motion: "reduce" or "no-preference".
    """
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion=motion,
                                  has_touch=size == "phone")  # fmt: skip
    context.set_default_timeout(240_000)  # a busy machine is no failure
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(path.resolve().as_uri())
        until(page, "document.documentElement.dataset.ready === 'true'")
        yield page
        assert not complaints, complaints
        assert asked == [path.resolve().as_uri()], asked
    finally:
        context.close()


def until(page: Any, expression: str, seconds: float = 240) -> None:
    """Waits until an expression is true on the page. (Playwright's own waiting evaluates text there, which the page's policy forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"after {seconds} s it is still not so: {expression}"
        page.wait_for_timeout(40)


def keep_screenshot(page: Any, name: str) -> None:
    """A picture of what is shown, in the folder that TINYGRAD_CV_SCREENSHOTS names."""
    folder = os.environ.get("TINYGRAD_CV_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.png"))


def contrast(page: Any, root: str = "body") -> list[tuple[float, str, str]]:
    """(contrast ratio, text, where) of every visible piece of text under `root`, the worst first.

    The ratio is that of the Web Content Accessibility Guidelines 2.2, 1.4.3: (L1 + 0.05) / (L2 + 0.05) of relative luminances, with the
    colour of the text against the nearest opaque background behind it. HTML text only: the ground of an SVG text is a shape.
    """
    found = page.evaluate(_CONTRAST, root)
    return sorted((row["ratio"], row["text"], row["where"]) for row in found)


_CONTRAST = """(root) => {
  const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    let over = [];
    for (let e = element; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      const alpha = c.length > 3 ? c[3] : c.length === 3 ? 1 : 0;
      if (alpha > 0) over.push([c.slice(0, 3), alpha]);
      if (alpha === 1) break;
    }
    let colour = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
    for (const [c, alpha] of over.reverse()) colour = colour.map((old, i) => old + (c[i] - old) * alpha);
    return colour;
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element || element.closest('svg, script, style, noscript, [hidden], dialog:not([open])')) continue;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (style.visibility === 'hidden' || !element.checkVisibility() || box.width < 2 || box.height < 2) continue;
    if (element.closest(':disabled')) continue;
    const back = ground(element);
    const ink = channels(style.color);
    const alpha = ink.length > 3 ? ink[3] : 1;
    const seen = ink.slice(0, 3).map((c, i) => back[i] + (c - back[i]) * alpha);
    const [high, low] = [luminance(seen), luminance(back)].sort((a, b) => b - a);
    const where = element.tagName.toLowerCase() + (element.id ? '#' + element.id : '') + (element.className ? '.' + element.className : '');
    found.push({ ratio: (high + 0.05) / (low + 0.05), text: text.slice(0, 40), where });
  }
  return found;
}"""
