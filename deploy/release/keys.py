"""The keys that releases are signed with: Ed25519."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # as documented

from deploy.keys import read_key, save_key

NAMES = ("root-1", "root-2", "targets", "snapshot", "timestamp")


def role_of(name: str) -> str:
    """Return the role that a key signs for."""
    return name.partition("-")[0]


def private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read a key.

    Raises:
        ConfigError: There is none, or it is of another kind.
        UsageError: It is encrypted, and the passphrase does not open it.
    """
    return read_key(path, Ed25519PrivateKey, passphrase)  # type: ignore[type-abstract]  # never made


def signer(path: Path, passphrase: bytes | None = None) -> CryptoSigner:
    """Return what signs with a key.

    Raises:
        ConfigError: There is none, or it is of another kind.
        UsageError: The passphrase does not open it.
    """
    return CryptoSigner(private_key(path, passphrase))


def write_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Make a key, for its owner alone; encrypted if there is a passphrase.

    Raises:
        DataError: It cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    save_key(path, key, passphrase)
    return key
