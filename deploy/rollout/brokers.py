"""What devices say and what they are told, over the brokers of their stores.

Nothing is remembered here: a broker retains all of it, and tells it again to whoever comes back.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
_QUIET_S = 0.7
_LONGEST_S = 30.0
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
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.since: float | None = None
        self.last = 0.0
        self.ready = False
        self.trouble = "no answer yet"

    def ready_at(self, now: float) -> bool:
        """Tell whether everything that it retains has come: it marks no end of it."""
        if self.since is not None and not self.ready:
            self.ready = now - self.last >= _QUIET_S or now - self.since >= _LONGEST_S
        return self.ready

    def changed(self, notice: Notice, now: float) -> None:
        """Take in that it came or went."""
        if isinstance(notice, Subscribed):
            self.since = self.last = now
        elif isinstance(notice, Disconnected | Refused):
            self.since, self.ready, self.trouble = None, False, notice.reason


class Brokers:
    """The brokers of all devices of a rollout.

    Args:
        links: By address.
        devices: Store and address of each device.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        links: Mapping[Address, Link],
        devices: Mapping[str, tuple[str, Address]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = {address: _Store(link) for address, link in links.items()}
        self._devices, self.clock = devices, clock
        self._began = clock()
        self._views: dict[str, View] = {}
        self._sent: dict[str, tuple[Desired | None, float]] = {}
        self.messages = 0
        self.bytes = 0

    @property
    def ready(self) -> bool:
        """Whether devices can be judged: their brokers have told what they retain.

        One that stays away is not waited for for ever: its devices are away.
        """
        now = self.clock()
        states = [store.ready_at(now) for store in self._stores.values()]
        return all(states) or (any(states) and now - self._began >= _ABSENT_S)

    @property
    def trouble(self) -> dict[str, str]:
        """Brokers that are away, and why."""
        return {str(address): store.trouble for address, store in self._stores.items() if store.since is None}

    def views(self, left_out: frozenset[str]) -> dict[str, View]:
        """Return what is known of each device; those behind a broker that is away are away."""
        found = {}
        for device, (_, address) in self._devices.items():
            view = self._views.get(device, NOTHING)
            if not self._stores[address].ready:
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
                    store.last = self.clock()
                    self._take(notice)
                    store.link.acknowledge(notice.handle)
        return busy

    def _take(self, notice: Received) -> None:
        self.messages += 1
        self.bytes += len(notice.topic) + len(notice.payload)
        place = parse(notice.topic)
        if place is None or place[1] not in _LEAVES:
            return
        topics, leaf = place
        store, _ = self._devices.get(topics.device, ("", None))
        if store != topics.store:
            return
        try:
            self._views[topics.device] = seen(self._views.get(topics.device, NOTHING), leaf, notice.payload)
        except DataError as exc:
            log.warning("%s: left out: %s", notice.topic, exc)

    def tell(self, wanted: Mapping[str, Desired], rollout: str) -> int:
        """Tell devices what differs from what they are told; return how many have not been told yet."""
        now = self.clock()
        open_ = to_tell(self._devices, wanted, self._views, rollout)
        self._sent = {device: sent for device, sent in self._sent.items() if device in open_}
        for device, wish in open_.items():
            store, address = self._devices[device]
            before = self._sent.get(device)
            if before is not None and before[0] == wish and now - before[1] < _AGAIN_S:
                continue
            place = self._stores[address]
            payload = b"" if wish is None else messages.encode(wish)
            publication = Publication(DeviceTopics(store, device).desired, payload, retain=True)
            if place.ready and place.link.publish(publication) is not None:
                self._sent[device] = (wish, now)
                self.messages += 1
                self.bytes += len(publication.topic) + len(payload)
        return len(open_)


def to_tell(
    devices: Iterable[str], wanted: Mapping[str, Desired], views: Mapping[str, View], rollout: str
) -> dict[str, Desired | None]:
    """Return what devices are to be told that they are not told yet; None takes back.

    What another rollout has said is replaced where this one has something to say, and else left alone.
    """
    found: dict[str, Desired | None] = {}
    for device in devices:
        wish, told = wanted.get(device), views.get(device, NOTHING).desired
        if told != wish and (wish is not None or told is None or told.rollout == rollout):
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
def connected(devices: Mapping[str, tuple[str, Address]], operator: str = OPERATOR) -> Iterator[Brokers]:
    """Be connected to the brokers of devices.

    Args:
        devices: Store and address of each.
        operator: As whom.
    """
    topics = tuple(getattr(_EVERY, leaf) for leaf in _LEAVES)
    with ExitStack() as stack:
        links = {
            address: stack.enter_context(
                Link(
                    address,
                    client_id=operator,
                    subscriptions=topics,
                    session_expiry_s=_SESSION_S,
                    # The broker waits for us: ten thousand retained messages must not be dropped.
                    manual_ack=True,
                )
            )
            for address in dict.fromkeys(address for _, address in devices.values())
        }
        yield Brokers(links, devices)


def wait_ready(brokers: Brokers, patience_s: float = PATIENCE_S) -> None:
    """Wait until a broker has told what it retains.

    Raises:
        ServiceError: None did.
    """
    end = brokers.clock() + patience_s
    while not brokers.ready:
        brokers.take(0.1)
        if brokers.clock() >= end:
            why = "; ".join(f"{name}: {text}" for name, text in brokers.trouble.items())
            raise ServiceError(
                f"Expected: a broker that lets the operator in. Received: {why or 'no answer'}.",
                hint="name it with --broker HOST:PORT; the operator's certificate is in the fleet's folder",
            )
