"""MQTT topics of the contract, version 1, as functions of store and device."""

from dataclasses import dataclass

ROOT = "shelfkit/v1"


@dataclass(frozen=True, slots=True)
class DeviceTopics:
    """The topics below `shelfkit/v1/{store}/{device}`; `+` in either place makes a subscription."""

    store: str
    device: str

    def _at(self, leaf: str) -> str:
        return f"{ROOT}/{self.store}/{self.device}/{leaf}"

    def event(self, kind: str) -> str:
        """Where events of one kind go; never retained."""
        return self._at(f"event/{kind}")

    @property
    def state(self) -> str:
        """Where the latest snapshot is retained."""
        return self._at("state")

    @property
    def health(self) -> str:
        """Where health is retained; also the topic of the last will."""
        return self._at("health")

    @property
    def ack(self) -> str:
        """Where the recorder of record says what it has."""
        return self._at("ack")

    def command(self, name: str) -> str:
        """Where an operator asks for something."""
        return self._at(f"cmd/{name}")

    def reply(self, name: str) -> str:
        """Where the agent answers a command."""
        return self._at(f"reply/{name}")

    @property
    def desired(self) -> str:
        """Where a rollout retains what a device is to run."""
        return self._at("desired")

    @property
    def reported(self) -> str:
        """Where a device retains how far it is with that."""
        return self._at("reported")

    def alert(self, kind: str) -> str:
        """Where the dashboard says that a device or its shelf needs somebody; never retained."""
        return self._at(f"alert/{kind}")

    @property
    def certificate_request(self) -> str:
        """Where a device asks for a new certificate."""
        return self._at("cert/request")

    @property
    def certificate_response(self) -> str:
        """Where the fleet's CA answers."""
        return self._at("cert/response")


def parse(topic: str) -> tuple[DeviceTopics, str] | None:
    """Split a topic into its device and the rest (`event/low-stock`, `state`); None for a foreign one."""
    parts = topic.split("/")
    if len(parts) < 5 or f"{parts[0]}/{parts[1]}" != ROOT:  # noqa: PLR2004 - root of two, store, device, leaf
        return None
    return DeviceTopics(parts[2], parts[3]), "/".join(parts[4:])
