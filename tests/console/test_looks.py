"""Light and dark, wide and narrow; and the headers that keep the page to itself."""

from __future__ import annotations

import re
from typing import Literal

import httpx2
import pytest
from console.accessibility import violations
from console.conftest import Open
from console.test_console import score
from doors import OpenDoors

pytestmark = pytest.mark.slow

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
CONTRAST = """(selector) => [...document.querySelectorAll(selector)].filter((it) => it.checkVisibility())
.map((it) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  const laid = (colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const linear = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((x) => x / 255)
      .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const around = [];
  for (let one = it; one; one = one.parentElement) around.unshift(getComputedStyle(one).backgroundColor);
  const behind = around.map(laid).at(-1);
  const style = getComputedStyle(it);
  const text = laid(it instanceof SVGElement ? style.fill : style.color);
  return [(Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05), it.outerHTML];
})"""
TEXTS = (
    "p, h1, h2, h3, label, legend, a, button, textarea, td, th, li, figcaption, .words, .tag, "
    ".hint, .chip, .rank, svg text"
)


def test_text_can_be_read_in_both_schemes(open_page: Open):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 of every text with what lies behind it."""
    page = open_page()
    score(page)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (scheme == "light")
        measured = page.evaluate(CONTRAST, TEXTS)
        assert len(measured) > 60
        assert [one for one in measured if one[0] < 4.5] == []


def test_axe_finds_nothing(open_page: Open):
    """A result is shown, and all that can be opened is open; and it would find a missing label."""
    page = open_page(color_scheme="dark", viewport={"width": 390, "height": 800})
    page.locator("#options summary").click()
    score(page)
    assert violations(page) == []
    page.evaluate("document.querySelector('label[for=prompt]').remove()")
    [found] = violations(page, "#request")
    assert found.startswith("label (critical)")


def test_nothing_sticks_out_sideways(open_page: Open):
    page = open_page()
    score(page)
    for width in (320, 700, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_may_be_loaded_but_the_packages_own_files(doors: OpenDoors):
    for path in ("/", "/console/main.js", "/console/style.css"):
        answer = httpx2.get(doors.url + path)
        assert answer.status_code == 200
        policy = dict(
            rule.strip().split(" ", 1)
            for rule in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_only_the_consoles_files_can_be_reached(doors: OpenDoors):
    for path in (
        "/console/../cli.py",
        "/console/%2e%2e/cli.py",
        "/console/",
        "/console/nothing.js",
    ):
        answer = httpx2.get(doors.url + path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "invalid_request"
