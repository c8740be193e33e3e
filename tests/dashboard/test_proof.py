"""Every page in a real browser, fed by a real agent through a real broker: each role, width and language.

The own origin, the policy and the console are watched by `Opener`; that a page recovers by itself from a
server that was killed is shown in `test_page`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from starlette.routing import Route

from dashboard.accounts.identity import Role
from dashboard.alerts.rules import read
from edge_agent.camera.shelf.products import CATALOGUE
from tests.brokers import Mosquitto
from tests.conftest import find_program
from tests.dashboard import looks
from tests.dashboard.conftest import Opener
from tests.dashboard.corner_shop import DEVICE, STORE, TITLE, ZONE, CornerShop, corner_shop
from tests.dashboard.pages import PASSWORD, log_in
from tests.dashboard.test_accounts import House

NAMES = (TITLE, ZONE, "shelfkit", "planogram.yaml", "reference.jpg")
VALUES = {"store": "0417", "device": "cam-12-01"}
Act = Callable[[Page], None]


def unfold(page: Page) -> None:
    """Open everything that can be opened."""
    for summary in page.locator("main details > summary").all():
        summary.click()


def settings_open(page: Page) -> None:
    page.locator("details.menu > summary").click()


def row_picked(page: Page) -> None:
    page.locator("#canvas .place").first.focus()
    page.keyboard.press("a")
    expect(page.locator("#slot-title")).to_contain_text("8")


def grid_open(page: Page) -> None:
    page.locator("#grid-open").click()
    expect(page.locator("#canvas .cell")).not_to_have_count(0)


@dataclass(frozen=True)
class Row:
    """A page.

    Attributes:
        route: As the application has it.
        least: The least that may see it; None is everybody.
        ready: What is there once it is drawn.
        name: What `{name}` of the route is.
        acts: What is done there, one after the other; it is looked at after each.
        status: What is answered.
    """

    route: str
    least: Role | None
    ready: str
    name: str = ""
    acts: tuple[Act, ...] = ()
    status: int = field(default=200)

    @property
    def path(self) -> str:
        """Where it is in the shop."""
        values = VALUES | {"name": quote(self.name)}
        return re.sub(r"{(\w+)}", lambda place: values[place[1]], self.route)

    def is_for(self, role: Role | None) -> bool:
        """Whether a role may see it."""
        return self.least is None or (role is not None and role.includes(self.least))


SLOT = "/stores/{store}/devices/{device}/slots/{name}"
EDITOR = "/stores/{store}/devices/{device}/planogram"
PAGES = (
    Row("/", Role.VIEWER, ".cards .pill", acts=(settings_open,)),
    Row("/stores/{store}", Role.VIEWER, "#tasks li:nth-child(3)", acts=(unfold,)),
    Row("/stores/{store}/settings", Role.STAFF, "#zone"),
    Row("/stores/{store}/availability", Role.VIEWER, "#products tbody tr"),
    Row("/stores/{store}/products/{name}", Role.VIEWER, ".bars .out", "cola-can"),
    Row(SLOT, Role.VIEWER, ".bars .misplaced", "B6"),
    Row(EDITOR, Role.ADMIN, "#canvas image", acts=(row_picked, grid_open, unfold)),
    Row("/labels", Role.STAFF, "#choices button"),
    Row("/fleet", Role.VIEWER, "#devices tbody tr:nth-child(2)"),
    Row("/alerts", Role.VIEWER, ".alerts > li:nth-child(3)"),
    Row("/alerts/log", Role.VIEWER, "#log tbody tr:nth-child(4)"),
    Row("/login", None, "#password"),
    Row("/account", Role.VIEWER, "#new"),
    Row("/admin/accounts", Role.ADMIN, "tbody tr:nth-child(3)"),
    Row("/admin/audit", Role.ADMIN, "tbody tr:nth-child(5)"),
)
LOST = Row("/nowhere", Role.VIEWER, "h1", status=404)
NO_PAGES = {
    "/healthz",
    "/labels/items",
    "/labels/labelled.zip",
    "/labels/pictures/{name}",
    "/language/{code}",
    "/metrics",
    "/static/{version}/{name}",
    "/stores/{store}/availability.csv",
    "/stores/{store}/live",
    "/stores/{store}/products/{name}/history.csv",
    "/stores/{store}/products/{name}/history.json",
    "/theme/{name}",
    f"{EDITOR}/planogram.yaml",
    f"{EDITOR}/reference.jpg",
    f"{SLOT}/history.csv",
    f"{SLOT}/history.json",
}


def test_every_page_has_its_row(tmp_path: Path) -> None:
    """Also one that somebody adds later."""
    house = House(tmp_path)
    found = [
        item.path for item in house.app.routes if isinstance(item, Route) and "GET" in (item.methods or ())
    ]
    house.accounts.close()
    house.store.close()
    assert sorted(found) == sorted([*NO_PAGES, *(row.route for row in PAGES)])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Iterator[CornerShop]:
    """One shop for all of these tests: what they do there, they take back."""
    folder = tmp_path_factory.mktemp("corner-shop")
    with (
        Mosquitto(find_program("mosquitto"), folder / "mosquitto") as broker,
        corner_shop(broker, folder, bundle_folder) as opened_shop,
    ):
        yield opened_shop


@pytest.fixture(scope="module")
def names(shop: CornerShop) -> set[str]:
    """What the shop's devices and people have named, whatever the language of the page."""
    rules = read(shop.agent.config.parent / "alerts.yaml").require().rules
    goods = {text for one in CATALOGUE for text in (one.label, one.name)}
    return goods | {rule.name for rule in rules} | {*Role, *NAMES}


def looked_at(page: Page, row: Row, names: set[str]) -> Iterator[str]:
    """Yield what is wrong with a page, as it comes and after each thing that is done there."""
    code = page.locator("html").get_attribute("lang")
    expect(page.locator("h1")).to_have_count(1)
    for act in (None, *row.acts):
        if act is not None:
            act(page)
        found = [*looks.violations(page), *looks.cut_off(page)]
        if code == "zh":
            found += [f"not translated: {text}" for text in looks.untranslated(page, code, names)]
        yield from (f"{row.path} {act.__name__ if act else ''}: {text}" for text in found)


ROLES = (None, *Role)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.timeout(600)
@pytest.mark.parametrize("code", ["en", "zh"])
@pytest.mark.parametrize("phone", [True, False], ids=["phone", "desk"])
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value if role else "nobody")
def test_a_role_sees_its_pages_whole_and_in_its_language(
    shop: CornerShop, names: set[str], opened: Opener, role: Role | None, phone: bool, code: str
) -> None:
    scheme = "dark" if phone == (code == "en") else "light"
    page = opened(f"{shop.address}/login", phone=phone, language=code, color_scheme=scheme)
    if role:
        log_in(page, role)
    wrong: list[str] = []
    for row in PAGES:
        if not row.is_for(role):
            assert refused(page, shop.address + row.path) == (403 if role else "/login"), row.path
            continue
        answer = page.goto(shop.address + row.path)
        assert answer is not None
        assert answer.status == row.status, row.path
        expect(page.locator(row.ready).first).to_be_visible()
        expect(page.locator("html")).to_have_attribute("lang", code)
        wrong += looked_at(page, row, names)
    if role:
        page.goto(shop.address + LOST.path)
        wrong += looked_at(page, LOST, names)
        assert all("404" in text for text in opened.errors), opened.errors
        opened.errors.clear()
    assert not wrong, "\n".join(wrong)


def refused(page: Page, address: str) -> int | str:
    """Return how somebody is turned away: with which status, or to which page."""
    answer = page.request.get(address, headers={"Accept": "text/html"}, max_redirects=0)
    return answer.headers["location"].partition("?")[0] if answer.status == 303 else answer.status


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.timeout(600)
def test_tab_reaches_everything_and_one_sees_where_one_is(shop: CornerShop, opened: Opener) -> None:
    page = opened(f"{shop.address}/login")
    wrong = looks.out_of_reach(page)
    log_in(page, Role.ADMIN)
    for row in PAGES:
        page.goto(shop.address + row.path)
        expect(page.locator(row.ready).first).to_be_visible()
        for act in (None, *row.acts):
            if act is not None:
                act(page)
            wrong += [
                f"{row.path} {act.__name__ if act else ''}: {text}" for text in looks.out_of_reach(page)
            ]
    assert not wrong, "\n".join(wrong)


def tab_to(page: Page, text: str) -> None:
    """Go on with Tab until something of this name has the focus; at each stop one sees where one is."""
    for _ in range(120):
        page.keyboard.press("Tab")
        here = looks.here(page)
        if here is not None:
            assert here["wrong"] == "", here
            if text in here["name"]:
                return
    raise AssertionError(text)


def enter(page: Page, text: str, leads_to: str = "") -> None:
    tab_to(page, text)
    page.keyboard.press("Enter")
    if leads_to:
        page.wait_for_url(f"**{leads_to}")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.timeout(600)
def test_a_day_of_work_with_a_keyboard_alone(shop: CornerShop, opened: Opener) -> None:
    page = opened(f"{shop.address}/")
    page.keyboard.type(Role.ADMIN.value)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{shop.address}/")
    # What to refill; and something there is read wrong.
    enter(page, TITLE, STORE)
    expect(page.locator("#tasks li").first).to_be_visible()
    enter(page, "Put away: Nonna", f"{DEVICE}/slots/B6")
    enter(page, "This reading is wrong", f"{DEVICE}/slots/B6?wrong=picture")
    enter(page, "To the labels", "/labels")
    expect(page.locator("#item-title")).to_have_text("Picture 1 of 3")
    page.keyboard.press("1")
    expect(page.locator("#item-title")).to_have_text("Picture 2 of 3")
    enter(page, "tea-box")
    expect(page.locator("#counts")).to_contain_text("labelled: 2")
    # An alert is cared for.
    enter(page, "Alerts", "/alerts")
    cared = page.locator(".alerts .pill.good")
    expect(cared).to_have_count(1)
    enter(page, "I take care")
    expect(cared).to_have_count(2)
    # A slot is moved, two are drawn and filled, and the device uses them.
    before = shop.agent.now(lambda _: True)["planogram"]["slots"]
    enter(page, "Devices", "/fleet")
    enter(page, "Planogram", f"{DEVICE}/planogram")
    enter(page, "Slot A1")
    page.keyboard.press("Shift+ArrowUp")
    enter(page, "Grid")
    page.keyboard.type("Z")
    tab_to(page, "grid-columns")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(page.locator("#canvas .place.picked")).to_have_count(2)
    page.keyboard.press("g")
    page.keyboard.type(CATALOGUE[0].gtin)
    page.keyboard.press("Enter")
    expect(page.locator("#fine")).to_contain_text("Nothing is wrong", timeout=15_000)
    enter(page, "send")
    expect(page.locator("#said")).to_contain_text("The device uses it now", timeout=30_000)
    now = shop.agent.now(lambda seen: "Z2" in seen["planogram"]["slots"])["planogram"]["slots"]
    assert sorted(now) == sorted([*before, "Z1", "Z2"])
    assert now["A1"] == [[x, y - 10] for x, y in before["A1"]]
