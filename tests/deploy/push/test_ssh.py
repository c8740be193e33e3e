"""Commands and files over a real SSH connection, and every way in which it does not come to be."""

import random
from pathlib import Path

import pytest

from deploy.ssh import Login, RemoteError, Ssh, UnreachableError
from edge_agent.contracts.errors import UsageError
from tests.brokers import free_port
from tests.sshd import SshServer


def test_a_script_gets_its_words_as_they_are(sshd: SshServer) -> None:
    words = ("a b", "$HOME", "'", '"; exit 3', "-n")
    with Ssh(sshd.login) as ssh:
        said = ssh.script('for word; do printf "%s\\n" "$word"; done', *words, what="to say it")
        assert said.splitlines() == list(words)
        with pytest.raises(RemoteError, match=r"to fail.*exit code 5: no such thing") as failed:
            ssh.script("echo no such thing >&2; exit 5", what="to fail")
    assert failed.value.exit_code == 7


class CutError(Exception):
    """The operator's machine goes down."""


def test_a_file_that_was_cut_short_is_gone_on_with(sshd: SshServer, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(6_000_000)
    source, target = tmp_path / "source", tmp_path / "there" / "a file"
    source.write_bytes(content)

    def cut(done: int) -> None:
        if done > 3_000_000:
            raise CutError

    with Ssh(sshd.login) as ssh, pytest.raises(CutError):
        ssh.upload(source, str(target), cut)
    with Ssh(sshd.login) as ssh:
        arrived = target.stat().st_size
        assert 0 < arrived < len(content)
        assert ssh.upload(source, str(target)) == len(content) - target.stat().st_size or target.exists()
        assert target.read_bytes() == content
        assert ssh.upload(source, str(target)) == 0


@pytest.mark.parametrize("there", [b"other bytes" * 1000, b"x" * 100_001, b"x" * 100_000])
def test_what_lies_there_already_is_not_believed(sshd: SshServer, tmp_path: Path, there: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"y" * 100_000)
    target.write_bytes(there)
    with Ssh(sshd.login) as ssh:
        assert ssh.upload(source, str(target)) >= 100_000
    assert target.read_bytes() == source.read_bytes()


def test_a_disk_that_does_not_take_it_is_told(sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"y" * 3_000_000)
    (tmp_path / "full").symlink_to("/dev/full")
    with Ssh(sshd.login) as ssh, pytest.raises(RemoteError, match="No space left"):
        ssh.upload(tmp_path / "source", str(tmp_path / "full"))


def test_every_way_not_to_get_in_is_told_with_what_to_do(sshd: SshServer, tmp_path: Path) -> None:
    def refused(login: Login) -> UnreachableError:
        with Ssh(login) as ssh, pytest.raises(UnreachableError) as error:
            ssh.script("true", what="nothing")
        assert error.value.exit_code == 7
        return error.value

    assert "Connection refused" in str(refused(Login("127.0.0.1", free_port(), sshd.options)))
    (sshd.folder / "user").rename(tmp_path / "away")
    assert "ssh-copy-id" in refused(sshd.login).hint
    (tmp_path / "away").rename(sshd.folder / "user")
    # Another machine answers under the same address.
    sshd.known(sshd.folder / "user.pub")
    assert "compare its key" in refused(sshd.login).hint


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "a\nb"])
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(UsageError):
        Login(host)
