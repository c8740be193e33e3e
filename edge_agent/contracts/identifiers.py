"""Names of things: stores, devices, slots, GTINs, event ids."""

import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

# Each is a whole level of an MQTT topic and a file name: no slash, no wildcard, no leading dot.
PLAIN = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""The name of a store, a device, a shelf or a slot, as a regular expression."""
NAME = f"^{PLAIN}$"

StoreId = Annotated[str, StringConstraints(pattern=NAME)]
DeviceId = Annotated[str, StringConstraints(pattern=NAME)]
ShelfId = Annotated[str, StringConstraints(pattern=NAME)]
SlotId = Annotated[str, StringConstraints(pattern=NAME)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f/]+$")]

EMPTY = "empty"
"""The reserved label of an empty slot."""

_GTIN_LENGTHS = (8, 12, 13, 14)
_GTIN_DIGITS = 14


# A shop has so many products, and a recorder reads the same ones thousands of times a second.
@lru_cache(maxsize=4096)
def gtin14(text: str) -> str:
    """Return a GTIN-8, -12, -13 or -14 as its 14 digits.

    The check digit is verified with the modulo-10 rule of the GS1 General Specifications, section 7.9.

    Raises:
        ValueError: Wrong length, a character that is no digit, or a wrong check digit.
    """
    if not (text.isascii() and text.isdigit()) or len(text) not in _GTIN_LENGTHS:
        msg = f"Expected: a GTIN of 8, 12, 13 or 14 digits. Received: {text!r}."
        raise ValueError(msg)
    digits = [int(digit) for digit in text.zfill(_GTIN_DIGITS)]
    total = sum(digit * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits[:-1]))
    check = -total % 10
    if check != digits[-1]:
        msg = f"Expected: check digit {check}. Received: {digits[-1]} in {text!r}."
        raise ValueError(msg)
    return text.zfill(_GTIN_DIGITS)


Gtin = Annotated[str, AfterValidator(gtin14)]


def uuid7(unix_ms: int, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7): 48 bits of time, 74 bits of randomness.

    Args:
        unix_ms: Milliseconds since 1970-01-01T00:00:00Z.
        random_bytes: Source of randomness, given the number of bytes wanted.
    """
    noise = int.from_bytes(random_bytes(10))
    value = (unix_ms & (1 << 48) - 1) << 80 | 7 << 76 | (noise >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
