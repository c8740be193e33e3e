"""What devices say and what they are told, over the brokers of their stores.

Nothing is remembered here: a broker retains all of it, and tells it again to whoever comes back.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from queue import Empty

from deploy.broker import OPERATOR
from deploy.rollout.model import NOTHING, View
from edge_agent.contracts import messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import DataError, ServiceError
from edge_agent.contracts.messages import Availability, Desired, Health, Reported
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.mqtt import Disconnected, Link, Notice, Publication, Received, Refused, Subscribed

log = logging.getLogger(__name__)

_EVERY = DeviceTopics("+", "+")
_LEAVES = ("health", "reported", "desired")
_QUIET_S, _LONGEST_S = 0.7, 15.0
_ABSENT_S = 10.0
"""A broker that has not answered by then is away; shorter than anybody waits for `ready`."""
PATIENCE_S = 20.0
_AGAIN_S = 5.0
_AT_ONCE = 2000
_SESSION_S = 0


class _Store:
    """One broker.

    Args:
        link: To it.
        now: When it was first asked, in seconds that only rise.
    """

    def __init__(self, link: Link, now: float) -> None:
        self.link = link
        self.began = now
        self.since: float | None = None
        self.last = 0.0
        self.ready = False
        self.trouble = ""
        self.views: dict[tuple[str, str], View] = {}

    def ready_at(self, now: float) -> bool:
        """Tell whether everything that it retains has come: it marks no end of it."""
        if self.since is not None and not self.ready:
            self.ready = now - self.last >= _QUIET_S or now - self.since >= _LONGEST_S
        return self.ready

    def away_at(self, now: float) -> bool:
        """Tell whether it is waited for no more."""
        return self.since is None and now - self.began >= _ABSENT_S

    def changed(self, notice: Notice, now: float) -> None:
        """Take in that it came or went."""
        if isinstance(notice, Subscribed):
            self.since = self.last = now
        elif isinstance(notice, Disconnected | Refused):
            self.since, self.ready, self.trouble = None, False, notice.reason

    def heard(self, notice: Received, now: float) -> None:
        """Take in what it retains and what devices say."""
        if notice.retain:
            self.last = now
        place = parse(notice.topic)
        if place is None or place[1] not in _LEAVES:
            return
        topics, leaf = place
        device = (topics.store, topics.device)
        try:
            self.views[device] = seen(self.views.get(device, NOTHING), leaf, notice.payload)
        except DataError as exc:
            log.warning("%s: left out: %s", notice.topic, exc)


class Brokers:
    """The brokers of all devices that somebody asks for.

    Args:
        connect: Gives a link to a broker.
        clock: Seconds that only rise.
    """

    def __init__(
        self, connect: Callable[[Address], Link], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._connect = connect
        self._stores: dict[Address, _Store] = {}
        self._devices: dict[str, tuple[str, _Store]] = {}
        self._sent: dict[str, tuple[Desired | None, float]] = {}
        self.messages = 0
        self.bytes = 0

    def reach(self, devices: Mapping[str, tuple[str, Address]]) -> None:
        """Take devices in; brokers of theirs that are new are connected to.

        Args:
            devices: Store and address of each.
        """
        for device, (store, address) in devices.items():
            if address not in self._stores:
                self._stores[address] = _Store(self._connect(address), self.clock())
            self._devices[device] = (store, self._stores[address])

    def ready(self, devices: Iterable[str] | None = None) -> bool:
        """Tell whether devices can be judged: their brokers have told what they retain.

        One that stays away is not waited for for ever: its devices are away.
        """
        now = self.clock()
        if devices is None:
            stores = set(self._stores.values())
        else:
            stores = {self._devices[device][1] for device in devices}
        states = [store.ready_at(now) for store in stores]
        return all(states) or (any(states) and all(store.ready or store.away_at(now) for store in stores))

    @property
    def trouble(self) -> dict[str, str]:
        """Brokers that are away, and why; one that is only asked is not away yet."""
        now = self.clock()
        return {
            str(address): store.trouble or "no answer"
            for address, store in self._stores.items()
            if store.since is None and (store.trouble or store.away_at(now))
        }

    def views(self, left_out: frozenset[str]) -> dict[str, View]:
        """Return what is known of each device; those behind a broker that is away are away."""
        found = {}
        for device, (name, store) in self._devices.items():
            view = store.views.get((name, device), NOTHING)
            if not store.ready:
                view = replace(view, online=False, silent=False)
            found[device] = replace(view, left_out=True) if device in left_out else view
        return found

    def take(self, patience_s: float) -> None:
        """Take in what comes, or wait a moment for something to come."""
        end = self.clock() + patience_s
        while not self._drained() and self.clock() < end:
            time.sleep(0.02)

    def _drained(self) -> bool:
        """Take in what is there; return whether anything was."""
        busy = False
        for store in self._stores.values():
            for _ in range(_AT_ONCE):
                try:
                    notice = store.link.notices.get_nowait()
                except Empty:
                    break
                busy = True
                store.changed(notice, self.clock())
                if isinstance(notice, Received):
                    self.messages += 1
                    self.bytes += len(notice.topic) + len(notice.payload)
                    store.heard(notice, self.clock())
                    store.link.acknowledge(notice.handle)
        return busy

    def tell(self, wanted: Mapping[str, Desired], rollouts: Collection[str]) -> set[str]:
        """Tell devices what differs from what they are told.

        Args:
            wanted: By device.
            rollouts: Who say so.

        Returns:
            Devices of which it is not known that they are told.
        """
        now = self.clock()
        open_ = to_tell(self._devices, wanted, self.views(frozenset()), rollouts)
        self._sent = {device: sent for device, sent in self._sent.items() if device in open_}
        for device, wish in open_.items():
            name, store = self._devices[device]
            before = self._sent.get(device)
            if before is not None and before[0] == wish and now - before[1] < _AGAIN_S:
                continue
            payload = b"" if wish is None else messages.encode(wish)
            publication = Publication(DeviceTopics(name, device).desired, payload, retain=True)
            if store.ready and store.link.publish(publication) is not None:
                self._sent[device] = (wish, now)
                self.messages += 1
                self.bytes += len(publication.topic) + len(payload)
        return open_.keys() | {device for device, (_, store) in self._devices.items() if not store.ready}


def to_tell(
    devices: Iterable[str],
    wanted: Mapping[str, Desired],
    views: Mapping[str, View],
    rollouts: Collection[str],
) -> dict[str, Desired | None]:
    """Return what devices are to be told that they are not told yet; None takes back.

    What another rollout has said is replaced where these have something to say, and else left alone.
    """
    found: dict[str, Desired | None] = {}
    for device in devices:
        wish, told = wanted.get(device), views.get(device, NOTHING).desired
        if told != wish and (wish is not None or told is None or told.rollout in rollouts):
            found[device] = wish
    return found


def seen(view: View, leaf: str, payload: bytes) -> View:
    """Return what is known of a device after one more message.

    Raises:
        DataError: It is none of the contract.
    """
    if leaf == "desired":
        return replace(view, desired=messages.decode(Desired, payload) if payload else None)
    if leaf == "reported":
        return replace(view, reported=messages.decode(Reported, payload) if payload else None)
    status = messages.decode(Health, payload).status if payload else None
    return replace(view, online=status == Availability.ONLINE, silent=status == Availability.OFFLINE)


@contextmanager
def connected(
    devices: Mapping[str, tuple[str, Address]] | None = None, operator: str = OPERATOR
) -> Iterator[Brokers]:
    """Be connected to the brokers of devices: of these, and of those that are taken in later.

    Args:
        devices: Store and address of each.
        operator: As whom.
    """
    topics = tuple(getattr(_EVERY, leaf) for leaf in _LEAVES)
    with ExitStack() as stack:

        def connect(address: Address) -> Link:
            return stack.enter_context(
                Link(
                    address,
                    client_id=operator,
                    subscriptions=topics,
                    session_expiry_s=_SESSION_S,
                    # The broker waits for us: ten thousand retained messages must not be dropped.
                    manual_ack=True,
                )
            )

        brokers = Brokers(connect)
        brokers.reach(devices or {})
        yield brokers


def wait_ready(brokers: Brokers) -> None:
    """Wait until a broker has told what it retains.

    Raises:
        ServiceError: None did.
    """
    end = brokers.clock() + PATIENCE_S
    while not brokers.ready():
        brokers.take(0.1)
        if brokers.clock() >= end:
            why = "; ".join(f"{name}: {text}" for name, text in brokers.trouble.items())
            raise ServiceError(
                f"Expected: a broker that lets the operator in. Received: {why or 'no answer'}.",
                hint="name it with --broker HOST:PORT; the operator's certificate is in the fleet's folder",
            )
