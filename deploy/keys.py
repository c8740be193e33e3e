"""Private keys in files: PKCS#8 PEM, for their owner alone, encrypted where there is a passphrase."""

import os
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.contracts.errors import ConfigError, DataError, UsageError
from edge_agent.contracts.files import written_beside

AnyKey = TypeVar("AnyKey", Ed25519PrivateKey, EllipticCurvePrivateKey)

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="SHELFKIT_PASSPHRASE_FILE",
        help="File with the passphrase of the fleet's own keys.",
    ),
]


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


def read_key(path: Path, kind: type[AnyKey], passphrase: bytes | None = None) -> AnyKey:
    """Read a key.

    Args:
        path: The file.
        kind: What it must be.
        passphrase: Of an encrypted one; left alone where it is not encrypted.

    Raises:
        ConfigError: There is none, or it is of another kind.
        UsageError: It is encrypted, and the passphrase does not open it.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as exc:
        raise ConfigError(
            f"Expected: the key {path}. Received: {exc.strerror}.",
            hint="`shelfkit deploy fleet init` makes the keys; bring it here, or name where it is kept",
        ) from exc
    except TypeError as exc:
        if passphrase is not None:
            return read_key(path, kind)
        raise UsageError(
            f"Expected: the passphrase of {path}. Received: none.", hint="name it: --passphrase-file FILE"
        ) from exc
    except ValueError as exc:
        raise UsageError(
            f"Expected: a key that can be opened. Received: {path}: a wrong passphrase or no key."
        ) from exc
    if not isinstance(key, kind):
        raise ConfigError(f"Expected: {kind.__name__}. Received: {path}: {type(key).__name__}.")
    return key


def key_pem(key: AnyKey, passphrase: bytes | None = None) -> bytes:
    """Return a key as PKCS#8 PEM, encrypted if there is a passphrase."""
    sealed = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)


def save_key(path: Path, key: AnyKey, passphrase: bytes | None = None) -> None:
    """Write a key, for its owner alone; encrypted if there is a passphrase.

    Raises:
        DataError: It cannot be written.
    """
    try:
        with written_beside(path) as staged:
            handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(key_pem(key, passphrase))
    except OSError as exc:
        raise DataError(f"Expected: a place for the key {path}. Received: {exc.strerror}.") from exc
