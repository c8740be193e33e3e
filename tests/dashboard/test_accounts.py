"""The door: who gets in, how far, and what does not open it."""

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.routing import Route
from typer.testing import CliRunner

from dashboard.__main__ import app as command
from dashboard.accounts.gate import COOKIE, LARGEST_FORM, LOOPBACK, Access
from dashboard.accounts.identity import Role
from dashboard.accounts.people import hashed
from dashboard.accounts.records import Accounts
from dashboard.accounts.tables import beside
from dashboard.accounts.throttle import Throttle
from dashboard.pages import live, stores
from dashboard.store import Store
from dashboard.web import Hub, build_app
from edge_agent.contracts.errors import UsageError
from tests.brokers import Mosquitto, subscribed
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import PASSWORD, Dashboard, Visitor, enter, hidden, open_shop
from tests.dashboard.test_api import fill

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
PAGES = ("/", "/stores/0417", "/stores/0417/live", "/stores/0417/availability", "/fleet", "/account")


class House:
    """An application behind its door, with a clock that a test turns."""

    def __init__(self, folder: Path, **options: Any) -> None:  # noqa: ANN401 - of Access
        self.now = NOW
        self.store = Store(f"sqlite:///{folder / 'd.sqlite'}")
        fill(self.store)
        self.accounts = Accounts(f"sqlite:///{folder / 'accounts.sqlite'}")
        for role in Role:
            self.accounts.people.add(role.value, PASSWORD, role, NOW)
        self.access = Access(self.accounts, clock=lambda: self.now, **options)
        self.app = build_app(self.store, Hub(), lambda: True, self.access, files=folder / "files")

    def visitor(self, **options: Any) -> Visitor:  # noqa: ANN401 - of the client
        """Return somebody nobody knows yet."""
        return Visitor(self.app, **options)

    def member(self, name: str) -> Visitor:
        """Return somebody who logged in."""
        client = self.visitor()
        assert enter(client, name).status_code == 303
        return client

    def audited(self) -> list[tuple[str, str]]:
        """Return who did what."""
        return [(line["who"], line["what"]) for line in self.accounts.audit.page(None, 100)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.accounts.close()
    made.store.close()


def routes(app: Starlette, method: str) -> list[str]:
    return [item.path for item in app.routes if isinstance(item, Route) and method in (item.methods or ())]


def filled(path: str) -> str:
    values = {"store": "0417", "device": "cam-12-01", "name": "milk-1l", "code": "en", "version": "1"}
    return re.sub(r"{(\w+)}", lambda place: values[place[1]], path)


def test_everything_is_behind_the_door_but_what_leads_in(house: House) -> None:
    """Also a page that somebody adds later."""
    client, opened = house.visitor(), []
    for path in routes(house.app, "GET"):
        answer = client.get(filled(path))
        if answer.headers.get("location", "").startswith("/login?") or answer.status_code == 401:
            continue
        opened.append(path)
    assert sorted(opened) == [
        "/healthz",
        "/language/{code}",
        "/login",
        "/static/{version}/{name}",
        "/theme/{name}",
    ]
    answer = client.get("/api/v1/stores")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="shelfkit"')
    assert answer.json()["status"] == 401
    assert client.get("/metrics").status_code == 401
    assert client.get("/stores/0417/live", headers={"Accept": "text/event-stream"}).status_code == 401
    assert client.get("/nowhere").status_code == 303, "nobody learns which pages there are"


@pytest.mark.parametrize("role", Role)
def test_each_role_sees_its_pages_and_no_more(house: House, role: Role) -> None:
    client = house.member(role.value)
    for path in ("/", "/stores/0417", "/stores/0417/availability", "/fleet", "/account", "/api/v1/stores"):
        assert client.get(path).status_code == 200, path
    staff, admin = role.includes(Role.STAFF), role.includes(Role.ADMIN)
    assert client.get("/stores/0417/settings").status_code == (200 if staff else 403)
    csrf = hidden(client.get("/account"))
    settings = {"csrf": csrf, "title": "Bahnhofstrasse", "zone": "Europe/Zurich"}
    assert client.post("/stores/0417/settings", data=settings).status_code == (303 if staff else 403)
    for path in ("/admin/accounts", "/admin/audit"):
        assert client.get(path).status_code == (200 if admin else 403), path
    add = {"csrf": csrf, "do": "account-add", "name": "new", "password": PASSWORD, "role": "admin"}
    assert client.post("/admin/accounts", data=add).status_code == (303 if admin else 403)
    shown = client.get("/").text
    assert ("/admin/accounts" in shown) == admin
    assert ("Bahnhofstrasse" in shown) == staff


def test_a_form_of_another_site_is_refused(house: House) -> None:
    client, other = house.member("admin"), house.member("staff")
    posts = routes(house.app, "POST")
    assert len(posts) >= 5
    own = hidden(client.get("/account"))
    for path in map(filled, posts):
        for csrf in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": hidden(other.get("/account"))}):
            assert client.post(path, data=csrf).status_code == 403, path
        cross = {"Sec-Fetch-Site": "cross-site"}
        assert client.post(path, data={"csrf": own}, headers=cross).status_code == 403, path
    for method in ("PUT", "DELETE", "PATCH"):
        assert client.request(method, "/admin/accounts").status_code == 405


def test_a_session_is_made_anew_at_each_log_in_and_ends(house: House) -> None:
    client = house.visitor(cookies={COOKIE: "chosen-by-somebody-else"})
    assert enter(client, "viewer").status_code == 303
    first = client.cookies[COOKIE]
    assert first != "chosen-by-somebody-else"
    thief = house.visitor(cookies={COOKIE: "chosen-by-somebody-else"})
    assert thief.get("/").status_code == 303
    assert enter(client, "viewer").status_code == 303
    assert client.cookies[COOKIE] != first
    assert house.visitor(cookies={COOKIE: first}).get("/").status_code == 303, "the one before has ended"
    kept = client.cookies[COOKIE]
    answer = client.post("/logout", data={"csrf": hidden(client.get("/account"))})
    assert answer.headers["location"] == "/login"
    assert house.visitor(cookies={COOKIE: kept}).get("/").status_code == 303


def test_cookies_are_for_the_server_alone(house: House) -> None:
    client = house.visitor(base_url="https://kit.example")
    answer = enter(client, "viewer")
    (cookie,) = [text for text in answer.headers.get_list("set-cookie") if text.startswith(f"{COOKIE}=")]
    for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert flag in cookie
    assert answer.headers["strict-transport-security"]
    plain = enter(house.visitor(base_url="http://127.0.0.1"), "viewer")
    assert "Secure" not in plain.headers["set-cookie"]


def test_a_session_ends_by_idleness_and_by_age(house: House) -> None:
    client = house.member("viewer")
    for _ in range(15):
        house.now += timedelta(hours=11)
        assert client.get("/").status_code == 200
    house.now += timedelta(hours=11)
    assert client.get("/").status_code == 303, "seven days are over"
    client = house.member("viewer")
    house.now += timedelta(hours=13)
    assert client.get("/").status_code == 303


def test_another_role_another_password_and_no_account_hold_at_once(house: House) -> None:
    client = house.member("staff")
    house.accounts.people.set_role("staff", Role.VIEWER)
    assert client.get("/stores/0417/settings").status_code == 403
    house.accounts.people.set_password("staff", PASSWORD + "!")
    assert client.get("/").status_code == 303
    assert enter(house.visitor(), "staff").status_code == 401
    client = house.member("viewer")
    house.accounts.people.remove("viewer")
    assert client.get("/").status_code == 303


def test_an_open_page_is_told_no_more_when_its_account_is_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(live, "_IDLE_S", 0.05)
    client = house.member("viewer")
    leaving = threading.Timer(1.0, house.accounts.people.remove, ["viewer"])
    leaving.start()
    # The answer is there when the stream has ended: it would go on for ever.
    answer = client.get("/stores/0417/live")
    leaving.join()
    assert answer.status_code == 200
    assert "event: device" in answer.text
    assert client.get("/stores/0417/live").status_code == 303


def test_guessing_is_slowed_down(house: House) -> None:
    client = house.visitor()
    codes = [enter(client, "admin", f"wrong-{number}").status_code for number in range(7)]
    assert codes == [401] * 5 + [429] * 2
    assert enter(client, "admin").status_code == 429, "not even the right one, now"
    assert int(enter(client, "admin").headers["retry-after"]) <= 31
    assert enter(house.visitor(address="10.0.0.9"), "admin").status_code == 303, "its owner, elsewhere"
    house.now += timedelta(seconds=31)
    assert enter(client, "admin").status_code == 303
    assert ("admin", "login-failed") in house.audited()


def test_the_own_password_is_no_way_to_guess_it(house: House) -> None:
    """A session that somebody has got hold of must not give the password too."""
    client = house.member("staff")
    csrf = hidden(client.get("/account"))
    tries = [
        client.post("/account", data={"csrf": csrf, "old": f"wrong-{number}", "new": "another-password"})
        for number in range(7)
    ]
    assert [answer.status_code for answer in tries] == [400] * 5 + [429] * 2
    assert "Too many tries" in tries[-1].text
    assert ("staff", "login-failed") in house.audited()
    house.now += timedelta(seconds=31)
    right = {"csrf": csrf, "old": PASSWORD, "new": "another-password"}
    assert client.post("/account", data=right).status_code == 303


def test_an_administrator_helps_who_has_forgotten_the_password(house: House) -> None:
    admin, staff = house.member("admin"), house.member("staff")
    form = {"csrf": hidden(admin.get("/account")), "do": "account-password", "password": "something-else-1"}
    assert admin.post("/admin/accounts", data=form | {"name": "admin"}).status_code == 400, (
        "one's own, elsewhere"
    )
    assert (
        admin.post("/admin/accounts", data=form | {"name": "staff", "password": "short"}).status_code == 400
    )
    assert admin.post("/admin/accounts", data=form | {"name": "staff"}).status_code == 303
    assert staff.get("/fleet").status_code != 200, "whoever was in with the old one is out"
    assert enter(house.visitor(), "staff", "something-else-1").status_code == 303
    assert ("admin", "account-password") in house.audited()


@pytest.mark.slow
def test_who_knows_the_password_uses_up_no_tries_of_others(house: House) -> None:
    """A shop behind one address: everybody who comes to work logs in."""
    for _ in range(21):
        assert enter(house.visitor(), "admin").status_code == 303
    assert not house.access.throttle.wait("staff", "testclient", house.now)
    throttle = Throttle()
    for _ in range(19):
        throttle.failed("guessed", "10.0.0.1", NOW)
    throttle.failed("admin", "10.0.0.1", NOW)
    throttle.succeeded("admin", "10.0.0.1")
    throttle.failed("guessed", "10.0.0.1", NOW)
    assert throttle.wait("another", "10.0.0.1", NOW), "what others have got wrong stays"


@pytest.mark.broker
@pytest.mark.parametrize(("trusted", "secure"), [((), True), (("--trusted-proxy", "10.0.0.0/8"), False)])
def test_only_a_trusted_proxy_says_who_asks(
    mosquitto: Mosquitto, tmp_path: Path, trusted: tuple[str, ...], secure: bool
) -> None:
    with Dashboard(mosquitto, tmp_path / "shop", *trusted) as shop:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
        answer = httpx.get(shop.address + "/login", headers=headers)
    assert ("Secure" in answer.headers["set-cookie"]) is secure
    assert ("strict-transport-security" in answer.headers) is secure


def test_guessing_many_names_is_slowed_down_too() -> None:
    throttle = Throttle()
    for number in range(20):
        assert not throttle.wait(f"name-{number}", "10.0.0.1", NOW)
        throttle.failed(f"name-{number}", "10.0.0.1", NOW)
    assert throttle.wait("another", "10.0.0.1", NOW) == timedelta(seconds=30)
    assert not throttle.wait("another", "10.0.0.2", NOW)
    for number in range(30_000):
        throttle.failed("x", f"address-{number}", NOW)
    assert len(throttle._failures) <= 10_000


def test_the_answer_is_the_same_whether_or_not_there_is_such_an_account(house: House) -> None:
    texts = []
    for name in ("admin", "nobody-here"):
        answer = enter(house.visitor(), name, "wrong-password")
        texts.append(re.sub(r'value="[^"]*"', "", answer.text))
        assert answer.status_code == 401
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "evil",
        "javascript:alert(1)",
    ],
)
def test_nobody_is_led_elsewhere(house: House, place: str) -> None:
    client = house.visitor()
    page = client.get("/login", params={"next": place})
    data = {"csrf": hidden(page), "name": "viewer", "password": PASSWORD, "next": place}
    assert client.post("/login", data=data).headers["location"] == "/"
    assert client.get("/language/zh", params={"back": place}).headers["location"] == "/"


def test_bodies_that_are_too_large_or_no_forms(house: House) -> None:
    client = house.member("admin")
    csrf = hidden(client.get("/account"))
    large = b"csrf=" + csrf.encode() + b"&name=" + b"x" * LARGEST_FORM
    for path in ("/login", "/admin/accounts", "/stores/0417/settings"):
        assert client.post(path, content=large).status_code == 413
    assert client.post("/admin/accounts", content=b"a=1&" * 5000).status_code == 400
    assert client.post("/admin/accounts", content=b"\xff\xfe=%ff").status_code == 400
    assert client.post("/api/v1/stores", content=large).status_code == 405


def test_tokens_open_the_api_and_nothing_else(house: House) -> None:
    admin = house.member("admin")
    csrf = hidden(admin.get("/admin/accounts"))
    page = admin.post("/admin/accounts", data={"csrf": csrf, "do": "token-make", "name": "<b>till</b>"})
    found = re.search(r'class="secret">(skt_[^<]+)<', page.text)
    assert found is not None
    assert "<b>till" not in page.text
    bearer = {"Authorization": f"Bearer {found[1]}"}
    client = house.visitor(headers=bearer)
    assert client.get("/api/v1/stores").status_code == 200
    assert client.get("/metrics").status_code == 200
    for path in (*PAGES, "/admin/accounts"):
        assert client.get(path).status_code in {303, 401}, path
    assert house.visitor(headers={"Authorization": "Bearer skt_x"}).get("/api/v1/stores").status_code == 401
    assert "skt_" not in admin.get("/admin/accounts").text, "it is shown once"
    remove = {"csrf": csrf, "do": "token-remove", "number": "1"}
    assert admin.post("/admin/accounts", data=remove).status_code == 303
    assert client.get("/api/v1/stores").status_code == 401
    assert [what for _, what in house.audited()][:2] == ["token-remove", "token-make"]


def test_secrets_are_not_in_the_database(house: House, tmp_path: Path) -> None:
    client = house.member("admin")
    token = house.accounts.tokens.make("till", "admin", NOW)
    house.accounts.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.sqlite*"))
    for secret in (PASSWORD, client.cookies[COOKIE], token):
        assert secret.encode() not in kept
    assert hashed(token).encode() in kept
    assert b"$argon2id$" in kept


def test_what_an_administrator_may_not_do(house: House) -> None:
    client = house.member("admin")
    csrf = hidden(client.get("/admin/accounts"))
    wrong: list[dict[str, str]] = [
        {"do": "account-remove", "name": "admin"},
        {"do": "account-role", "name": "admin", "role": "viewer"},
        {"do": "account-role", "name": "staff", "role": "god"},
        {"do": "account-add", "name": "viewer", "password": PASSWORD, "role": "viewer"},
        {"do": "account-add", "name": "short", "password": "short", "role": "viewer"},
        {"do": "account-add", "name": "<script>", "password": PASSWORD, "role": "viewer"},
        {"do": "token-remove", "number": "x"},
        {"do": "token-make", "name": ""},
        {"do": "launch"},
    ]
    for fields in wrong:
        assert client.post("/admin/accounts", data={"csrf": csrf, **fields}).status_code == 400, fields
    assert [one["name"] for one in house.accounts.people.list()] == ["admin", "staff", "viewer"]


def test_ones_own_password(house: House) -> None:
    client = house.member("viewer")
    csrf = hidden(client.get("/account"))
    wrong = {"csrf": csrf, "old": "wrong", "new": "another-long-one"}
    assert client.post("/account", data=wrong).status_code == 400
    assert client.post("/account", data={"csrf": csrf, "old": PASSWORD, "new": "short"}).status_code == 400
    right = {"csrf": csrf, "old": PASSWORD, "new": "another-long-one"}
    assert client.post("/account", data=right).status_code == 303
    assert client.get("/").status_code == 303
    assert enter(house.visitor(), "viewer", "another-long-one").status_code == 303


def test_without_log_in_the_page_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    """Else a web site could have the browser of this machine ask under a name of its own."""
    house = House(tmp_path, login=False, hosts=LOOPBACK)
    for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
        assert house.visitor().get("/", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""):
        assert house.visitor().get("/", headers={"Host": host}).status_code == 421
    assert house.visitor(base_url="http://localhost").post("/admin/accounts", data={}).status_code == 403
    assert house.visitor(base_url="http://localhost").get("/login").headers["location"] == "/"
    house.accounts.close()
    house.store.close()


def test_an_account_by_the_command_line(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'kit.sqlite'}"

    def run(*arguments: str, said: str = "") -> str:
        done = CliRunner().invoke(command, ["user", *arguments, "--database", database], input=said)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    run("add", "mei", "--role", "admin", "--password-stdin", said=f"{PASSWORD}\n")
    run("add", "ben", "--password-stdin", said=f"{PASSWORD}\n")
    run("role", "ben", "staff")
    found = json.load(io.StringIO(run("list", "--json")))["accounts"]
    assert [(one["name"], one["role"]) for one in found] == [("ben", "staff"), ("mei", "admin")]
    run("passwd", "mei", "--password-stdin", said="another-long-one\n")
    run("remove", "ben")
    accounts = Accounts(beside(database))
    assert accounts.people.right("mei", "another-long-one")
    assert [line["what"] for line in accounts.audit.page(None, 9)][-1] == "account-add"
    accounts.close()
    with pytest.raises(UsageError, match="which is none"):
        run("remove", "ben")
    with pytest.raises(UsageError, match="10 to 256"):
        run("add", "eve", "--password-stdin", said="short\n")


def test_accounts_on_postgresql(postgres_url: str) -> None:
    assert beside(postgres_url) == postgres_url
    accounts = Accounts(postgres_url)
    accounts.people.add("mei", PASSWORD, Role.STAFF, NOW)
    secret = accounts.people.open_session("mei", NOW)
    found = accounts.people.session(secret, NOW + timedelta(hours=1))
    assert found is not None
    assert (found.name, found.role) == ("mei", Role.STAFF)
    assert accounts.tokens.whose(accounts.tokens.make("till", "mei", NOW), NOW) is not None
    accounts.audit.note("mei", "login", "", "", NOW)
    assert len(accounts.audit.page(None, 5)) == 1
    accounts.people.remove("mei")
    accounts.close()


@pytest.mark.browser
@pytest.mark.broker
def test_a_browser_logs_in_looks_and_is_shown_out(
    mosquitto: Mosquitto, tmp_path: Path, opened: Opener
) -> None:
    with Dashboard(mosquitto, tmp_path) as shop, subscribed(mosquitto.address, client_id="device") as device:
        page = opened(f"{shop.address}/stores/0417")
        expect(page.locator(".note")).to_contain_text("There is no account yet")
        shop.people()
        open_shop(device)
        for role, stays in (("viewer", 0), ("staff", 1), ("admin", 1)):
            page.goto(f"{shop.address}/stores/0417")
            page.get_by_label("Name").fill(role)
            page.get_by_label("Password").fill(PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_url("**/stores/0417")
            expect(page.locator("#link")).to_have_text("live")
            expect(page.get_by_role("link", name="Store settings")).to_have_count(stays)
            page.locator("summary", has_text="Settings").click()
            page.get_by_role("button", name="Log out").click()
            expect(page.locator("h1")).to_have_text("Log in")
        assert all("401" in text for text in opened.errors), "streams that were cut by the log-out"
        opened.errors.clear()
        assert httpx.get(f"{shop.address}/api/v1/events").status_code == 401


def test_the_address_of_accounts() -> None:
    names: dict[str, Callable[[str], str]] = {"sqlite:///kit.sqlite": beside, "sqlite:////var/kit.db": beside}
    assert [make(name) for name, make in names.items()] == [
        "sqlite:///kit.accounts.sqlite",
        "sqlite:////var/kit.accounts.sqlite",
    ]


def test_a_name_that_no_database_takes_is_a_wrong_name(postgres_url: str) -> None:
    accounts = Accounts(postgres_url)
    assert not accounts.people.right("admin\0", PASSWORD)
    accounts.audit.note("admin\0", "login-failed", "", "10.0.0.1", NOW)
    assert accounts.audit.page(None, 1)[0]["who"] == "admin"
    accounts.close()
