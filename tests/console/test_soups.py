"""Soups in the console, against answers made of the contract and a real server; the key is the page's alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pico
import pytest
from console.accessibility import violations
from console.conftest import Open, Seen
from playwright.sync_api import Page, Route, expect
from server_process import Server, serving

from tureen.contracts import ShadowReport, SoupAction, SoupEvent, SoupInfo, SoupList, SoupState
from tureen.model.soup import make_soup

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
            if "/activate" in path:
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


def test_with_several_models_one_says_whose_soups_are_meant(
    page: Page, administration: Administration
):
    def two(route: Route) -> None:
        listed = route.fetch().json()
        listed["models"].append(listed["models"][0] | {"id": "judge"})
        route.fulfill(json=listed)

    expect(page.get_by_label("Soups of")).to_be_hidden()  # one model needs no choice
    page.route("**/v1/models", two)
    page.reload()
    page.get_by_label("Admin key").fill(KEY.split()[1])
    page.get_by_label("Soups of").select_option("judge")
    card(page, "rank correlation").get_by_role("button", name="Activate").click()
    expect(page.locator("#soups-notice")).to_have_text("Done: activate.")
    assert administration.asked[0] == "GET ?model=judge"
    assert f"POST /{TILTED.fingerprint}/activate?model=judge" in administration.asked


def test_a_wrong_key_lists_nothing(page: Page, administration: Administration, seen: Seen):
    assert administration.asked == []  # nothing is asked for before there is a key
    page.get_by_label("Admin key").fill("guessed")
    page.get_by_role("button", name="Show soups").click()
    expect(page.locator("#soups-error")).to_contain_text(REFUSAL["message"])
    assert page.locator("#soups .card").count() == 0
    assert [one for one in seen.complaints if "401" not in one] == []
    seen.complaints.clear()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that serves a soup of two; it outlives the pages that ask it."""
    folder = tmp_path_factory.mktemp("soups")
    make_soup(pico.bert_members(folder, n=2), None, folder / "soup", "uniform")
    flags = ("--backend", "torch", "--state-dir", str(folder / "state"))
    env = {"TUREEN_ADMIN_KEY": KEY.split()[1]}
    with serving(str(folder / "soup"), *flags, env=env) as running:
        yield running


def administered(open_page: Open, server: Server) -> Page:
    page = open_page(at=server)
    expect(page.locator("#new-soup")).to_be_hidden()
    page.get_by_label("Admin key").fill(KEY.split()[1])
    page.get_by_label("Admin key").press("Enter")
    return page


def test_a_soup_is_formed_and_activated_on_a_real_server(open_page: Open, server: Server):
    """From coefficients in the form to the soup that answers, and back."""
    page = administered(open_page, server)
    form = page.locator("#new-soup")
    expect(form.get_by_label("member-0")).to_have_value("0.5")
    form.get_by_label("member-0").fill("0.9")
    expect(page.locator("#new-soup-sum")).to_contain_text("1.4; they must add up to 1.")
    form.get_by_label("member-1").fill("0.1")
    expect(page.locator("#new-soup-sum")).to_have_text("The coefficients add up to 1.")
    form.get_by_label("member-1").press("Enter")
    made = card(page, "weighted:2")
    expect(made.locator(".rank")).to_have_text("ready")
    expect(made.locator(".coefficients li")).to_have_text(["member-00.900", "member-10.100"])
    assert violations(page, "#soups") == []
    made.get_by_role("button", name="Activate").click()
    expect(made.locator(".rank")).to_have_text("active")
    expect(page.locator("#models .card")).to_contain_text("weighted:2")
    expect(page.locator("#soups .history li").first).to_contain_text("activate")
    made.get_by_role("button", name="Roll back").click()
    expect(card(page, "uniform:2").locator(".rank")).to_have_text("active")


def test_coefficients_that_the_server_refuses(open_page: Open, server: Server, seen: Seen):
    page = administered(open_page, server)
    page.locator("#new-soup").get_by_label("member-0").fill("0.7")
    page.get_by_role("button", name="Form it").click()
    expect(page.locator("#soups-error")).to_contain_text("1.2")
    assert [one for one in seen.complaints if "422" not in one] == []
    seen.complaints.clear()


def test_a_server_without_soups_shows_none(open_page: Open):
    page = open_page()
    page.route("**/openapi.json", lambda route: route.fulfill(json={"paths": {}}))
    with page.expect_response("**/openapi.json"):
        page.reload()
    expect(page.locator("#soups")).to_be_hidden()
