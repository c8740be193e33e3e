"""Hypothesis strategies for everything on the wire."""

import string
from datetime import UTC, datetime

from hypothesis import strategies as st

from edge_agent.contracts.events import (
    CameraData,
    CameraFault,
    DeviceData,
    Event,
    EventData,
    Kind,
    ModelRef,
    ProductData,
    ProductRef,
    SlotCondition,
    SlotData,
)
from edge_agent.contracts.identifiers import uuid7

names = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=20).filter(
    lambda name: name[0].isalnum()
)
texts = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1, max_size=30
)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
products = st.builds(ProductRef, label=texts, name=texts, gtin=st.sampled_from([None, "09506000134352"]))
models = st.builds(ModelRef, name=texts, version=names)
shares = st.floats(0, 1, allow_nan=False)

_slot_fields = {
    "store": names,
    "shelf": names,
    "slot": names,
    "state": st.sampled_from(SlotCondition),
    "previous": st.none() | st.sampled_from(SlotCondition),
    "label": st.none() | texts,
    "since": times,
    "product": products,
    "confidence": shares,
    "model": models,
}
_data: dict[str, st.SearchStrategy[EventData]] = {
    "slot": st.builds(SlotData, **_slot_fields),
    "product": st.builds(ProductData, facings=st.integers(1, 99), filled=st.integers(0, 99), **_slot_fields),
    "camera": st.builds(
        CameraData, store=names, shelf=names, fault=st.sampled_from(CameraFault), since=times
    ),
    "device": st.builds(
        DeviceData, store=names, agent=names, model=st.none() | models, reason=st.none() | texts
    ),
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event of version 1."""
    kind = draw(st.sampled_from(Kind))
    noise = draw(st.binary(min_size=10, max_size=10))
    return Event(
        id=uuid7(draw(st.integers(0, 2**48 - 1)), lambda _count: noise),
        source=f"/stores/{draw(names)}/devices/{draw(names)}",
        type=kind.type,
        subject=draw(texts),
        time=draw(times),
        sequence=draw(st.integers(1, 10**15)),
        streamid=draw(st.text("0123456789abcdef", min_size=32, max_size=32)),
        data=draw(_data[kind.about]),
    )
