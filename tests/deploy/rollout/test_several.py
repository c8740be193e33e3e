"""Several rollouts, several brokers, and what drives them: killed, cut off, and left alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.fleet import Fleet
from deploy.rollout import logic
from deploy.rollout.kept import Kept
from deploy.rollout.model import Rollout, State, View
from edge_agent.contracts.messages import UpdatePhase
from tests.brokers import Mosquitto
from tests.conftest import Kit, find_program
from tests.deploy.rollout.devices import Devices
from tests.deploy.rollout.test_live import OPERATED, QUICK, broker, desired, fleet, options, simulated, until

__all__ = ["broker", "fleet"]
STUCK: dict[str, list[UpdatePhase | str | None]] = {f"cam-{number}": ["stuck"] for number in (0, 1, 2)}
ALL_AT_ONCE = ("--waves", "100%", "--soak", "0s")
FIRST = [part for number in (0, 1, 2) for part in ("--device", f"cam-{number}")]
OTHERS = [part for number in (3, 4, 5) for part in ("--device", f"cam-{number}")]


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", *OPERATED, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def named(fleet: Fleet, device: str) -> Rollout:
    """The rollout that a device is in."""
    return next(item for item in Kept(fleet).every() if device in item.members)


@pytest.mark.slow
@pytest.mark.broker
def test_one_process_drives_all_rollouts_and_whoever_follows_one_takes_over(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    place, at = options(fleet, broker), ("--fleet", fleet.folder)
    devices = simulated(fleet, STUCK)
    with Devices(devices, broker.address), running("start", 2, *place, *FIRST, *ALL_AT_ONCE) as first:
        until(lambda: all(devices[f"cam-{number}"].place > 0 for number in (0, 1, 2)))
        # Driven by the other process, to its end: on the same connection, which knew its devices before.
        assert "done" in kit(*OPERATED, "start", 2, *place, *OTHERS[:4], *ALL_AT_ONCE).stdout
        assert {devices[name].good for name in ("cam-3", "cam-4")} == {2}
        with running("start", 2, *place, *OTHERS[4:], "--waves", "100%", "--soak", "1h") as second:
            until(lambda: devices["cam-5"].good == 2)
            first.kill()
            first.wait()
            # The one that followed its own drives both now: an end that nobody else could tell devices of.
            until(lambda: Kept(fleet).driven())
            kit(*OPERATED, "abort", named(fleet, "cam-0").id, *at)
            assert second.poll() is None
        assert desired(fleet, broker).keys() == {"cam-3", "cam-4", "cam-5"}
        # That process was killed, too: nobody drives what runs, and it is said.
        assert "nobody drives" in kit(*OPERATED, "status", *at).stdout


@pytest.mark.slow
@pytest.mark.broker
def test_a_store_that_is_cut_off_holds_up_nobody_and_is_told_when_it_is_back(
    kit: Kit, fleet: Fleet, broker: Mosquitto, tmp_path: Path
) -> None:
    with Mosquitto(find_program("mosquitto"), tmp_path / "other") as other:
        for number in range(6):
            folder = fleet.device_folder(f"cam-{number}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "device.yaml").write_text(
                f"device: cam-{number}\nstore: '0417'\nstate_dir: state\nbundle: bundle\n"
                "camera: {source: 'v4l2:/dev/video0'}\nplanogram: planogram.yaml\n"
                f"broker: {{host: 127.0.0.1, port: {(broker if number < 3 else other).port}}}\n"
            )
        other.kill()
        devices, soon = simulated(fleet), ("--waves", "1,100%", "--soak", "0s")
        near = {name: devices[name] for name in ("cam-0", "cam-1", "cam-2")}
        with Devices(near, broker.address):
            said = kit(*OPERATED, "start", 2, "--fleet", fleet.folder, *soon, code=8)
            assert f"127.0.0.1:{other.port}" in said.stderr
            assert {device.good for device in near.values()} == {2}
            other.start()
            far = {name: device for name, device in devices.items() if name not in near}
            # Done, and still somebody is owed a word: whoever drives says it.
            with Devices(far, other.address), running("drive", "--fleet", fleet.folder):
                until(lambda: {device.good for device in far.values()} == {2})
                until(lambda: not Kept(fleet).named("").owed)


@pytest.mark.slow
@pytest.mark.broker
def test_an_abort_that_nobody_heard_fails_and_is_said_again(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    devices = simulated(fleet, STUCK)
    at = ("--fleet", fleet.folder)
    with (
        Devices(devices, broker.address),
        running("start", 2, *options(fleet, broker), *FIRST, "--soak", "1h"),
    ):
        until(lambda: any(device.place > 0 for device in devices.values()))
        broker.keep()
    broker.kill()
    said = kit(*OPERATED, "abort", *at, code=8)
    assert f"127.0.0.1:{broker.port}" in said.stderr
    found = json.loads(kit(*OPERATED, "status", *at, "--json").stdout)
    assert (found["state"], found["told"]) == ("aborted", False)
    broker.start()
    assert desired(fleet, broker)
    kit(*OPERATED, "abort", *at)
    assert desired(fleet, broker) == {}


@pytest.mark.slow
@pytest.mark.broker
def test_a_service_drives_what_others_begin_and_undoes_no_stop(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    place, at = options(fleet, broker), ("--fleet", fleet.folder)
    devices = simulated(fleet, {"cam-0": [UpdatePhase.ROLLED_BACK, None], "cam-1": ["stuck"]})
    with Devices(devices, broker.address), running("drive", *at) as service:
        until(lambda: Kept(fleet).driven())
        begun = kit(*OPERATED, "start", 2, *place, "--device", "cam-0", *ALL_AT_ONCE, "--no-follow", "--json")
        assert json.loads(begun.stdout)["running"]
        # Ends, though a rollout that is stopped has not ended.
        kit(*OPERATED, "status", *at, "--follow")
        stopped = named(fleet, "cam-0")
        assert stopped.state == State.STOPPED
        assert "done" in kit(*OPERATED, "start", 2, *place, *OTHERS, *ALL_AT_ONCE).stdout
        kit(*OPERATED, "start", 2, *place, "--device", "cam-1", *ALL_AT_ONCE, "--no-follow")
        kit(*OPERATED, "pause", named(fleet, "cam-1").id, *at)
        service.kill()
        service.wait()
    with Devices(devices, broker.address), running("drive", *at):
        until(lambda: Kept(fleet).driven())
        kit(*OPERATED, "abort", named(fleet, "cam-1").id, *at)
        assert named(fleet, "cam-0").state == State.STOPPED
        assert devices["cam-0"].good == 1
    assert desired(fleet, broker).keys() == {"cam-0", "cam-3", "cam-4", "cam-5"}


@pytest.mark.broker
def test_killed_after_it_was_kept_and_before_devices_were_told(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    kit(*OPERATED, "start", 2, *options(fleet, broker), *QUICK, "--no-follow")
    kept, before = Kept(fleet), datetime.now(UTC) - timedelta(hours=2)
    there = {item.device: View(online=True) for item in fleet.devices()}
    made = kept.change(kept.named("").id, lambda item: logic.step(item, there, before))
    assert any(member.due is not None and member.due < datetime.now(UTC) for member in made.members.values())
    with Devices(simulated(fleet), broker.address):
        assert "done" in kit(*OPERATED, "resume", "--fleet", fleet.folder).stdout


def test_one_that_has_ended_takes_no_device_back_from_a_later_one() -> None:
    """Owed a word since its store was cut off; another rollout has told the device meanwhile."""
    now = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
    wish = logic.Wish(
        release=2,
        waves=("100%",),
        soak=timedelta(0),
        within=timedelta(hours=1),
        tolerance="0",
    )
    old = logic.step(logic.begun("old", wish, {"cam-1": "0417"}, {}, now), {}, now)
    new = logic.step(logic.begun("new", wish, {"cam-1": "0417"}, {}, now), {}, now)
    told = {"cam-1": View(desired=logic.wanted(new)["cam-1"])}
    since = {"old": now, "new": now + timedelta(hours=3)}
    ended = replace(old, state=State.DONE, owed=True)
    assert logic.together([ended], told, since) == {}
    assert logic.together([ended], {}, since) == logic.wanted(old)
    assert logic.together([new, ended], {}, since) == logic.wanted(new)
