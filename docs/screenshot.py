"""Take the pictures of the guides: of every page, of a shop in which a real agent watches a rendered shelf.

Usage: python docs/screenshot.py BUNDLE [PICTURE ...]
       python docs/screenshot.py demo/bundle                          every picture of a page
       python docs/screenshot.py demo/bundle fleet.webp alerts.webp   these alone
       python docs/screenshot.py run/report.html report.webp          of a report of training

BUNDLE is one of the demo's shelf: `shelfkit demo --once` makes it. mosquitto and Chromium are needed.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, StorageState, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboard.accounts.identity import Role
from tests.brokers import Mosquitto
from tests.conftest import find_program
from tests.dashboard.corner_shop import DEVICE, STORE, CornerShop, corner_shop
from tests.dashboard.pages import BROWSER, log_in

PICTURES = Path(__file__).parent / "pictures"
MOST_BYTES = 60_000
DESK, PHONE = (1280, 800), (390, 844)
_QUALITIES = (65, 50, 35)


@dataclass(frozen=True)
class Shot:
    """A picture of a page.

    Args:
        path: Of the page.
        size: Of the window, px.
        role: Who looks; None is somebody who has not logged in.
        language: Of the page.
        scheme: Light or dark.
        act: What is done there before.
    """

    path: str
    size: tuple[int, int] = DESK
    role: Role | None = Role.ADMIN
    language: str = "en"
    scheme: str = "light"
    act: Callable[[Page], None] = lambda _page: None


def pick_a_slot(page: Page) -> None:
    """Pick a slot in the editor."""
    page.locator("#canvas .place").nth(2).focus()
    page.keyboard.press("Enter")


def print_it(page: Page) -> None:
    """Show what comes out of a printer."""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")


SHOTS = {
    "home.webp": Shot("/", (1280, 420)),
    "store.webp": Shot(STORE, role=Role.STAFF),
    "store-phone.webp": Shot(STORE, PHONE, Role.STAFF, language="zh", scheme="dark"),
    "store-print.webp": Shot(STORE, (794, 560), Role.STAFF, act=print_it),
    "settings.webp": Shot(f"{STORE}/settings"),
    "availability.webp": Shot(f"{STORE}/availability?days=28", (1280, 640)),
    "availability-phone.webp": Shot(f"{STORE}/availability?days=28", PHONE, Role.VIEWER),
    "history.webp": Shot(f"{STORE}/products/cola-can?days=28", (1280, 700)),
    "slot.webp": Shot(f"{DEVICE}/slots/B6?days=28", (1280, 560), Role.STAFF),
    "planogram-editor.webp": Shot(f"{DEVICE}/planogram", act=pick_a_slot),
    "labels.webp": Shot("/labels", role=Role.STAFF),
    "fleet.webp": Shot("/fleet", (1280, 560)),
    "alerts.webp": Shot("/alerts"),
    "alert-log.webp": Shot("/alerts/log", (1280, 560)),
    "login.webp": Shot("/login", (1280, 480), role=None),
    "account.webp": Shot("/account", (1280, 480), Role.VIEWER),
    "accounts.webp": Shot("/admin/accounts"),
    "audit.webp": Shot("/admin/audit", (1280, 640)),
}


def logged_in(browser: Browser, address: str) -> dict[Role | None, StorageState]:
    """Log in once as each role; return what the browser keeps of it."""
    found: dict[Role | None, StorageState] = {}
    for role in Role:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/login")
        log_in(page, role)
        found[role] = context.storage_state()
        context.close()
    return found


def taken(browser: Browser, address: str, shot: Shot, state: StorageState | None = None) -> bytes:
    """Return a picture of a page as PNG."""
    width, height = shot.size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale=shot.language,
        color_scheme=shot.scheme,  # type: ignore[arg-type]
        storage_state=state,
    )
    page = context.new_page()
    page.goto(address + shot.path)
    page.wait_for_timeout(1500)
    shot.act(page)
    page.wait_for_timeout(500)
    data = page.screenshot()
    context.close()
    return data


def keep(data: bytes, path: Path) -> None:
    """Write a picture as WebP, small enough for a repository."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"error: Expected: a picture for {path.name}. Received: {len(data)} other bytes.")
    for quality in _QUALITIES:
        made = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(made) <= MOST_BYTES:
            path.write_bytes(made)
            sys.stdout.write(f"{path.name}: {len(made)} bytes\n")
            return
    raise SystemExit(f"error: Expected: {path.name} of at most {MOST_BYTES} bytes. Received: {len(made)}.")


def pictures_of(shop: CornerShop, browser: Browser, names: list[str]) -> None:
    """Take pictures of a shop's pages."""
    states = logged_in(browser, shop.address)
    for name in names:
        shot = SHOTS[name]
        keep(taken(browser, shop.address, shot, states.get(shot.role)), PICTURES / name)


def main(source: str, *names: str) -> None:
    """Take pictures of a shop's pages; of a report where one is named."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*BROWSER])
        if source.endswith(".html"):
            shot = Shot(Path(source).resolve().as_uri(), (1180, 980), role=None)
            keep(taken(browser, "", shot), PICTURES / names[0])
        else:
            place, program = Path(folder), find_program("mosquitto")
            with (
                Mosquitto(program, place / "mosquitto") as broker,
                corner_shop(broker, place, Path(source).resolve()) as shop,
            ):
                pictures_of(shop, browser, list(names or SHOTS))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
