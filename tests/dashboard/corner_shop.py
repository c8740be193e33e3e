"""A whole shop for its pages: a camera before a shelf, a real agent, broker and recorder, and who is told."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from itertools import count, cycle
from pathlib import Path

import cv2
import httpx
import numpy as np

from dashboard.accounts.identity import Role
from dashboard.accounts.records import Accounts, StoreSetting
from dashboard.accounts.tables import beside
from edge_agent.camera.shelf.files import write_scene
from edge_agent.camera.shelf.layout import facings, places
from edge_agent.camera.shelf.products import CATALOGUE
from edge_agent.camera.shelf.scene import Copy, shelf
from edge_agent.contracts.pictures import jpeg
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Delivered
from tests.brokers import Mosquitto, subscribed, wait_for
from tests.conftest import write_device
from tests.dashboard.alerts.ears import Hook, Loopback, until
from tests.dashboard.alerts.files import KEY
from tests.dashboard.pages import Dashboard, enter, health, hidden, publish, snapshot, told
from tests.edge_agent.agents import Running, running

TITLE, ZONE = "Bahnhofstrasse", "Europe/Zurich"
STORE = "/stores/0417"
DEVICE = f"{STORE}/devices/cam-12-01"
_QUALITY = 92
_NOISES = 8
_WEEKS_S = 28 * 86_400.0


class Lens(Loopback):
    """A network camera before the rendered shelf, and the hands that take and put things there."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)
        self._full = {slot: Copy.picked(place.product, self._rng) for slot, place in places().items()}
        self.put({})
        lens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = next(lens._pictures)
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        super().__init__(Handler)
        self.url = f"{self.origin}/shelf.jpg"

    def put(self, changes: Mapping[str, str | None]) -> None:
        """Show the full shelf but for some slots: what lies there instead, None for nothing."""
        other = {slot: Copy.picked(label, self._rng) if label else None for slot, label in changes.items()}
        picture = shelf({**self._full, **other})
        # No two frames of a camera are alike.
        noises = [self._rng.integers(0, 6, picture.shape, np.uint8) for _ in range(_NOISES)]
        self._pictures = cycle(
            [jpeg(np.asarray(cv2.add(picture, noise), np.uint8), _QUALITY) for noise in noises]
        )


@dataclass(frozen=True)
class CornerShop:
    """What runs.

    Attributes:
        dashboard: The recorder with its pages; one account of each role, called like it.
        lens: What the agent sees.
        agent: The agent.
        hook: Who is told of alerts.
    """

    dashboard: Dashboard
    lens: Lens
    agent: Running
    hook: Hook

    @property
    def address(self) -> str:
        """Of the pages."""
        return self.dashboard.address

    def told(self, about: str, ending: str) -> None:
        """Wait until the hook was told of something."""
        until(
            lambda: any(
                about.encode() in asked.body and asked.headers["webhook-id"].endswith(ending)
                for asked in self.hook.asked
            ),
            60,
        )

    @contextmanager
    def entered(self, role: Role) -> Iterator[httpx.Client]:
        """Give somebody of a role who is logged in."""
        with httpx.Client(base_url=self.address, headers={"Accept": "text/html"}, timeout=30) as client:
            assert enter(client, role.value).status_code == 303
            yield client


@contextmanager
def corner_shop(broker: Mosquitto, folder: Path, bundle: Path) -> Iterator[CornerShop]:
    """Open a shop in which something has happened: see `_day`."""
    write_scene(folder, seed=7)
    with ExitStack() as stack:
        hook, lens = stack.enter_context(Hook()), stack.enter_context(Lens())
        options = ("--operator", broker.url, "--alerts", str(_rules(folder, hook)))
        pages = Dashboard(broker, folder / "shop", *options)
        pages.people()
        accounts = Accounts(beside(pages.database))
        accounts.settings.set("0417", StoreSetting(TITLE, ZONE))
        accounts.close()
        stack.enter_context(pages)
        until(lambda: httpx.get(f"{pages.address}/healthz").json()["broker"])
        _weeks_before(broker)
        _other_device(broker)
        config = write_device(
            folder,
            bundle,
            port=broker.port,
            camera=f'{{source: "{lens.url}", fps: 5}}',
            rules="{confirm_s: 0.4, clear_s: 0.4}",
            privacy="{snapshots: true}",
        )
        shop = CornerShop(pages, lens, stack.enter_context(running(broker, config)), hook)
        _day(shop)
        yield shop


def _rules(folder: Path, hook: Hook) -> Path:
    """Write down of what is told to whom, at once."""
    (folder / "webhook.key").write_text(KEY)
    path = folder / "alerts.yaml"
    path.write_text(f"""
every: 1s
settle: 1s
channels: {{till: {{webhook: {{url: "{hook.url}", key: {{file: webhook.key}}}}}}}}
rules:
  - {{name: sold-out, kind: out-of-stock, to: till}}
  - {{name: astray, kind: misplaced, to: till}}
  - {{name: cut-off, kind: device-offline, to: till}}
""")
    return path


def _weeks_before(broker: Mosquitto) -> None:
    """Say what an earlier life of the device has said: products that went and came back, for four weeks."""
    rng = np.random.default_rng(7)
    topics = DeviceTopics("0417", "cam-12-01")
    changes = [(_WEEKS_S, one.label, "restocked") for one in CATALOGUE]
    for day in range(1, 28):
        for label in rng.choice([one.label for one in CATALOGUE], 3, replace=False):
            gone = day * 86_400 + float(rng.integers(0, 40_000))
            changes += [(gone, str(label), "out-of-stock")]
            changes += [(gone - float(rng.integers(600, 9000)), str(label), "restocked")]
    numbers = count(1)
    with subscribed(broker.address, client_id="before") as link:
        for ago_s, label, kind in sorted(changes, reverse=True):
            state = {"out-of-stock": "empty", "restocked": "present"}[kind]
            product = next(one for one in CATALOGUE if one.label == label)
            about = {"label": label, "name": product.name, "gtin": product.gtin}
            places_of = [("slot-changed", slot, f"slot/{slot}") for slot in facings(label)]
            for leaf, slot, subject in [*places_of, (kind, facings(label)[0], f"product/{label}")]:
                event = told(leaf, next(numbers), ago_s, product=about, slot=slot, state=state)
                event["subject"] = f"shelf/12/{subject}"
                publish(link, topics.event(leaf), event, retain=False)
                wait_for(link, lambda notice: isinstance(notice, Delivered))


def _other_device(broker: Mosquitto) -> None:
    """Say what a second device last said before it was cut off."""
    topics = DeviceTopics("0417", "cam-13-01")
    with subscribed(broker.address, client_id="other") as link:
        publish(link, topics.state, snapshot(device="cam-13-01", shelf="13", camera={"faults": ["blocked"]}))
        publish(link, topics.health, health(status="offline"))


def _day(shop: CornerShop) -> None:
    """Let things happen: a product goes and comes back; others are out, low, and where they do not belong.

    The administrator says of two slots and of one of the device that is away that they are read wrong, takes
    care of an alert, mutes the device that is away, makes a token, and takes a picture into a draft.
    """
    shop.agent.state(lambda seen: all(slot.get("state") == "present" for slot in seen["slots"].values()))
    shop.lens.put(dict.fromkeys(facings("jam-jar")))
    shop.told("jam-jar", ".opened")
    shop.lens.put({})
    shop.told("jam-jar", ".resolved")
    gone = [*facings("cola-can"), *facings("water-bottle")[1:]]
    shop.lens.put({**dict.fromkeys(gone), "B6": "jam-jar"})
    for what in ("cola-can", "astray", "cut-off"):
        shop.told(what, ".opened")
    shop.agent.ask_until("snapshot", sorry=("recent pictures",))
    with shop.entered(Role.ADMIN) as admin:
        csrf = {"csrf": hidden(admin.get("/account"))}
        wrong = [f"{DEVICE}/slots/B6", f"{DEVICE}/slots/B1", f"{STORE}/devices/cam-13-01/slots/A3"]
        forms: list[tuple[str, dict[str, str]]] = [(f"{path}/wrong", {}) for path in wrong]
        forms.append(("/alerts/mute", {"device": "cam-13-01", "hours": "8"}))
        forms.append(("/admin/accounts", {"do": "token-make", "name": "till"}))
        taken = admin.get("/alerts").text.split('name="alert" value="')[1].split('"')[0]
        forms.append(("/alerts/take", {"alert": taken}))
        for path, fields in forms:
            assert admin.post(path, data={**fields, **csrf}).status_code in {200, 303}, path
        send = {"X-CSRF-Token": csrf["csrf"]}
        assert admin.post(f"{DEVICE}/planogram/snapshot?revision=0", json={}, headers=send).status_code == 200
