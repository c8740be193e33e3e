"""GTINs, event ids, names."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from edge_agent.contracts.identifiers import DeviceId, gtin14, uuid7


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("9506000134352", "09506000134352"),
        ("09506000134352", "09506000134352"),
        ("96385074", "00000096385074"),
        ("036000291452", "00036000291452"),
    ],
)
def test_every_length_is_stored_as_14_digits(written: str, stored: str) -> None:
    assert gtin14(written) == stored


@given(st.integers(0, 10**12 - 1), st.integers(0, 11), st.integers(1, 9))
def test_a_single_wrong_digit_is_always_noticed(number: int, place: int, shift: int) -> None:
    digits = f"{number:012d}"
    weighted = sum(int(digit) * (3 if i % 2 else 1) for i, digit in enumerate(digits))
    right = digits + str(-weighted % 10)
    assert gtin14(right) == right.zfill(14)
    wrong = right[:place] + str((int(right[place]) + shift) % 10) + right[place + 1 :]
    with pytest.raises(ValueError, match="check digit"):
        gtin14(wrong)


@pytest.mark.parametrize("text", ["", "123", "95060001343520000", "950600013435x", "٩٥٠٦٠٠٠١٣٤٣٥٢"])
def test_what_is_no_gtin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Expected: a GTIN"):
        gtin14(text)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_event_ids_are_version_7_and_carry_their_time(moment: int, noise: bytes) -> None:
    parsed = uuid.UUID(uuid7(moment, lambda _count: noise))
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == moment


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_later_ids_sort_later(moment: int, early: bytes, late: bytes) -> None:
    assert uuid7(moment, lambda _count: early) < uuid7(moment + 1, lambda _count: late)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", ".hidden", "-x", "a" * 65, "é", "a\n"])
def test_a_name_is_one_level_of_a_topic(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DeviceId).validate_python(name)
