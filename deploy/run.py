"""`shelfkit deploy run`: a device from nothing to its first event, and everything that it says from then on.

Flashes or pushes where that is asked for, waits until the agent says by itself that it works, lets it
prove that it hears and answers, and then follows its events.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.broker import OPERATOR
from deploy.flash.command import AllowFile, AllowFixed, flash_image
from deploy.fleet import Device as Line
from deploy.fleet import Fleet
from deploy.push.command import Number, Port, SshOption, pushed, told_of
from deploy.push.pushing import Layout
from deploy.rollout.choice import addresses
from deploy.ssh import Login
from edge_agent.contracts import events, messages
from edge_agent.contracts.errors import DataError, DeviceError, ServiceError, UsageError
from edge_agent.contracts.events import Event
from edge_agent.contracts.messages import Availability, Command, Health, Reply, State
from edge_agent.contracts.times import rfc3339
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Disconnected, Link, Publication, Received, Refused, Subscribed

RUN = f"{OPERATOR}-run"
OPERATOR_ENVIRONMENT = "SHELFKIT_OPERATOR"
_REPLY_S = 15.0
_COMMAND_S = 60
_SETTLE_S = 45.0
"""Health comes every 15 s, and the first may be older than the first picture."""
_OLD_PICTURE_S = 10.0
_SLICE_S = 0.25
_BRIEF_S, _MOST_BRIEF = 5.0, 4
"""Connections so short, so often one after the other, are another program's doing."""


@dataclass(slots=True)
class Device:
    """One device over its broker; what it says of events meanwhile is kept.

    Args:
        link: To the broker, as an operator.
        topics: Of the device.
        clock: Seconds that only rise.
        operator: Whose certificate is shown.
    """

    link: Link
    topics: DeviceTopics
    clock: Callable[[], float] = time.monotonic
    operator: str = RUN
    state: State | None = None
    _waiting: list[Event] = field(default_factory=list)
    _trouble: str = "no answer yet"
    _joined: bool = False
    _since: float | None = None
    _short: int = 0
    _health: Health | None = None

    def joined(self, patience_s: float) -> None:
        """Wait until the broker lets us hear everything.

        Raises:
            ServiceError: It does not.
        """
        end = self.clock() + patience_s
        while not self._joined and self.clock() < end:
            self._next()
        if not self._joined:
            raise ServiceError(
                f"Expected: the store's broker. Received: {self._trouble}.",
                hint="is it running, and does its certificate name this host? shelfkit deploy broker",
            )

    def ready(self, patience_s: float) -> Health:
        """Wait until the device says by itself that it works, from now on.

        What the broker has kept does not count, and neither does what the device said while it was pushed to.

        Raises:
            DeviceError: It does not, or says that it cannot.
        """
        while not self.link.notices.empty():
            self._next()
        self._health = None
        end = self.clock() + patience_s
        while self.clock() < end:
            self._next()
            if self._health is not None and self._health.status is Availability.ONLINE:
                if self._health.safe_mode:
                    raise DeviceError(
                        f"Expected: a device that works. Received: safe mode: {self._health.safe_mode}",
                        hint="mend its files in the fleet's folder, and push or flash again",
                    )
                return self._health
        raise DeviceError(
            f"Expected: {self.topics.device} within {patience_s:.0f} s. Received: nothing of it.",
            hint="see provisioned.txt on its boot partition, or journalctl -u shelfkit-agent-launched there",
        )

    def settled(self, patience_s: float) -> Health | None:
        """Wait until the device has seen something and said so, or the patience ends."""
        end = self.clock() + patience_s
        while self.clock() < end:
            if self.state is not None and self._health is not None and self._health.camera_age_s is not None:
                break
            self._next()
        return self._health

    def ping(self, patience_s: float = _REPLY_S) -> Reply:
        """Ask the device for an answer.

        Raises:
            DeviceError: None comes, or it says no.
        """
        request = uuid.uuid4().hex
        payload = messages.encode(Command(request=request))
        asked = Publication(self.topics.command("ping"), payload, expiry_s=_COMMAND_S)
        end = self.clock() + patience_s
        sent = self.link.publish(asked) is not None
        while self.clock() < end:
            sent = sent or self.link.publish(asked) is not None
            reply = self._next()
            if reply is not None and reply.request == request:
                if reply.ok:
                    return reply
                raise DeviceError(f"Expected: an answer. Received: {reply.error}.")
        raise DeviceError(
            f"Expected: an answer of {self.topics.device} within {patience_s:.0f} s. Received: none.",
            hint=f"the broker must let this certificate write {self.topics.command('ping')}",
        )

    def events(self, until: float | None = None) -> Iterator[Event]:
        """Yield its events as they come.

        Args:
            until: When to end, by the clock; None: never.
        """
        while until is None or self.clock() < until:
            self._next()
            while self._waiting:
                yield self._waiting.pop(0)

    def _next(self) -> Reply | None:
        """Take in one notice; a reply is given back."""
        try:
            notice = self.link.notices.get(timeout=_SLICE_S)
        except Empty:
            return None
        if isinstance(notice, Subscribed):
            self._joined, self._since = True, self.clock()
        elif isinstance(notice, Disconnected | Refused):
            self._trouble = notice.reason
            self._left()
        elif isinstance(notice, Received):
            return self._heard(notice)
        return None

    def _left(self) -> None:
        """Take in that the connection is gone.

        Brokers do not reliably say that another has come with our name: both would drive each other out
        for ever, many times a second.
        """
        brief = self._since is not None and self.clock() - self._since < _BRIEF_S
        self._short = self._short + 1 if brief else 0
        self._since = None
        if self._short >= _MOST_BRIEF:
            raise ServiceError(
                f"Expected: to be alone with the certificate of {self.operator}. "
                f"Received: a broker that lets us in and hangs up, again and again: another program has it.",
                hint="end one of them, or give each a certificate of its own: --operator NAME",
            )

    def _heard(self, notice: Received) -> Reply | None:
        try:
            if notice.topic == self.topics.reply("ping"):
                return messages.decode(Reply, notice.payload)
            if notice.topic == self.topics.health and not notice.retain:
                self._health = messages.decode(Health, notice.payload)
            elif notice.topic == self.topics.state:
                self.state = messages.decode(State, notice.payload)
            elif notice.topic.startswith(self.topics.event("")):
                self._waiting.append(events.decode(notice.payload))
        except DataError:
            pass  # of another version: somebody else reads it
        return None


def findings(health: Health, state: State | None) -> list[tuple[bool, str]]:
    """Return what the self-test looked at: whether it is good, and what it is."""
    age = health.camera_age_s
    seen = "no picture yet" if age is None else f"a picture {age:.1f} s old"
    faults = state.camera.faults if state else ()
    found = [
        (age is not None and age <= _OLD_PICTURE_S, f"camera: {seen}"),
        (not faults, f"camera faults: {', '.join(faults) or 'none'}"),
    ]
    if health.inference_ms is not None:
        found.append((True, f"inference: {health.inference_ms:.1f} ms"))
    if state is not None:
        known = sum(slot.state is not None for slot in state.slots.values())
        model = f"model {state.model.name} {state.model.version}"
        found.append((True, f"{model}, {known} of {len(state.slots)} slots judged"))
    return found


def told(event: Event) -> str:
    """Return an event as a line for people."""
    data = event.data.model_dump(mode="json", exclude_none=True)
    words = [str(data[key]) for key in ("slot", "previous", "state", "fault") if key in data]
    return f"{rfc3339(event.time)}  {event.type.split('.')[-2]:<22}{event.subject:<28}{' '.join(words)}"


def run(  # noqa: PLR0913, PLR0917 - one parameter for each option
    device: Annotated[str, typer.Argument(help="Device of the fleet.")],
    image: Annotated[Path | None, typer.Option(help="Flash this image first; with --drive.")] = None,
    drive: Annotated[Path | None, typer.Option(help="Onto this drive.")] = None,
    push: Annotated[
        str, typer.Option(help="Push to this host first; `-`: where it was pushed to before.")
    ] = "",
    port: Port = None,
    ssh_option: SshOption = None,
    release: Number = None,
    allow_fixed: AllowFixed = False,
    allow_file: AllowFile = False,
    fleet: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")
    ] = fleets.DEFAULT,
    broker: Annotated[str, typer.Option(help="HOST[:PORT]; that of its device.yaml if left out.")] = "",
    operator: Annotated[
        str,
        typer.Option(envvar=OPERATOR_ENVIRONMENT, help="Service of the fleet that may command devices."),
    ] = RUN,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for the device.")] = 900.0,
    follow: Annotated[
        float | None, typer.Option(min=0, help="Seconds to follow its events; until Ctrl-C if left out.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a drive is overwritten.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as they are, one a line.")] = False,
) -> None:
    """Flash or push a device, wait until it works, prove it, and follow its events until Ctrl-C.

    Without --image and --push it begins with the waiting: for a device that is on its way, or runs.
    The self-test asks the device over MQTT, as an operator does, and looks at its camera. The broker lets
    one in with each operator's certificate: where two people run this, each names one with --operator.

    \b
    Examples:
      shelfkit deploy run cam-12-01 --image shelf-arm64.img.zst --drive /dev/sdb
      shelfkit deploy run cam-12-01 --push pi@shelf-12
      shelfkit deploy run cam-12-01 --follow 60 --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(fleet)
    line = opened.device(device)
    if (image is None) != (drive is None) or (image is not None and push):
        raise UsageError("Expected: --image with --drive, or --push, or neither. Received: another mix.")
    if not push and (port or ssh_option or release):
        raise UsageError("Expected: --port, --ssh-option and --release with --push. Received: no --push.")
    login = Login(_host(line, push), port, tuple(ssh_option or ())) if push else None
    topics = DeviceTopics(line.store, device)
    with _link(opened, device, broker, operator, topics) as link:
        watched = Device(link, topics, operator=operator)
        # The broker first: whoever waits for a device should learn at once that nobody would hear it.
        watched.joined(min(_REPLY_S, patience))
        if image is not None and drive is not None:
            flash_image(
                image, [device], [drive], fleet, yes=yes, allow_fixed=allow_fixed, allow_file=allow_file
            )
        elif login is not None:
            _say(told_of(device, login, pushed(opened, device, login, Layout(), release), started=True))
        _say(f"waiting for {device} ...")
        health = watched.ready(patience)
        watched.ping()
        health = watched.settled(_SETTLE_S) or health
        _judge(device, health, watched.state)
        until = None if follow is None else watched.clock() + follow
        for event in watched.events(until):
            typer.echo(events.encode(event) if as_json else told(event))


def _host(line: Line, push: str) -> str:
    if push != "-":
        return push
    if line.host is None:
        raise UsageError(f"Expected: --push HOST. Received: {line.device} was never pushed.")
    return line.host


def _judge(device: str, health: Health, state: State | None) -> None:
    found = findings(health, state)
    for good, what in found:
        _say(f"  {'ok   ' if good else 'FAIL '} {what}")
    if not all(good for good, _ in found):
        raise DeviceError(
            f"Expected: a device that sees its shelf. Received: {device}, which answers, but see above.",
            hint=f"look at its picture: shelfkit deploy run {device} again, or cmd/snapshot",
        )
    _say(f"{device} works and answers; its events:")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _link(fleet: Fleet, device: str, broker: str, operator: str, topics: DeviceTopics) -> Link:
    _, address = addresses(fleet, {device: topics.store}, broker or None, operator)[device]
    wanted = (topics.health, topics.state, topics.event("#"), topics.reply("ping"))
    return Link(address, client_id=operator, subscriptions=wanted)
