"""Headless Chromium over a server with the stub; every page is watched for errors and strangers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from debian_package import run
from doors import OpenDoors, open_doors

pytest.importorskip("playwright", reason="drives the browser")
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

INSTALL_S = 600
PATIENCE_MS = 60_000  # of a machine that does much else; what is waited for comes at once elsewhere
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run"
)


@cache
def chromium() -> str:
    """Path of the browser: the installed one, or Debian's, which root installs here."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("there is no chromium here and only root of a Debian can get it; install it")
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    try:
        run([*apt, "update"])
        install = [*apt, "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu"]
        run(["env", "DEBIAN_FRONTEND=noninteractive", *install], patience_s=INSTALL_S)
    except (subprocess.SubprocessError, OSError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"there is no chromium here, and Debian's cannot be had: {reason.strip()}")
    path = shutil.which("chromium")
    assert path is not None
    return path


expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of a module, not of the session: Playwright keeps an event loop running in this thread for as long."""
    path = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def doors() -> Iterator[OpenDoors]:
    with open_doors() as opened:
        yield opened


@dataclass
class Seen:
    """What pages asked for and complained of."""

    addresses: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Page]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def open_page(browser: Browser, doors: OpenDoors, seen: Seen) -> Iterator[Open]:
    """Opens the console in a browser of its own: open_page(path="/", **settings of the context).

    At the end there must have been no complaint, and no request to anybody but the server.
    """
    contexts = []

    def note(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            seen.complaints.append(said.text)

    def open_it(path: str = "/", at: OpenDoors = doors, **settings: Any) -> Page:
        context = browser.new_context(base_url=at.url, **settings)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=at.url)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: seen.addresses.append(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("console", note)
        page.goto(path)
        page.get_by_text("Asking the server").wait_for(state="hidden")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert seen.complaints == []
    assert [url for url in seen.addresses if not url.startswith("http://127.0.0.1:")] == []
