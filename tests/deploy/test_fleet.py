"""A fleet begins whole, with keys for its owner alone, and not over another."""

import json
import stat
from pathlib import Path

from tests.conftest import Kit


def test_a_fleet_begins_with_keys_for_its_owner_alone(tmp_path: Path, kit: Kit) -> None:
    said = kit(
        "deploy", "fleet", "init", "--name", "Corner shops", "--fleet", "fleet", "--json", cwd=tmp_path
    )
    assert json.loads(said.stdout)["keys"] == ["root-1", "root-2", "targets", "snapshot", "timestamp"]
    keys = sorted((tmp_path / "fleet" / "tuf" / "keys").iterdir())
    assert len(keys) == 5
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert "PRIVATE" not in said.stdout + said.stderr
    assert (tmp_path / "fleet" / "tuf" / "repository" / "metadata" / "1.root.json").is_file()
    assert not kit("deploy", "release", "list", "--fleet", "fleet", cwd=tmp_path).stdout
    again = kit("deploy", "fleet", "init", "--name", "x", "--fleet", "fleet", cwd=tmp_path, code=3)
    assert "there" in again.stderr
    assert sorted((tmp_path / "fleet" / "tuf" / "keys").iterdir()) == keys


def test_keys_are_encrypted_with_a_passphrase(tmp_path: Path, kit: Kit) -> None:
    (tmp_path / "phrase").write_text("a phrase\n")
    (tmp_path / "empty").touch()
    options = ("deploy", "fleet", "init", "--name", "shops", "--fleet", "fleet", "--passphrase-file")
    assert "empty" in kit(*options, "empty", cwd=tmp_path, code=4).stderr
    assert not (tmp_path / "fleet").exists()
    kit(*options, "phrase", cwd=tmp_path)
    for key in (tmp_path / "fleet" / "tuf" / "keys").iterdir():
        assert "ENCRYPTED" in key.read_text()
    sign = ("deploy", "release", "sign", "--fleet", "fleet")
    assert "passphrase" in kit(*sign, cwd=tmp_path, code=2).stderr
    kit(*sign, "--passphrase-file", "phrase", cwd=tmp_path)
