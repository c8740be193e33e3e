"""The systemd unit: right for systemd, hard, and an agent that lives under it; systemd's part is played."""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.times import rfc3339
from edge_agent.mqtt import Link, Received
from edge_agent.unit import NAME, command, installed, rendered
from tests.brokers import Mosquitto, subscribed, wait_for
from tests.conftest import Kit, missing, write_device
from tests.filtered import LIBRARY, settings
from tests.supervisor import Supervisor

PROGRAM = "/opt/shelfkit/bin/shelfkit"
TEXT = rendered([PROGRAM], user="shelfkit", config_dir="/etc/shelfkit")

HARD = {
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "DevicePolicy": "closed",
    "Group": "shelfkit",
    "KeyringMode": "private",
    "LimitCORE": "0",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "NotifyAccess": "main",
    "PrivateMounts": "yes",
    "PrivateTmp": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RemoveIPC": "yes",
    "Restart": "always",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "StartLimitIntervalSec": "0",
    "StateDirectory": "shelfkit shelfkit/%i",
    "StateDirectoryMode": "0700",
    "SupplementaryGroups": "video",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "Type": "notify",
    "UMask": "0077",
    "User": "shelfkit",
}
# What would take from the agent what it needs: cameras, the network, the clock, the processor's features.
BREAKING = {
    "DynamicUser",
    "IPAddressDeny",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
}


@pytest.mark.parametrize(("key", "value"), HARD.items())
def test_the_unit_is_hardened(key: str, value: str) -> None:
    assert settings(TEXT)[key] == [value]


def test_the_unit_takes_nothing_that_the_agent_needs() -> None:
    found = settings(TEXT)
    assert BREAKING & found.keys() == set()
    # 81 is video4linux for ever; by name it would be missing until a first camera is plugged in.
    assert found["DeviceAllow"] == ["char-81 rw", "char-media rw", "char-dma_heap rw"]
    assert "adjtimex" in found["SystemCallFilter"][-1].split()
    assert int(found["WatchdogSec"][0]) >= 30
    assert found["ExecStart"] == [f"{PROGRAM} agent run --config /etc/shelfkit/%i/device.yaml"]


def test_this_installation_is_what_the_unit_starts(kit: Kit, tmp_path: Path) -> None:
    start = installed()
    assert subprocess.run([*start, "--version"], capture_output=True, check=False).returncode == 0
    printed = kit("agent", "unit", "--program", PROGRAM).stdout
    assert printed == TEXT
    kit("agent", "unit", "--program", PROGRAM, "--user", "kiosk", "--out", tmp_path)
    assert settings((tmp_path / NAME).read_text())["User"] == ["kiosk"]
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("place", ["/home/pi", "/root", "/var/tmp/x", "/opt/../home/pi", "opt"])  # noqa: S108 - of nobody
def test_an_installation_that_the_unit_would_hide_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="Expected"):
        command([f"{place}/venv/bin/shelfkit"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("user", "a b"),
        ("user", "Root;"),
        ("config_dir", "etc"),
        ("config_dir", "/etc/a b"),
        ("config_dir", "/%i"),
    ],
)
def test_a_name_that_is_none_is_refused(option: str, value: str) -> None:
    given = {"user": "shelfkit", "config_dir": "/etc/shelfkit"} | {option: value}
    with pytest.raises(UsageError, match=option.replace("_", "-")):
        rendered([PROGRAM], **given)


def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        missing("systemd-analyze", "apt install systemd")
    return str(found)


ODD = ["/usr/bin/env", "100% of $HOME", 'a "quoted" \\word']


@pytest.mark.parametrize("start", [["/usr/bin/env"], ODD], ids=["plain", "odd"])
def test_systemd_finds_nothing_wrong(tmp_path: Path, start: list[str]) -> None:
    path = tmp_path / NAME
    path.write_text(rendered(start, user="root", config_dir="/etc/shelfkit"))
    done = subprocess.run(
        [systemd_analyze(), "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Debian 12 has systemd 252; these two came with 254.
    newer = re.compile(r"Unknown key(?: name)? '(RestartSteps|RestartMaxDelaySec)'")
    assert [line for line in done.stderr.splitlines() if NAME in line and not newer.search(line)] == []


def test_systemd_thinks_it_little_exposed(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(TEXT)
    options = ("--offline=true", "--threshold=25", "--no-pager")
    done = subprocess.run(
        [systemd_analyze(), "security", *options, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


@contextmanager
def confined(tmp_path: Path) -> Iterator[list[str]]:
    """Give the words that run a Python program under the unit's filters."""
    systemd_analyze()
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        missing("libseccomp", "apt install libseccomp2")
    path = tmp_path / NAME
    path.write_text(TEXT)
    yield [sys.executable, "-m", "tests.filtered", str(path), sys.executable]


TRIES = """
import mmap, os, socket
from edge_agent.board import kernel_clock

def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as exc:
        return exc.errno

print(kernel_clock() is not None)
print(refused(os.chroot, "/"), refused(os.nice, 1), refused(os.chown, "/", 0, 0))
print(refused(socket.socket, socket.AF_PACKET), refused(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW))
print(refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)))
"""


def test_the_filter_bites_and_leaves_what_is_needed(tmp_path: Path) -> None:
    with confined(tmp_path) as start:
        done = subprocess.run([*start, "-c", TRIES], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["True", "1 1 1", "97 None", "1"], done.stderr


@pytest.mark.slow
@pytest.mark.broker
def test_the_agent_works_under_the_filter(
    tmp_path: Path, mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port, rules="{refresh_s: 1}")
    with confined(tmp_path) as start, subscribed(mosquitto.address, "shelfkit/v1/+/+/state") as listener:
        process = subprocess.Popen([*start, "-m", "edge_agent", "run", "--config", str(config)])
        try:
            assert len(seen_shelf(listener)["slots"]) == 16
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def seen_shelf(listener: Link, after: str = "", patience_s: float = 90) -> dict[str, Any]:
    """Return the first snapshot that is later, and knows all its slots."""

    def wanted(notice: object) -> bool:
        if not isinstance(notice, Received):
            return False
        value = json.loads(notice.payload)
        known = all(slot.get("state", "unknown") != "unknown" for slot in value["slots"].values())
        return bool(known and value["slots"] and value["time"] > after)

    notice = wait_for(listener, wanted, patience_s)
    assert isinstance(notice, Received)
    value = json.loads(notice.payload)
    assert isinstance(value, dict)
    return value


@pytest.mark.slow
@pytest.mark.broker
def test_a_hanging_agent_is_started_again_and_knows_what_it_knew(
    tmp_path: Path, mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port, rules="{confirm_s: 1, refresh_s: 1}")
    agent = (sys.executable, "-m", "edge_agent", "run", "--config", str(config))
    supervisor = Supervisor(tmp_path, *agent, watchdog_s=8)
    try:
        with subscribed(mosquitto.address, "shelfkit/v1/+/+/state") as listener:
            assert supervisor.start() == 2
            for _ in range(5):
                assert supervisor.hear(60) == "WATCHDOG=1"
            before = seen_shelf(listener)
            assert supervisor.process is not None
            hung = supervisor.process.pid
            os.kill(hung, signal.SIGSTOP)
            stopped = rfc3339(datetime.now(UTC))
            supervisor.watch()
            assert supervisor.process.pid != hung
            after = seen_shelf(listener, stopped)
            assert supervisor.hear(60) == "WATCHDOG=1"
            supervisor.process.send_signal(signal.SIGTERM)
            assert supervisor.process.wait(60) == 0
            while (said := supervisor.hear(1)) == "WATCHDOG=1":
                pass
            assert said == "STOPPING=1"
    finally:
        supervisor.close()
    assert after["stream"] == before["stream"]
    assert after["last"] > before["last"]
    # The shelf has hardly changed: what stood there has been standing there since before the hang.
    kept = [name for name, slot in before["slots"].items() if after["slots"][name]["since"] == slot["since"]]
    assert len(kept) >= 10
    assert all(before["slots"][name]["since"] < before["time"] for name in kept)


SILENT = """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
    channel.connect(os.environ["NOTIFY_SOCKET"])
    channel.send(b"READY=1")
time.sleep(60)
"""


def test_silence_is_noticed_only_after_the_watchdogs_time(tmp_path: Path) -> None:
    """The supervisor of these tests itself: a process that never pings is started again, after that time."""
    supervisor = Supervisor(tmp_path, sys.executable, "-c", SILENT, watchdog_s=1)
    try:
        supervisor.start()
        begin = time.monotonic()
        assert supervisor.watch() == 0
        assert time.monotonic() - begin >= 1
    finally:
        supervisor.close()
