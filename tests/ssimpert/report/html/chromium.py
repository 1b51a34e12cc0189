"""The browser of the tests: Debian's Chromium, driven by playwright; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def why_not() -> str:
    """Why there is no browser; empty where there is one."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (extra 'browser')"
    return "" if _program() else f"no browser: none of {', '.join(NAMES)} is on the path (apt-get install chromium)"


def _program() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a browser")


@contextmanager
def running() -> Iterator[Any]:
    """A headless browser that can't reach any host."""
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not run as root.
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_program(), args=[*options, "--host-resolver-rules=MAP * ~NOTFOUND"]
        )
        yield browser
        browser.close()
