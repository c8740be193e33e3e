"""Certificates that others have made: what is in them, and how one that cannot be read shows."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""What reading or verifying one raises: much of it is looked at only when it is asked for."""


def common_names(found: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """Return whose it is.

    Raises:
        UNREADABLE: Its names are none.
    """
    return [str(item.value) for item in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
