"""The database by hand: the commands, as a user runs them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dashboard.batch import Batch, Refusal
from dashboard.database_command import forget
from dashboard.store import Arrival, Store
from edge_agent.contracts.errors import UsageError
from tests.conftest import Kit
from tests.dashboard.stored import devices, note


@pytest.mark.slow
def test_backup_restore_migrate_upkeep_and_quarantine(kit: Kit, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    store = Store(url)
    old = Arrival(
        "/stores/1/devices/cam", "1", "ab" * 16, 1, "t", "s", "2020-01-01T00:00:00.000Z", '{"n": 1}'
    )
    bad = Refusal("2020-01-01T00:00:00.000Z", "shelfkit/v1/1/cam/health\x1b[31m", "no\nJSON", b"\xff")
    with store.writing() as connection:
        store.take(connection, Batch([old], [bad]), datetime.now(UTC))
    store.close()
    out, new = tmp_path / "backup.sqlite", f"sqlite:///{tmp_path / 'new.sqlite'}"
    said = json.loads(kit("dashboard", "backup", out, "--database", url, "--json").stdout)
    assert (said["event"], said["quarantine"]) == (1, 1)
    assert "event 1" in kit("dashboard", "restore", out, "--database", new).stdout
    assert kit("dashboard", "migrate", "--database", new).stdout.startswith("version 0")
    shown = kit("dashboard", "quarantine", "--database", new).stdout
    assert "1 bytes" in shown
    assert "\x1b" not in shown
    done = json.loads(kit("dashboard", "upkeep", "--keep", "400d", "--database", new, "--json").stdout)
    assert done["removed"] == 1


@pytest.mark.parametrize(
    "options",
    [("--stores", "+,0417"), ("--keep", "0d")],
)
def test_options_that_cannot_be(kit: Kit, tmp_path: Path, options: tuple[str, str]) -> None:
    said = kit(
        "dashboard", "--broker", "mqtt://127.0.0.1:1", "--no-login", *options, code=2, cwd=tmp_path
    ).stderr
    assert "Expected: " in said
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_gone_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'd.sqlite'}"
    store = Store(url)
    note(store, "/stores/0417/devices/cam-1", "0417", "cam-1", health='{"status":"offline"}')
    forget("0417", "cam-1", url, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"forgotten": 1}
    assert devices(store) == []
    with pytest.raises(UsageError, match="cam-1 of store 0417"):
        forget("0417", "cam-1", url)
    store.close()
