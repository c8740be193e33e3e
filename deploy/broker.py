"""A mosquitto configuration for one store: who may speak to whom, and nothing lost silently."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.identifiers import DeviceId, StoreId
from edge_agent.contracts.topics import ROOT, DeviceTopics
from edge_agent.contracts.validation import explain

CONFIG = "mosquitto.conf"
ACCESS = "access.acl"
RECORDER, OPERATOR = "svc-recorder", "svc-operator"


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerPlan:
    """What a configuration says; paths of certificates are those on the broker's machine."""

    store: str
    port: int
    loopback: bool = False
    ca: str = "ca.pem"
    certificate: str = "broker.pem"
    key: str = "broker.key"
    consumers: tuple[str, ...] = ()
    home_assistants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            if not self.loopback:
                TypeAdapter(StoreId).validate_python(self.store)
            TypeAdapter(tuple[DeviceId, ...]).validate_python(self.consumers + self.home_assistants)
        except ValidationError as exc:
            raise UsageError(
                f"Expected: names of letters, digits, '.', '_' and '-'. Received: {explain(exc)}."
            ) from exc


def write_broker(out: Path, plan: BrokerPlan) -> list[Path]:
    """Write `mosquitto.conf` and, with certificates, the access list.

    Args:
        out: New or empty folder; the broker keeps its own state in it, too.
        plan: What to write.

    Returns:
        The files, the configuration first.

    Raises:
        DataError: The folder holds something, or cannot be written.
    """
    folder = out.resolve()
    texts = {CONFIG: configuration(plan, folder)}
    if not plan.loopback:
        texts[ACCESS] = access_list(plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError(f"Expected: --out as a new or empty folder. Received: {out}, which is not empty.")
        (folder / "data").mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
            # mosquitto refuses an access list that others may read, and soon any that it does not own.
            os.chmod(folder / name, 0o600)  # noqa: PTH101 - one call either way
    except OSError as exc:
        raise DataError(f"Expected: a place that can be written. Received: {out}: {exc.strerror}.") from exc
    return [folder / name for name in texts]


def configuration(plan: BrokerPlan, folder: Path) -> str:
    """Return `mosquitto.conf`."""
    lines = [
        "# A store's broker: written by `shelfkit deploy broker`.",
        f"listener {plan.port} {'127.0.0.1' if plan.loopback else ''}".rstrip(),
        "persistence true",
        f"persistence_location {folder / 'data'}/",
        "# Every change at once: what is retained must outlive a power cut.",
        "autosave_interval 1",
        "autosave_on_changes true",
        "# The default of 1000 drops silently what a subscriber that is away should have had.",
        "max_queued_messages 0",
        "# Small packets as they come: an acknowledgement behind another would wait for 40 ms.",
        "set_tcp_nodelay true",
        "max_inflight_messages 20",
        "# A planogram with its picture is the largest thing that is said here.",
        "max_packet_size 8388608",
        "persistent_client_expiration 14d",
        "log_dest stderr",
    ]
    if plan.loopback:
        return "\n".join(
            [*lines, "# One machine alone: nobody else can reach it.", "allow_anonymous true", ""]
        )
    return "\n".join(
        [
            *lines,
            "allow_anonymous false",
            f"cafile {folder / plan.ca}",
            f"certfile {folder / plan.certificate}",
            f"keyfile {folder / plan.key}",
            "require_certificate true",
            "# The common name of a certificate is the name that the access list speaks of.",
            "use_identity_as_username true",
            "# And nobody takes over the session of another.",
            "use_username_as_clientid true",
            f"acl_file {folder / ACCESS}",
            "",
        ]
    )


def access_list(plan: BrokerPlan) -> str:
    """Return the access list of the contract; `%u` is the common name of a device's certificate."""
    own = DeviceTopics(plan.store, "%u")
    every = DeviceTopics("+", "+")
    lines = ["# A device: below its own name, in its own store, and nowhere else."]
    lines += [
        f"pattern write {topic}"
        for topic in (
            own.event("+"),
            own.state,
            own.health,
            own.reply("+"),
            own.reported,
            own.certificate_request,
            "homeassistant/device/%u/config",
        )
    ]
    lines += [
        f"pattern read {topic}"
        for topic in (own.ack, own.command("+"), own.desired, own.certificate_response)
    ]
    lines += ["", f"user {RECORDER}", f"topic read {ROOT}/#", f"topic write {every.ack}"]
    lines += ["", f"user {OPERATOR}", f"topic read {ROOT}/#"]
    lines += [f"topic write {topic}" for topic in (every.command("+"), every.desired)]
    for name in plan.consumers + plan.home_assistants:
        lines += ["", f"user {name}"]
        lines += [f"topic read {topic}" for topic in (every.event("#"), every.state, every.health)]
        if name in plan.home_assistants:
            # Where it finds devices, and where it says that it has started itself.
            lines += ["topic read homeassistant/#", "topic write homeassistant/status"]
    return "\n".join([*lines, ""])
