"""The console in a real browser: what it shows is what the API says."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from console.conftest import Open, Seen
from doors import OpenDoors, open_doors
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.slow

HOSTILE = (
    "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'><svg onload=window.hit=1>"
)


def score(page: Page) -> None:
    page.get_by_role("button", name="Score", exact=True).click()
    page.locator("#cards .card").first.wait_for()


def fill(page: Page, **texts: list[str] | str) -> None:
    """prompt: a text; context, responses: as many as given."""
    for kind, wanted in texts.items():
        if isinstance(wanted, str):
            page.locator(f"#{kind}").fill(wanted)
            continue
        while page.locator(f"#{kind} textarea").count() < len(wanted):
            page.locator(f"#{kind} .add").click()
        for index, text in enumerate(wanted):
            page.locator(f"#{kind}-{index}").fill(text)


def asked(page: Page, **options: Any) -> dict[str, Any]:
    """What the API answers to the request in the form."""

    def texts(kind: str) -> list[str]:
        return [one.input_value() for one in page.locator(f"#{kind} textarea").all()]

    sample = {
        "prompt": page.locator("#prompt").input_value(),
        "context": texts("context"),
        "responses": texts("responses"),
    }
    body = {"samples": [sample], "uncertainty": True, **options}
    return httpx2.post(page.url.split("#")[0] + "v1/score", json=body).json()


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def rewards(page: Page) -> list[float]:
    return [float(one.get_attribute("value") or "") for one in page.locator("#cards data").all()]


def test_the_example_gets_the_numbers_of_the_api(open_page: Open):
    page = open_page()
    score(page)
    scores = asked(page)["results"][0]["scores"]
    assert rewards(page) == [one["reward"] for one in scores]
    for card, one in zip(page.locator("#cards .card").all(), scores, strict=True):
        for name, head in one["heads"].items():
            shown = card.locator(f"svg [data-head={name}]").text_content()
            assert shown == f"{signed(head['calibrated'])} ± {head['std']:.3f}"
        rows = [
            row.locator("th, td").all_text_contents()[2:4] for row in card.locator("tbody tr").all()
        ]
        assert rows == [[signed(x["value"]), signed(x["reward"])] for x in one["segments"]]
    best = max(range(2), key=lambda index: scores[index]["reward"])
    expect(page.locator("#cards .card").nth(best).locator(".rank")).to_have_text("best")
    expect(page.locator("#summary")).to_contain_text(f"Response {'AB'[best]} is best")
    columns = page.locator("#comparison thead th").all_text_contents()
    assert columns == [f"Response {'AB'[index]}" for index in (best, 1 - best)]


def test_whiskers_reach_one_standard_deviation_to_either_side(open_page: Open):
    """On one axis for all responses, from 3 % to 97 % of the width."""
    page = open_page()
    score(page)
    scores = asked(page)["results"][0]["scores"]
    heads = [head for one in scores for head in one["heads"].values()]
    limit = max(1, *(math.ceil(abs(head["calibrated"]) + head["std"]) for head in heads))
    bars = page.locator("svg .whisker").all()[::3]  # each with its two ends behind it
    assert len(bars) == len(heads) == 8
    for bar, head in zip(bars, heads, strict=True):
        for end, sign in (("x1", -1), ("x2", 1)):
            value = head["calibrated"] + sign * head["std"]
            expected = 3 + 94 * (value + limit) / (2 * limit)
            assert float((bar.get_attribute(end) or "").rstrip("%")) == pytest.approx(
                expected, abs=0.006
            )


def test_a_single_member_has_no_spread_to_show(open_page: Open):
    """An answer as the stub's, but of a model of one member."""
    page = open_page()
    members = 1

    def answer(route: Route) -> None:
        body = route.fetch().json()
        for one in body["results"][0]["scores"]:
            if members == 1:
                one["uncertainty"] |= {"std": 0.0, "members": 1}
                for head in one["heads"].values():
                    head["std"] = 0.0
        route.fulfill(json=body)

    page.route("**/v1/score", answer)
    score(page)
    expect(page.locator("#cards")).not_to_contain_text("±")
    expect(page.locator("#cards")).not_to_contain_text("members")
    expect(page.locator("svg .whisker")).to_have_count(0)
    members = 3
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.locator("#cards .reward").first).to_contain_text("; 3 members, ")
    expect(page.locator("svg .whisker")).to_have_count(2 * 4 * 3)


def test_coloured_pieces_tile_the_text_and_add_up_to_the_reward(open_page: Open):
    """Spans count code points, JavaScript counts UTF-16: letters beyond the first plane tell."""
    texts = ["🍲 is soup. It is hot, and 🔥real; so\nwhat? Fine.", "One."]
    page = open_page()
    fill(page, responses=texts)
    score(page)
    views = ["all heads", "factuality", "relevance"]
    assert page.locator("#views label").all_text_contents() == [f" {view}" for view in views]
    for view in views:
        page.get_by_label(view, exact=True).check()
        for card, text in zip(page.locator("#cards .card").all(), texts, strict=True):
            assert "".join(card.locator(".words").all_text_contents()) == text
    page.get_by_label("all heads", exact=True).check()
    for card, total in zip(page.locator("#cards .card").all(), rewards(page), strict=True):
        labels = card.locator(".tag, .chip").all_text_contents()
        numbers = [re.findall(r"[+−]\d+\.\d+", label.replace("\n", " ")) for label in labels]
        parts = [float(number.replace("−", "-")) for [number] in numbers]
        assert sum(parts) == pytest.approx(total, abs=0.0006 * len(parts))
        for piece in card.locator(".piece").all():  # the sign is said in colour, line and text
            said = "negative" if "−" in (piece.locator(".tag").text_content() or "") else "positive"
            assert said in (piece.get_attribute("class") or "")


def test_everything_can_be_done_from_the_keyboard(open_page: Open):
    page = open_page()
    names: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const it = document.activeElement;
            return [it.labels?.[0]?.textContent || it.getAttribute("aria-label") || it.textContent,
                    getComputedStyle(it).outlineStyle]; }"""
        )
        assert name.strip(), page.evaluate("document.activeElement.outerHTML")
        assert outline != "none", name
        names.append(name.strip())
        if name.startswith("Response A"):
            break
    assert names[0] == "Skip to the result"
    page.keyboard.press("Control+A")
    page.keyboard.type("Soup is hot. It is, I think, nice.")
    page.keyboard.press("Control+Enter")
    page.locator("#cards .card").first.wait_for()
    assert rewards(page) == [one["reward"] for one in asked(page)["results"][0]["scores"]]
    page.get_by_label("all heads", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("factuality", exact=True)).to_be_checked()
    expect(page.locator("#cards .coloured").first).to_have_attribute("data-view", "factuality")
    page.get_by_role("button", name="Add a response").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Response C")).to_be_focused()
    page.get_by_role("button", name="Remove Response C").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("textbox", name="Response B")).to_be_focused()


def test_every_control_and_region_has_a_name_and_changes_are_announced(open_page: Open):
    page = open_page()
    score(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, svg, section, [role=region]")]
        .filter((it) => !(it.labels?.length || it.getAttribute("aria-label")
                          || it.getAttribute("aria-labelledby") || it.textContent.trim()))
        .map((it) => it.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((it) => it.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("#summary").get_attribute("role") == "status"
    assert page.locator("#error").get_attribute("role") == "alert"
    assert page.locator("html").get_attribute("lang") == "en"


def test_texts_never_become_markup(open_page: Open):
    page = open_page()
    fill(page, prompt=HOSTILE, context=[HOSTILE], responses=[HOSTILE, f"{HOSTILE} And. That."])
    score(page)
    assert "".join(page.locator(".words").all_text_contents()).startswith(HOSTILE)
    assert page.locator("main img, main script, main svg[onload]").count() == 0
    page.get_by_role("button", name="Copy link").click()
    again = open_page(page.url.removeprefix(page.url.split("#")[0].rstrip("/")))
    assert again.locator("#prompt").input_value() == HOSTILE
    assert page.evaluate("window.hit") is again.evaluate("window.hit") is None


def test_an_error_says_what_the_server_says(open_page: Open, seen: Seen):
    page = open_page()
    fill(page, responses=["word " * 2000])
    page.get_by_role("button", name="Score", exact=True).click()
    alert = page.locator("#error")
    expect(alert).to_contain_text("max_input_tokens")
    error = asked(page)["error"]
    expect(alert.locator("p")).to_have_text(error["message"])
    for name in ("code", "field", "got", "limit"):
        expect(alert.locator(f"[data-fact={name}]")).to_have_text(str(error[name]))
    assert page.locator("#cards .card").count() == 0
    expect(page.locator("#responses-0")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Go to Response A").click()
    expect(page.locator("#responses-0")).to_be_focused()
    fill(page, responses=["word"])
    score(page)
    expect(alert).to_be_empty()
    assert page.locator("[aria-invalid]").count() == 0
    page.get_by_text("Options and key").click()
    page.get_by_label("Penalty").fill("-1")
    page.get_by_role("button", name="Score", exact=True).click()
    message = asked(page, penalty=-1)["error"]["message"]
    expect(alert.locator("p")).to_have_text(message)
    expect(page.get_by_label("Penalty")).to_have_attribute("aria-invalid", "true")
    assert len(seen.complaints) == 2  # the browser's own note of each 422
    assert all("422" in one for one in seen.complaints)
    seen.complaints.clear()


def test_a_link_carries_the_request_and_no_key(open_page: Open, seen: Seen):
    page = open_page()
    fill(page, prompt="Ünïcode & 'quotes' 🍲?", context=["a", "b\nc"], responses=["x", "y", "z"])
    page.get_by_text("Options and key").click()
    page.get_by_label("Aggregation").select_option("worst_case")
    page.get_by_label("API key").fill("tell-nobody")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#notice")).to_have_text("Link copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    again = open_page(link)
    for kind in ("prompt", "context-0", "context-1", "responses-2"):
        expect(again.locator(f"#{kind}")).to_have_value(page.locator(f"#{kind}").input_value())
    expect(again.locator("[name=aggregation]")).to_have_value("worst_case")
    expect(again.locator("#api-key")).to_have_value("")
    assert not any("score" in address for address in seen.addresses)  # a link alone sends nothing
    broken = open_page(f"/#{link.split('#')[1][:-20]}")
    expect(broken.locator("#notice")).to_contain_text("cut off")
    kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert page.evaluate(kept) == '[{},{},""]'


@pytest.mark.parametrize("language", ["Python", "curl"])
def test_copied_code_runs_and_gives_the_same_rewards(open_page: Open, language: str):
    if language == "curl" and shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    page = open_page()
    texts = ['It\'s "fine" $(touch x) `y` \\ 🍲\nreally.', "<b>no</b>"]
    fill(page, prompt="What's it?", responses=texts)
    score(page)
    page.get_by_role("button", name=f"Copy as {language}").click()
    expect(page.locator("#notice")).to_have_text(f"{language} copied.")
    code = page.evaluate("navigator.clipboard.readText()")
    runner = [sys.executable, "-c"] if language == "Python" else ["sh", "-c"]
    said = subprocess.run([*runner, code], capture_output=True, text=True, check=True).stdout
    for reward in rewards(page):
        assert str(reward) in said


def test_a_key_is_asked_for_and_stays_in_the_page(open_page: Open, seen: Seen):
    with open_doors(api_key=("opens-it",)) as locked:
        page = open_page(at=locked)
        expect(page.locator("#serving")).to_contain_text("No key was sent")
        expect(page.get_by_label("API key")).to_be_visible()
        page.get_by_label("API key").fill("opens-it")
        page.get_by_label("API key").press("Tab")
        expect(page.locator("#serving")).to_have_text("Serves stub.")
        score(page)
        for language in ("curl", "Python"):
            page.get_by_role("button", name=f"Copy as {language}").click()
            expect(page.locator("#notice")).to_have_text(f"{language} copied.")
            copied = page.evaluate("navigator.clipboard.readText()")
            assert "TUREEN_API_KEY" in copied
            assert "opens-it" not in copied
        assert not any("opens-it" in address for address in seen.addresses)
        page.close()
    assert [one for one in seen.complaints if "401" not in one] == []
    seen.complaints.clear()


def test_live_figures_follow_the_metrics(open_page: Open, doors: OpenDoors):
    page = open_page()
    score(page)
    page.get_by_role("button", name="Score", exact=True).click()

    def total() -> int:
        text = httpx2.get(f"{doors.url}/metrics").text
        [found] = re.findall(r"^tureen_reward_count\{.*\} (\S+)$", text, re.MULTILINE)
        return int(float(found))

    caption = page.locator("#distribution figcaption")
    expect(caption).to_contain_text(f"Rewards since the start: {total()}, most between")
    expect(page.locator("#throughput figcaption")).to_contain_text("rewards/s")
    expect(page.locator("#queue figcaption")).to_have_text(
        "Queue: 0 windows wait, 0 responses in flight"
    )
    heights = [float(one.get_attribute("height") or "") for one in page.locator("rect.bar").all()]
    assert len(heights) == 20  # 19 bounds and what lies beyond
    assert max(heights) > 0
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_a_server_that_still_loads_is_asked_again(open_page: Open, browser, doors, seen: Seen):
    page = browser.new_context(base_url=doors.url).new_page()
    times = iter([True])
    refusal = {"code": "overloaded", "message": "It is being loaded.", "retryable": True}

    def answer(route: Any) -> None:
        if next(times, False):
            route.fulfill(status=503, json={"error": {**refusal, "retry_after_s": 0.2}})
        else:
            route.continue_()

    page.route("**/v1/models", answer)
    page.goto("/")
    expect(page.locator("#serving")).to_have_text("It is being loaded.")
    expect(page.locator("#serving")).to_have_text("Serves stub.")
    page.context.close()
