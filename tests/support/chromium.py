"""Debian's Chromium through Playwright: real pages, opened without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

VARIABLE = "WINDLASS_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str:
    """Its path, or a skipped test that says how to get it."""
    found = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: `apt-get install chromium`, or name one in {VARIABLE}")
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page with all that it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    """Errors and warnings of its console, and its uncaught exceptions."""
    asked: list[str] = field(default_factory=list)
    """Addresses beside its own."""


@contextmanager
def opened(browser: Browser, path: Path, *, width: int = 1280, height: int = 800, **context: Any) -> Iterator[Opened]:
    """Open a file and wait until its charts are alive."""
    own = path.as_uri()
    session = browser.new_context(viewport={"width": width, "height": height}, **context)
    try:
        found = Opened(session.new_page())
        found.page.on("console", lambda line: found.said.append(line.text) if line.type != "log" else None)
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda request: found.asked.append(request.url) if request.url != own else None)
        found.page.goto(own)
        if context.get("java_script_enabled", True):
            alive = "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.vega-embed svg'))"
            found.page.wait_for_function(alive)
        yield found
    finally:
        session.close()
