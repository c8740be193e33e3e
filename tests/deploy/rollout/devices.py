"""Simulated devices on a real broker: each with a connection of its own, as the agent has one."""

import random
import threading
import time
from queue import Empty
from types import TracebackType
from typing import Self

from edge_agent.contracts import messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.messages import Availability, Desired, Health
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received, Subscribed
from tests.fleet_simulator import SimulatedDevice

_STEP_S = 0.05


class Devices:
    """Devices that are there, in one thread.

    Args:
        devices: By name.
        address: Of their broker; of each, where certificates are asked for.
    """

    def __init__(self, devices: dict[str, SimulatedDevice], address: Address | dict[str, Address]) -> None:
        self.devices = devices
        self._links = {
            name: Link(
                address if isinstance(address, Address) else address[name],
                client_id=name,
                will=self._health(name, Availability.OFFLINE),
                subscriptions=(DeviceTopics(device.store, name).desired,),
                rng=random.Random(name),
            )
            for name, device in devices.items()
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _health(self, name: str, status: Availability) -> Publication:
        topic = DeviceTopics(self.devices[name].store, name).health
        return Publication(topic, messages.encode(Health(status=status)), retain=True)

    def _run(self) -> None:
        moved = time.monotonic()
        while not self._stopping.wait(0.01):
            step = time.monotonic() - moved >= _STEP_S
            moved = time.monotonic() if step else moved
            for name, link in self._links.items():
                self._hears(name, link)
                if step:
                    self._says(name, link, self.devices[name].moves())

    def _hears(self, name: str, link: Link) -> None:
        try:
            notice = link.notices.get_nowait()
        except Empty:
            return
        if isinstance(notice, Subscribed):
            link.publish(self._health(name, Availability.ONLINE))
        if isinstance(notice, Received):
            wish = messages.decode(Desired, notice.payload) if notice.payload else None
            self._says(name, link, self.devices[name].told(wish))

    def _says(self, name: str, link: Link, said: messages.Reported | None) -> None:
        if said is not None:
            topic = DeviceTopics(self.devices[name].store, name).reported
            link.publish(Publication(topic, messages.encode(said), retain=True))

    def __enter__(self) -> Self:
        for link in self._links.values():
            link.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        for name, link in self._links.items():
            link.close(self._health(name, Availability.STOPPED))
