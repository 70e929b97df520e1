"""Soups in the console, against answers made of the contract; with the admin key of the page alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from console.conftest import Open, Seen
from playwright.sync_api import Page, Route, expect

from tureen.contracts import ShadowReport, SoupAction, SoupEvent, SoupInfo, SoupList, SoupState

pytestmark = pytest.mark.slow

UNIFORM = SoupInfo(
    fingerprint="sha256:" + "a" * 64,
    soup="uniform:2",
    state=SoupState.ACTIVE,
    coefficients={"facts": 0.5, "style": 0.5},
    created_ns=1_700_000_000_000_000_000,
)
TILTED = SoupInfo(
    fingerprint="sha256:" + "b" * 64,
    soup="weighted:2",
    state=SoupState.SHADOW,
    coefficients={"facts": 0.8, "style": 0.2},
    created_ns=1_700_000_100_000_000_000,
    shadow=ShadowReport(responses=40, skipped=1, failed=0, rank_correlation=0.91, drift_psi=0.07),
)
FAILED = replace(
    TILTED,
    fingerprint="sha256:" + "c" * 64,
    state=SoupState.FAILED,
    trouble="style is missing <b>here</b>",
    shadow=None,
)
EVENT = SoupEvent(
    action=SoupAction.CREATE, fingerprint=TILTED.fingerprint, time_ns=TILTED.created_ns, by="ann"
)
KEY = "Bearer admins-only"
REFUSAL = {"code": "unauthenticated", "message": "No key was sent. Send one.", "retryable": False}


class Administration:
    """Stands in for the admin API: two soups that can change places."""

    def __init__(self) -> None:
        self.soups = (UNIFORM, TILTED, FAILED)
        self.active, self.previous = UNIFORM.fingerprint, None
        self.asked: list[str] = []

    def answer(self, route: Route) -> None:
        path = route.request.url.split("/v1/soups")[1].replace("%3A", ":")
        self.asked.append(f"{route.request.method} {path}")
        if route.request.headers.get("authorization") != KEY:
            route.fulfill(status=401, json={"error": REFUSAL})
        elif route.request.method == "GET":
            listed = SoupList(
                model="stub",
                active=self.active,
                previous=self.previous,
                soups=self.soups,
                history=(EVENT,),
            )
            route.fulfill(json=asdict(listed))
        else:
            if path.endswith("/activate"):
                self.active, self.previous = path.split("/")[1], self.active
                self.soups = (
                    replace(UNIFORM, state=SoupState.READY),
                    replace(TILTED, state=SoupState.ACTIVE, shadow=None),
                )
            route.fulfill(json=asdict(TILTED))


@pytest.fixture
def administration() -> Administration:
    return Administration()


@pytest.fixture
def page(open_page: Open, administration: Administration) -> Page:
    opened = open_page()
    opened.route("**/openapi.json", lambda route: route.fulfill(json={"paths": {"/v1/soups": {}}}))
    opened.route("**/v1/soups**", administration.answer)
    opened.reload()
    return opened


def card(page: Page, name: str) -> Any:
    return page.locator("#soups .card").filter(has_text=name)


def test_soups_are_listed_activated_and_rolled_back(page: Page, administration: Administration):
    page.get_by_label("Admin key").fill(KEY.split()[1])
    page.get_by_label("Admin key").press("Enter")
    expect(page.locator("#soups .card")).to_have_count(3)
    expect(card(page, "uniform:2").locator(".rank")).to_have_text("active")
    assert card(page, "uniform:2").get_by_role("button").count() == 0  # nothing before it
    shadow = card(page, "rank correlation")
    expect(shadow).to_contain_text("rank correlation +0.910, drift PSI 0.070")
    expect(shadow.locator(".coefficients li")).to_have_text(["facts0.800", "style0.200"])
    failed = card(page, "style is missing")
    expect(failed).to_contain_text("<b>here</b>")
    assert failed.get_by_role("button").count() == 0
    expect(page.locator("#soups .history li")).to_contain_text("create sha256:bbbb")
    expect(page.locator("#soups .history li")).to_contain_text("by ann")
    shadow.get_by_role("button", name="Activate").click()
    expect(page.locator("#soups-notice")).to_have_text("Done: activate.")
    expect(card(page, "weighted:2").locator(".rank")).to_have_text("active")
    card(page, "weighted:2").get_by_role("button", name="Roll back").click()
    expect(page.locator("#soups-notice")).to_have_text("Done: roll back.")
    posted = [one for one in administration.asked if one.startswith("POST")]
    assert posted == [f"POST /{TILTED.fingerprint}/{action}" for action in ("activate", "rollback")]


def test_a_wrong_key_lists_nothing(page: Page, administration: Administration, seen: Seen):
    assert administration.asked == []  # nothing is asked for before there is a key
    page.get_by_label("Admin key").fill("guessed")
    page.get_by_role("button", name="Show soups").click()
    expect(page.locator("#soups-error")).to_contain_text(REFUSAL["message"])
    assert page.locator("#soups .card").count() == 0
    assert [one for one in seen.complaints if "401" not in one] == []
    seen.complaints.clear()


def test_a_server_without_soups_shows_none(open_page: Open):
    page = open_page()
    page.route("**/openapi.json", lambda route: route.fulfill(json={"paths": {}}))
    with page.expect_response("**/openapi.json"):
        page.reload()
    expect(page.locator("#soups")).to_be_hidden()
