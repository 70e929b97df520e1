"""axe-core, the reference of automatic accessibility checks, over a page as it stands."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(page: Page, within: str = "html") -> list[str]:
    """Each with the elements that it concerns; empty where axe finds none. within: a selector."""
    found = Axe().run(page, context=within, options=RULES).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(node["html"][:120] for node in one["nodes"][:5])
        for one in found
    ]
