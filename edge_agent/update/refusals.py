"""Why a repository, a release or an archive is refused: one class for each reason.

    BundleError
      RefusedError
        DamagedError         damaged           content does not match its signature or hash
        UntrustedError       wrong key         nobody signed it whom this device trusts
        BelowThresholdError  below threshold   some signed it, too few of them
        ReplayedError        replayed          older than what this device has already seen
        ExpiredError         expired           too old by the device's clock
        EndlessError         endless data      larger than it may be
        MixedError           mix and match     parts of different states of the repository
        NotOfferedError      not found         the repository has no such release

Trouble with the network is a `ServiceError`, with the device's own disk a `DeviceError`: neither says
anything about a release.
"""

from datetime import datetime
from typing import ClassVar

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # as documented

from edge_agent.contracts.errors import BundleError


class RefusedError(BundleError):
    """A repository or release that this device does not take."""

    reason: ClassVar[str] = "refused"


class DamagedError(RefusedError):
    """Content does not match its signature or hash."""

    reason = "damaged"


class UntrustedError(RefusedError):
    """Nobody signed it whom this device trusts."""

    reason = "wrong key"


class BelowThresholdError(RefusedError):
    """Too few of those whom this device trusts have signed it."""

    reason = "below threshold"


class ReplayedError(RefusedError):
    """Older than what this device has seen."""

    reason = "replayed"


class ExpiredError(RefusedError):
    """Too old by the device's clock; no fault of a release, and over once either is put right."""

    reason = "expired"


class EndlessError(RefusedError):
    """Larger than it may be."""

    reason = "endless data"


class MixedError(RefusedError):
    """Parts of different states of the repository."""

    reason = "mix and match"


class NotOfferedError(RefusedError):
    """The repository has no such release."""

    reason = "not found"


def refused(
    error: exceptions.RepositoryError, name: str, data: bytes, root: Root, now: datetime
) -> RefusedError:
    """Return why metadata was refused, for its own reason.

    Args:
        error: What The Update Framework says.
        name: The file that came last, such as `7.snapshot.json`.
        data: What it held.
        root: Whom this device trusts.
        now: The device's clock.
    """
    version, _, rest = name.rpartition("/")[2].partition(".")
    role = (rest if version.isdigit() else version).partition(".")[0]
    if isinstance(error, exceptions.ExpiredMetadataError):
        return ExpiredError(
            f"Expected: metadata that holds at {now:%Y-%m-%d %H:%M} UTC, this device's time. "
            f"Received: {_expiry(role, data)}.",
            hint="check the device's clock; then sign the repository again: shelfkit deploy release sign",
        )
    if isinstance(error, exceptions.UnsignedMetadataError):
        return _unsigned(role, data, root)
    if isinstance(error, exceptions.BadVersionNumberError):
        return _misplaced(role, version, data, error)
    return DamagedError(f"Expected: the repository's {name}. Received: damaged: {error!s:.200}.")


def _expiry(role: str, data: bytes) -> str:
    try:
        signed = Metadata.from_bytes(data).signed
    except exceptions.RepositoryError:
        return f"{role} that has expired"
    return f"{signed.type} that expired at {signed.expires:%Y-%m-%d %H:%M}"


def _unsigned(role: str, data: bytes, root: Root) -> RefusedError:
    found = Metadata.from_bytes(data)
    asked = [root]
    if isinstance(found.signed, Root):
        asked.append(found.signed)
    for signer in asked:
        result = signer.get_verification_result(role, found.signed_bytes, found.signatures)
        if result.verified:
            continue
        if any(key in found.signatures for key in result.unsigned):
            return DamagedError(
                f"Expected: {role} as it was signed. Received: content that its signature does not fit."
            )
        if not result.signed:
            return UntrustedError(
                f"Expected: {role} signed by a key that this device trusts. Received: other keys."
            )
        return BelowThresholdError(
            f"Expected: {result.threshold} signatures of {role}. Received: {len(result.signed)}."
        )
    return UntrustedError(f"Expected: {role} signed by a key that this device trusts. Received: other keys.")


def _misplaced(role: str, version: str, data: bytes, error: Exception) -> RefusedError:
    held = Metadata.from_bytes(data).signed.version
    if version.isdigit() and held != int(version):
        return MixedError(
            f"Expected: {role} {version}. Received: {role} {held}, of another state of the repository."
        )
    return ReplayedError(
        f"Expected: {role} no older than what this device has seen. Received: {error!s:.200}."
    )
