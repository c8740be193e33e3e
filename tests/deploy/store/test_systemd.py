"""A store's units under the systemd of a machine of its own, put there as the guide says."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.store.units import BROKER_UNIT, RECORDER_UNIT, USERS
from tests.brokers import free_port
from tests.conftest import Kit, find_program
from tests.deploy.store.test_store import well
from tests.machines import Machine

ROOT = "/srv/shelfkit"
UNITS = (BROKER_UNIT, RECORDER_UNIT)
AS_THE_GUIDE_SAYS = f"""
set -e
cp -r "$1" {ROOT} && chmod 755 {ROOT}
install -D -m 644 {ROOT}/systemd/{USERS} /etc/sysusers.d/{USERS} && systemd-sysusers
install -m 644 {ROOT}/systemd/*.service /etc/systemd/system/
chown -R shelfkit-broker: {ROOT}/broker && chown -R shelfkit-recorder: {ROOT}/recorder
systemctl daemon-reload && systemctl enable --now shelfkit-broker shelfkit-dashboard
"""
pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(600)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", {}, name="store-0417") as made:
        yield made


def installed(machine: Machine) -> None:
    """Put the program where the units look for it: this Python, which other users may run there.

    It may lie in somebody's home; that alone is less hard than on a store's machine.
    """
    script = f'#!/bin/sh\nexec "{sys.executable}" -m edge_agent.cli "$@"\n'
    (machine.shared / "program").write_text(script)
    machine.ask("install", "-D", "-m", "755", str(machine.shared / "program"), "/opt/shelfkit/bin/shelfkit")
    for folder in Path(sys.executable).resolve().parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            machine.ask("chmod", "o+rx", str(folder))
    for unit in UNITS:
        folder = machine.folder / "units" / f"{unit}.d"
        folder.mkdir()
        (folder / "test.conf").write_text("[Service]\nProtectHome=no\n")


def test_a_store_is_set_up_as_the_guide_says_and_works_again_after_a_power_cut(
    machine: Machine, tmp_path: Path, kit: Kit
) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "store.md").read_text()
    for line in AS_THE_GUIDE_SAYS.strip().splitlines()[2:]:
        assert f"# {line}\n" in guide, line
    fleet, out, page = tmp_path / "fleet", machine.shared / "store-0417", free_port()
    kit("deploy", "fleet", "init", "--name", "shops", "--broker-name", "localhost", "--fleet", fleet)
    port = free_port()
    ports = ("--port", port, "--page-port", page, "--mosquitto", find_program("mosquitto"))
    kit("deploy", "store", "--store", "0417", "--out", out, "--fleet", fleet, *ports)
    installed(machine)
    done = machine.ask("sh", "-c", AS_THE_GUIDE_SAYS, "sh", str(out))
    assert done.returncode == 0, done.stderr
    for again in (False, True):
        if again:
            machine.cut()
            machine.start()
        assert well(f"http://127.0.0.1:{page}/healthz", 120)["broker"], machine.journal()
        for unit in UNITS:
            shown = machine.ask("systemctl", "show", "--property=ActiveState,User", unit)
            state = shown.stdout.split()
            assert "ActiveState=active" in state, machine.journal(unit)
            assert "User=root" not in state
