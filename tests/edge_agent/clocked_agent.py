"""An agent without camera and model, as a process, whose clocks its plan sets; for `test_does_not_break`.

It records while no broker is there, as many simulated hours as the plan wants, then says so, and
delivers in real time until nothing waits. What it measured of itself is its last line.
"""

import json
import random
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty

from edge_agent.contracts.address import Address
from edge_agent.contracts.events import DeviceData, Kind
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.memory import Draft, Memory
from edge_agent.mqtt import Delivered, Disconnected, Link, Notice, Publication, Token
from edge_agent.outbox import Limits, Outbox
from edge_agent.publisher import Publisher

SOURCE = "/stores/0417/devices/cam-12-01"
TOPICS = DeviceTopics("0417", "cam-12-01")
START = datetime(2026, 11, 23, 9, tzinfo=UTC)
_STEP_S = 10.0


@dataclass
class Counting:
    """A link that counts what is unanswered at the same time."""

    link: Link
    open: set[Token] = field(default_factory=set)
    most: int = 0

    def publish(self, publication: Publication) -> Token | None:
        """See `Link.publish`."""
        token = self.link.publish(publication)
        if token is not None:
            self.open.add(token)
            self.most = max(self.most, len(self.open))
        return token

    def note(self, notice: Notice) -> None:
        """Take an answer into account."""
        if isinstance(notice, Delivered):
            self.open.discard(notice.token)
        if isinstance(notice, Disconnected):
            self.open.clear()


def memory_kb(name: str) -> int:
    """Return a size of this process: VmRSS now, VmHWM at most."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


class Agent:
    """Outbox, publisher and link, with a clock that only the plan moves."""

    def __init__(self, outbox: Outbox, link: Link) -> None:
        self.outbox, self.link, self.wire = outbox, link, Counting(link)
        rng = random.Random(1)
        self.publisher = Publisher(
            outbox, self.wire, topics=TOPICS, ack_timeout_s=10, by_broker=False, rng=rng
        )
        self.ages: list[float] = []

    def talk(self, now: float, patience_s: float = 0.0) -> None:
        """Hear what there is, and send what may be sent."""
        self.publisher.pump(now)
        while True:
            try:
                notice = (
                    self.link.notices.get(timeout=patience_s)
                    if patience_s
                    else self.link.notices.get_nowait()
                )
            except Empty:
                return
            patience_s = 0.0
            self.wire.note(notice)
            self.publisher.on(notice, now)

    def record(self, text: str, wall: datetime) -> None:
        """Record an event."""
        data = DeviceData(store="0417", agent="0.1.0", reason=text)
        draft = Draft(kind=Kind.DEVICE_STARTED, subject="device", time=wall, data=data)
        self.outbox.record([draft], Memory(planogram=text), wall)
        self.ages.append(self.outbox.age_s())


def main(folder: Path, port: int, plan: dict[str, float | list[int]]) -> None:
    """Follow a plan: `hours`, `every_s`, `jumps_days` (of the wall clock, from event to event)."""
    clock = [1000.0]
    jumps = [int(days) for days in plan.get("jumps_days", [0])]  # type: ignore[union-attr] # a list
    hours, every_s = float(plan["hours"]), float(plan["every_s"])  # type: ignore[arg-type] # numbers
    outbox = Outbox(folder / "o", source=SOURCE, limits=Limits(2**28, 30), steady=lambda: clock[0])
    before = 0
    with outbox, Link(Address("127.0.0.1", port), client_id="cam-12-01", subscriptions=(TOPICS.ack,)) as link:
        agent = Agent(outbox, link)
        for step in range(round(hours * 3600 / _STEP_S)):
            clock[0] += _STEP_S
            if step * _STEP_S % every_s == 0:
                jump = timedelta(days=jumps[len(agent.ages) % len(jumps)])
                agent.record(f"{len(agent.ages)}", START + timedelta(seconds=clock[0]) + jump)
            agent.talk(clock[0])
            before = before or (memory_kb("VmRSS") if step == 200 else 0)
        waited = outbox.depth
        sys.stdout.write("recorded\n")
        sys.stdout.flush()
        offset, end = clock[0] - time.monotonic(), time.monotonic() + 150
        while plan.get("deliver") and outbox.depth and time.monotonic() < end:
            clock[0] = offset + time.monotonic()
            agent.talk(clock[0], 0.1)
        peak = memory_kb("VmHWM")
        measured: dict[str, float] = {
            "waited": waited,
            "left": outbox.depth,
            "dropped": outbox.dropped,
            "window": agent.wire.most,
        }
        measured |= {
            "before_kb": before,
            "peak_kb": peak,
            "youngest": min(agent.ages),
            "oldest": max(agent.ages),
        }
        sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
