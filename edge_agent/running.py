"""The agent at work: one thread owns camera, agent, outbox and window; the link has its own."""

import logging
import random
import time
from importlib.metadata import version
from queue import Empty

from edge_agent import discovery, lastgood, parts, setup
from edge_agent.board import BoardReader
from edge_agent.camera.base import Frame
from edge_agent.clock import wall
from edge_agent.commands import Commands, Requests
from edge_agent.contracts import messages
from edge_agent.contracts.address import address_of
from edge_agent.contracts.errors import DeviceError, KitError
from edge_agent.contracts.messages import Availability
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.health import Heart, Instruments, notify, published
from edge_agent.launched import launched
from edge_agent.mqtt import Connected, Disconnected, Notice, Publication, Received, Refused
from edge_agent.orders import Orders
from edge_agent.parts import Parts
from edge_agent.renewal import Renewal, address_in_force
from edge_agent.schedule import Schedule
from edge_agent.setup import Ready, Setup
from edge_agent.updates import Spent, Updates, bound_s
from edge_agent.wishes import Ending, Wishes

log = logging.getLogger(__name__)

_HEALTH_S = 15.0
_MEASURE_S = 5.0
_DRAIN_S = 5.0
_WAIT_S = 0.25
_NOTICES_A_FRAME = 200
_REPEAT_S = 600.0


class Running:
    """Notices until the next frame is due, then the frame, then whatever must be said.

    The wall clock is asked once for each moment, the steady clock orders: setting one does no harm.

    Args:
        ready: The configuration to begin with.
        asked: What signals and commands ask.

    Raises:
        KitError: Something that it needs cannot be opened.
    """

    def __init__(self, ready: Ready, asked: Wishes) -> None:
        self._asked = asked
        self._instruments = Instruments()
        self._heart = Heart(time.monotonic())
        self._board = BoardReader()
        self._rng = random.Random()  # noqa: S311 - jitter
        self._parts = self._opened(ready, None)
        started = launched()
        self._updates = None if started is None else Updates(started, self._setup.config)
        self._renewal = Renewal(self._setup.config)
        self._next: Parts | None = None
        self._frames: list[Frame] = []
        self._snapshot_due = self._health_due = self._measure_due = self._alive_due = 0.0
        self._told_stream = ""
        self._schedule = Schedule.of(self._setup)
        self._warned: dict[str, tuple[str, float]] = {}
        self._orders = Orders(lambda: self._parts.ready, lambda: self._frames, self._prepare, asked)
        self._requests = Requests(self._setup.config.state_dir)
        self._commands = self._answering()

    @property
    def _setup(self) -> Setup:
        return self._parts.ready.setup

    @property
    def _topics(self) -> DeviceTopics:
        return DeviceTopics(self._setup.config.store, self._setup.config.device)

    def run(self) -> Ending:
        """Go on until told to stop, or until the source has come to its end."""
        self._begin()
        try:
            self._parts.agent.it.started(version("shelfkit"), time.monotonic())
        except DeviceError as exc:
            self._warn("disk", str(exc))
        notify("READY=1")
        self._prove()
        due, ended = time.monotonic(), False
        try:
            while not self._asked.end and not ended:
                self._talk(due)
                if self._asked.end:
                    break
                ended = not self._look()
                due = self._schedule.after(due, time.monotonic(), settled=self._parts.agent.it.settled)
            notify("STOPPING=1")
            if self._updates is not None:
                self._updates.hurry()
            self._talk(time.monotonic() + (_DRAIN_S if ended else 0.2))
            self._say_goodbye()
        finally:
            self._parts.close()
            if self._next is not None:
                self._next.close(but=self._parts)
        return self._asked.ending

    def _opened(self, ready: Ready, before: Parts | None) -> Parts:
        return parts.opened(ready, instruments=self._instruments, wall=wall, rng=self._rng, before=before)

    def _begin(self) -> None:
        """Connect where that is still to be done, and remember that this configuration works."""
        self._parts.delivery.it.link.start()
        try:
            lastgood.keep(self._setup.file, self._setup.config)
        except DeviceError as exc:
            log.warning("%s", exc)

    def _look(self) -> bool:
        """Judge one frame; return False when there will be no more."""
        begin, agent = time.monotonic(), self._parts.agent.it
        known = agent.memory
        try:
            frame = self._parts.camera.it.read()
            if frame is None:
                return False
        except DeviceError as exc:
            self._warn("camera", str(exc))
            self._instruments.missed.inc()
            self._heart.missed += 1
            frame = None
        try:
            with self._instruments.frame_seconds.time():
                recorded = agent.miss(time.monotonic()) if frame is None else agent.see(frame)
        except DeviceError as exc:
            # What was seen is not forgotten: it is judged again with the next frame.
            self._warn("disk", str(exc))
            recorded = []
        if frame is not None:
            self._frames = [*self._frames[-1:], frame]
            self._heart.last_frame = frame.at
            if self._updates is not None:
                self._updates.saw(frame.at)
            self._heart.frame_ms = round(1000 * (time.monotonic() - begin), 1)
        self._instruments.events.inc(len(recorded))
        if agent.memory is not known:
            # Also where that makes no event: at first sight most slots are as they should be.
            self._snapshot_due = 0.0
        return True

    def _talk(self, until: float) -> None:
        """Hear and say what there is until a moment; at least once, and without end for nobody."""
        heard = 0
        while True:
            now = time.monotonic()
            try:
                self._say(now)
                self._parts.delivery.it.publisher.pump(now)
            except DeviceError as exc:
                self._warn("disk", str(exc))
            wait = max(min(until - now, _WAIT_S), 0)
            try:
                notice = self._parts.delivery.it.link.notices.get(timeout=wait)
            except Empty:
                if self._asked.end or time.monotonic() >= until:
                    return
            else:
                heard += 1
                self._hear(notice)
            self._go_over()
            if self._asked.end or (heard >= _NOTICES_A_FRAME and time.monotonic() >= until):
                return

    def _hear(self, notice: Notice) -> None:
        link, now = self._parts.delivery.it.link, time.monotonic()
        if self._updates is not None:
            self._updates.notice(notice)
        if isinstance(notice, Connected):
            self._snapshot_due = self._health_due = 0.0
            described = self._description(self._setup)
            if described is not None:
                link.publish(described)
        if isinstance(notice, Refused | Disconnected):
            self._warn("broker", f"broker {address_of(self._setup.config.broker)}: {notice.reason}")
        if isinstance(notice, Received):
            if notice.topic == self._topics.ack and not notice.retain:
                self._heart.compare(notice.payload, wall(now))
            reply = self._commands.answer(notice)
            if reply is not None:
                link.publish(reply)
            if notice.topic == self._topics.certificate_response:
                self._take_certificate(notice.payload)
        self._parts.delivery.it.publisher.on(notice, now)

    def _say(self, now: float) -> None:
        """Publish snapshot and health when they are due; again later where there is no connection."""
        if now >= self._alive_due:
            # From the thread that judges frames: while that hangs nothing is said.
            notify("WATCHDOG=1")
            self._alive_due = now + 1
        outbox, delivery = self._parts.outbox.it, self._parts.delivery.it
        connected = delivery.publisher.connected
        self._instruments.connected.set(connected)
        if now >= self._measure_due:
            self._measure_due = now + _MEASURE_S
            self._heart.board = self._board.read()
            dropped = self._parts.camera.it.dropped
            self._instruments.measure(outbox, self._heart, now, dropped)
        self._say_updates(now)
        if not connected:
            return
        if outbox.stream != self._told_stream:
            # A damaged outbox has begun anew: who has the old stream must hear of the new one.
            self._told_stream, self._snapshot_due = outbox.stream, 0.0
        if now >= self._snapshot_due:
            device = self._setup.config.device
            state = self._parts.agent.it.snapshot(device, outbox.stream, outbox.oldest, outbox.last, now)
            delivery.link.publish(Publication(self._topics.state, messages.encode(state), retain=True))
            self._snapshot_due = now + self._setup.config.rules.refresh_s
        self._ask_for_certificate(now)
        if now >= self._health_due:
            delivery.link.publish(self._health(Availability.ONLINE, now))
            self._health_due = now + _HEALTH_S

    def _ask_for_certificate(self, now: float) -> None:
        self._heart.certificate_expires = self._renewal.expires
        request = self._renewal.wanted(now, wall(now))
        if request is not None and self._parts.delivery.it.link.publish(request) is not None:
            self._renewal.asked(now)

    def _take_certificate(self, payload: bytes) -> None:
        """Go over to another certificate; where the disk will not, the one before goes on."""
        try:
            if self._renewal.take(payload):
                self._parts.delivery.it.link.go_over(address_in_force(self._setup.config))
        except DeviceError as exc:
            self._warn("disk", str(exc))

    def _say_updates(self, now: float) -> None:
        """Show what this release can show, and pass on what the updater says."""
        updates, link = self._updates, self._parts.delivery.it.link
        if updates is None:
            return
        updates.step(now)
        self._heart.release, self._heart.update = updates.release, updates.phase
        news = updates.news()
        if news is not None:
            kind, reason = news
            self._parts.agent.it.tell(kind, version("shelfkit"), reason, now)
            updates.announced()
        report = updates.report()
        if report is not None and link.publish(report) is not None:
            updates.told()
            self._health_due = 0.0

    def _prove(self) -> None:
        if self._updates is not None:
            made, model = self._setup, self._parts.ready.model
            self._updates.take(made.config)
            images, _ = made.bundle.golden()
            self._updates.proven(Spent(model, images, bound_s(made.config, len(made.planogram.slots))))

    def _health(self, status: Availability, now: float) -> Publication:
        told = self._heart.health(
            status,
            wall(now),
            now,
            outbox=self._parts.outbox.it,
            dropped_frames=self._parts.camera.it.dropped,
            model=self._setup.identity,
        )
        return published(self._topics, told)

    def _say_goodbye(self) -> None:
        try:
            goodbye = self._health(Availability.STOPPED, time.monotonic())
        except DeviceError as exc:
            self._warn("disk", str(exc))
            goodbye = published(self._topics, messages.Health(status=Availability.STOPPED))
        self._parts.delivery.it.link.close(goodbye)

    def _warn(self, about: str, text: str) -> None:
        """Say what is wrong once, and again when it still is after a while: logs fill disks."""
        now = time.monotonic()
        said, at = self._warned.get(about, ("", 0.0))
        if text != said or now - at > _REPEAT_S:
            log.warning("%s", text)
            self._warned[about] = (text, now)

    def _description(self, made: Setup) -> Publication | None:
        """Return what Home Assistant is told of this device, where it is wanted."""
        device = made.config
        if not device.home_assistant:
            return None
        topics = DeviceTopics(device.store, device.device)
        told = discovery.message(device, made.planogram, topics, version=version("shelfkit"))
        return Publication(discovery.topic(device.device), told, retain=True)

    # From one configuration to another.

    def _go_over(self) -> None:
        """Read the configuration again where that is wanted; go over to the next one where there is one."""
        if self._asked.reload.is_set():
            self._asked.reload.clear()
            try:
                self._prepare(setup.ready(self._setup.file))
            except KitError as exc:
                log.error("the configuration stays as it is: %s", exc)  # noqa: TRY400 - a message for people
        if self._next is None:
            return
        before, following, self._next = self._parts, self._next, None
        described, describes = self._description(self._setup), self._description(following.ready.setup)
        link = before.delivery.it.link
        if described is not None and describes is None:
            link.publish(Publication(described.topic, b"", retain=True))
        if before.delivery is not following.delivery:
            # Under the topics that hold until now; those to come may be others.
            self._say_goodbye()
        elif describes is not None:
            link.publish(describes)
        self._parts = following
        before.close(but=following)
        self._begin()
        self._commands, self._schedule = self._answering(), Schedule.of(self._setup)
        self._renewal = Renewal(self._setup.config)
        self._prove()
        self._snapshot_due = self._health_due = 0.0
        log.info("the configuration of %s holds from now on", self._setup.file)

    def _prepare(self, ready: Ready) -> None:
        """Open what another configuration needs; it is gone over to when the answer has been sent."""
        if self._next is not None:
            self._next.close(but=self._parts)
            self._next = None
        self._next = self._opened(ready, self._parts)

    def _answering(self) -> Commands:
        return Commands(self._topics, self._requests, self._orders.handlers)
