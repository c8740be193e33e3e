"""The keys that releases are signed with: PKCS#8 PEM, Ed25519."""

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # as documented

from edge_agent.contracts.errors import ConfigError, DataError, UsageError
from edge_agent.contracts.files import written_beside

NAMES = ("root-1", "root-2", "targets", "snapshot", "timestamp")


def role_of(name: str) -> str:
    """Return the role that a key signs for."""
    return name.partition("-")[0]


def read_passphrase(file: Path | None) -> bytes | None:
    """Return what a file says, without its last line end; None where there is no file.

    Raises:
        DataError: It cannot be read, or is empty.
    """
    if file is None:
        return None
    try:
        phrase = file.read_bytes().rstrip(b"\r\n")
    except OSError as exc:
        raise DataError(f"Expected: a passphrase. Received: {file}: {exc.strerror}.") from exc
    if not phrase:
        raise DataError(f"Expected: a passphrase. Received: {file}, which is empty.")
    return phrase


def private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read a key.

    Raises:
        ConfigError: There is none, or it is of another kind.
        UsageError: It is encrypted, and the passphrase does not open it.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as exc:
        raise ConfigError(
            f"Expected: the key {path}. Received: {exc.strerror}.",
            hint="`shelfkit deploy fleet init` makes the keys; name one that is kept elsewhere with --key",
        ) from exc
    except TypeError as exc:
        if passphrase is not None:
            return private_key(path)
        raise UsageError(
            f"Expected: the passphrase of {path}. Received: none.", hint="name it: --passphrase-file FILE"
        ) from exc
    except ValueError as exc:
        raise UsageError(
            f"Expected: a key that can be opened. Received: {path}: a wrong passphrase or no key."
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"Expected: an Ed25519 key. Received: {path}: {type(key).__name__}.")
    return key


def signer(path: Path, passphrase: bytes | None = None) -> CryptoSigner:
    """Return what signs with a key.

    Raises:
        ConfigError: There is none, or it is of another kind.
        UsageError: The passphrase does not open it.
    """
    return CryptoSigner(private_key(path, passphrase))


def write_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Make a key, for its owner alone; encrypted if there is a passphrase."""
    key = Ed25519PrivateKey.generate()
    sealed = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    with written_beside(path) as staged:
        handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
    return key
