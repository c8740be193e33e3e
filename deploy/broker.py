"""A mosquitto configuration for one store: who may speak to whom, and nothing lost silently."""

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from deploy.fleet import Fleet
from edge_agent.contracts.errors import ConfigError, DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.identifiers import DeviceId, StoreId
from edge_agent.contracts.topics import ROOT, DeviceTopics
from edge_agent.contracts.validation import explain

CONFIG = "mosquitto.conf"
ACCESS = "access.acl"
BROKER, RECORDER, OPERATOR, CA = "broker", "svc-recorder", "svc-operator", "svc-ca"
OPERATORS = {
    OPERATOR: "rollouts",
    f"{OPERATOR}-run": "deploy run",
    f"{OPERATOR}-rollback": "deploy device rollback",
    f"{OPERATOR}-page": "the live page",
}
"""Who commands devices, and for what: a broker lets one of a name in at a time; these work side by side."""
ALERTS = "svc-alerts"
PLAN = "plan.json"
REVOKED = "crl.pem"


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerPlan:
    """What a configuration says; paths of certificates are those on the broker's machine.

    Attributes:
        recorders: Names besides the usual one, where several share the devices.
        revoked: The list of certificates that were taken back; None: there is none.
        operators: Who may command devices, besides those that every fleet has.
    """

    store: str
    port: int
    loopback: bool = False
    ca: str = "ca.pem"
    certificate: str = "broker.pem"
    key: str = "broker.key"
    revoked: str | None = None
    recorders: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    home_assistants: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """Who else comes in, beside those that each broker knows: each needs a certificate of this name."""
        return self.recorders + self.consumers + self.home_assistants + self.operators

    def __post_init__(self) -> None:
        try:
            if not self.loopback:
                TypeAdapter(StoreId).validate_python(self.store)
            TypeAdapter(tuple[DeviceId, ...]).validate_python(self.named)
        except ValidationError as exc:
            raise UsageError(
                f"Expected: names of letters, digits, '.', '_' and '-'. Received: {explain(exc)}."
            ) from exc


def write_broker(
    out: Path, plan: BrokerPlan, fleet: Fleet | None = None, *, at: Path | None = None
) -> list[Path]:
    """Write `mosquitto.conf` and, with certificates, the access list.

    Args:
        out: New or empty folder; the broker keeps its own state in it, too.
        plan: What to write.
        fleet: Whose certificates are copied beside it.
        at: Where the folder will lie on the broker's machine, if it is not here.

    Returns:
        The files, the configuration first.

    Raises:
        ConfigError: The fleet lacks a certificate, or somebody named has none.
        DataError: The folder holds something, or cannot be written.
    """
    folder = out.resolve()
    contents = {CONFIG: b"", **_contents(plan, fleet)}
    if fleet is not None:
        plan = replace(plan, revoked=REVOKED)
    contents[CONFIG] = configuration(plan, at or folder).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError(
                f"Expected: --out as a new or empty folder. Received: {out}, which is not empty.",
                hint="--update brings certificates and the access list in it up to date",
            )
        (folder / "data").mkdir()
        return _written(folder, contents)
    except OSError as exc:
        raise DataError(f"Expected: a place that can be written. Received: {out}: {exc.strerror}.") from exc


def update_broker(
    out: Path,
    fleet: Fleet | None,
    *,
    recorders: Iterable[str] = (),
    consumers: Iterable[str] = (),
    home_assistants: Iterable[str] = (),
    operators: Iterable[str] = (),
) -> list[Path]:
    """Bring what a broker reads up to date: certificates, what was revoked, the access list.

    `mosquitto.conf` stays as it is: people add to it.

    Args:
        out: What `write_broker` wrote before.
        fleet: Whose certificates it has.
        recorders: That there are from now on, besides those before.
        consumers: The same.
        home_assistants: The same.
        operators: The same.

    Returns:
        The files that were written.

    Raises:
        ConfigError: The folder is none, the fleet lacks a certificate, or somebody named has none.
        DataError: It cannot be written.
    """
    folder = out.resolve()
    try:
        plan = BrokerPlan(**_plan(json.loads((folder / PLAN).read_text(encoding="utf-8"))))
        text = (folder / CONFIG).read_text(encoding="utf-8")
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError(
            f"Expected: the folder of a broker with certificates. Received: {out}: {exc}.",
            hint="write it anew: shelfkit deploy broker --store STORE --out FOLDER",
        ) from exc
    if fleet is None and (folder / REVOKED).exists():
        raise ConfigError(
            f"Expected: the fleet that {folder / REVOKED} is of. Received: none, so the list would stay old.",
            hint="name its folder: --fleet FOLDER",
        )
    if fleet is not None and f"crlfile {folder / REVOKED}" not in text.splitlines():
        raise ConfigError(
            f"Expected: `crlfile {folder / REVOKED}` in {folder / CONFIG}. Received: none.",
            hint="add the line; without it the broker lets in who was revoked",
        )
    plan = replace(
        plan,
        recorders=_united(plan.recorders, recorders),
        consumers=_united(plan.consumers, consumers),
        home_assistants=_united(plan.home_assistants, home_assistants),
        operators=_united(plan.operators, operators),
    )
    try:
        return _written(folder, _contents(plan, fleet))
    except OSError as exc:
        raise DataError(f"Expected: a place that can be written. Received: {out}: {exc.strerror}.") from exc


def update_words(fleet: Fleet) -> str:
    """Return the command that brings what was revoked to a broker."""
    return f"shelfkit deploy broker --update --fleet {shlex.quote(str(fleet.folder))} --out FOLDER"


def _plan(kept: Mapping[str, object]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}


def _united(before: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *more)))


def _written(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    for name, content in contents.items():
        with written_beside(folder / name) as staged:
            # mosquitto refuses an access list that others may read, and soon any that it does not own.
            staged.touch(0o600)
            staged.write_bytes(content)
            _give(staged, folder / name)
    return [folder / name for name in contents]


def _give(staged: Path, target: Path) -> None:
    """Give a file to the user that the broker runs as: whoever has the one before, or the folder."""
    made, wanted = staged.stat(), (target if target.exists() else target.parent).stat()
    if (made.st_uid, made.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.chown(staged, wanted.st_uid, wanted.st_gid)


def _contents(plan: BrokerPlan, fleet: Fleet | None) -> dict[str, bytes]:
    """Return what can be brought up to date."""
    if plan.loopback:
        return {}
    contents = {ACCESS: access_list(plan).encode(), PLAN: json.dumps(asdict(plan), indent=2).encode()}
    if fleet is None:
        return contents
    if any(Path(name).name != name for name in (plan.ca, plan.certificate, plan.key)):
        raise UsageError("Expected: plain file names for the fleet's certificates. Received: a path.")
    known = fleet.services()
    for name in plan.named:
        if name not in known:
            raise ConfigError(
                f"Expected: a service that has a certificate ({', '.join(known)}). Received: {name!r}.",
                hint=f"give it one: shelfkit deploy fleet service {name}",
            )
    own = fleet.service(BROKER)
    sources = {
        plan.ca: fleet.ca_certificate,
        plan.certificate: own / f"{BROKER}.pem",
        plan.key: own / f"{BROKER}.key",
        REVOKED: fleet.revocation_list,
    }
    try:
        return contents | {name: path.read_bytes() for name, path in sources.items()}
    except OSError as exc:
        raise ConfigError(
            f"Expected: the certificates of a fleet. Received: {exc.filename}: {exc.strerror}.",
            hint="`shelfkit deploy fleet init` makes them",
        ) from exc


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
        "# How many messages a subscriber gets before it has answered the first: a recorder takes them into",
        "# its database by one commit. Devices and others ask for 20.",
        "max_inflight_messages 1000",
        "# A planogram with its picture is the largest thing that is said here.",
        "max_packet_size 8388608",
        "persistent_client_expiration 14d",
        "log_dest stderr",
    ]
    if plan.loopback:
        return "\n".join(
            [*lines, "# One machine alone: nobody else can reach it.", "allow_anonymous true", ""]
        )
    revoked = [] if plan.revoked is None else [f"crlfile {folder / plan.revoked}"]
    return "\n".join(
        [
            *lines,
            "allow_anonymous false",
            "# And nothing older.",
            "tls_version tlsv1.2",
            f"cafile {folder / plan.ca}",
            f"certfile {folder / plan.certificate}",
            f"keyfile {folder / plan.key}",
            *revoked,
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
    for name in (RECORDER, *plan.recorders):
        lines += ["", f"user {name}", f"topic read {ROOT}/#", f"topic write {every.ack}"]
    for name in dict.fromkeys((*OPERATORS, *plan.operators)):
        lines += ["", f"user {name}", f"topic read {ROOT}/#"]
        lines += [f"topic write {topic}" for topic in (every.command("+"), every.desired)]
    lines += ["", f"user {ALERTS}", f"topic write {every.alert('+')}"]
    lines += ["", f"user {CA}", f"topic read {every.certificate_request}"]
    lines += [f"topic write {every.certificate_response}"]
    for name in plan.consumers + plan.home_assistants:
        lines += ["", f"user {name}"]
        heard = (every.event("#"), every.state, every.health, every.alert("+"))
        lines += [f"topic read {topic}" for topic in heard]
        if name in plan.home_assistants:
            # Where it finds devices, and where it says that it has started itself.
            lines += ["topic read homeassistant/#", "topic write homeassistant/status"]
    return "\n".join([*lines, ""])
