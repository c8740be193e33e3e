"""WCAG 2.2 AA, as far as axe-core can tell: every page, light and dark, on a phone and on a desk."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.brokers import Mosquitto, subscribed
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import PASSWORD, Dashboard, arrived, open_shop
from tests.dashboard.test_page import PLACES
from tests.test_reference import installed

AXE = "axe-core@4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page, script: str) -> list[str]:
    """Return what axe has against a page; it is run beside the page's policy, which allows no such script."""
    page.evaluate(script)
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [f"{item['id']}: {node['html'][:150]}" for item in found["violations"] for node in item["nodes"]]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
def test_axe_has_nothing_against_any_page(mosquitto: Mosquitto, tmp_path: Path, opened: Opener) -> None:
    script = (installed(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    with (
        Dashboard(mosquitto, tmp_path / "open", "--no-login") as shop,
        subscribed(mosquitto.address, client_id="device") as device,
    ):
        open_shop(device)
        arrived(shop.address, 4)
        for phone, scheme, code in ((False, "light", "en"), (True, "dark", "zh")):
            page = opened(shop.address, phone=phone, language=code, color_scheme=scheme)
            for place in PLACES:
                page.goto(shop.address + place)
                if place == "/stores/0417":
                    expect(page.locator("#tasks li")).to_have_count(6)
                    page.locator("#shelves details").first.locator("summary").click()
                page.locator("details.menu summary").click()
                found[f"{place} {scheme}"] = violations(page, script)
    with Dashboard(mosquitto, tmp_path / "shut", "--name", "other") as shut:
        page = opened(f"{shut.address}/login")
        found["/login"] = violations(page, script)
        shut.people()
        page.get_by_label("Name").fill("viewer")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{shut.address}/")
        page.goto(f"{shut.address}/account")
        found["/account"] = violations(page, script)
    opened.asked.clear()
    assert all("404" in text for text in opened.errors), "of the page that is not there"
    opened.errors.clear()
    assert {place: said for place, said in found.items() if said} == {}
