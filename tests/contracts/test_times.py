"""Moments on the wire, those that are out of reach among them."""

import pytest

from edge_agent.contracts import messages
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.messages import Health
from edge_agent.contracts.times import moment

BEYOND = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00")


@pytest.mark.parametrize("text", BEYOND)
def test_a_moment_out_of_reach_is_refused_as_any_other_text(text: str) -> None:
    assert moment(text) is None
    with pytest.raises(DataError, match="a moment of the years"):
        messages.decode(Health, f'{{"status": "online", "time": "{text}"}}'.encode())


@pytest.mark.parametrize(
    ("text", "there"), [("2026-11-23T09:14:05.120Z", True), ("2026-11-23T09:14:05", False), ("now", False)]
)
def test_a_moment_has_a_zone(text: str, there: bool) -> None:
    assert (moment(text) is not None) == there
