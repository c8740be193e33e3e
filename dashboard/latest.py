"""What each device said last, and when: written with a batch; a device that is gone is forgotten.

A last will says one word, and leaves what the device itself said before. `heard` is when a message came
from the device by the recorder's clock: what a broker has kept, and what it says for a device, is no word
of the device. So a device that somebody has forgotten does not come back with what a broker still keeps
of it, but with the first thing that it says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dashboard.tables import DEVICES, FORGOTTEN, insert_into
from edge_agent.contracts.times import rfc3339

Latest = Mapping[str, Mapping[str, str | None]]
"""By source: `store` and `device`; `state` and `health`, None where it was taken back; `will`, `heard`."""

_CHUNK = 1000
_KEPT = ("state", "health", "heard")


def note(connection: Connection, latest: Latest) -> None:
    """Keep what devices said last."""
    by_shape: dict[tuple[str, ...], list[dict[str, str | None]]] = {}
    for source, values in _completed(connection, latest):
        by_shape.setdefault(tuple(values), []).append({"source": source, **values})
    for shape, rows in by_shape.items():
        insert = insert_into(connection.dialect.name, DEVICES)
        changed = {name: insert.excluded[name] for name in shape if name in _KEPT}
        connection.execute(insert.on_conflict_do_update(index_elements=["source"], set_=changed), rows)
    nothing = DEVICES.c.state.is_(None), DEVICES.c.health.is_(None)
    for chunk in _chunks([source for source, values in latest.items() if None in values.values()]):
        connection.execute(sa.delete(DEVICES).where(DEVICES.c.source.in_(chunk), *nothing))


def forget(connection: Connection, source: str, now: datetime) -> bool:
    """Take a device out of every list until it says something; return whether it was there.

    Its events, its gaps and its days stay.
    """
    there = connection.execute(sa.delete(DEVICES).where(DEVICES.c.source == source)).rowcount > 0
    if there:
        insert = insert_into(connection.dialect.name, FORGOTTEN).values(source=source, noted=rfc3339(now))
        connection.execute(insert.on_conflict_do_nothing())
    return there


def _completed(connection: Connection, latest: Latest) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """Yield what is to be written: wills on what was said before, and nothing of who is forgotten."""
    forgotten = _forgotten(connection, latest)
    wills = [source for source, values in latest.items() if "will" in values and "health" not in values]
    before: dict[str, str | None] = {}
    for chunk in _chunks(wills):
        query = sa.select(DEVICES.c.source, DEVICES.c.health).where(DEVICES.c.source.in_(chunk))
        before |= {row.source: row.health for row in connection.execute(query)}
    for source, given in latest.items():
        if source in forgotten:
            continue
        values = dict(given)
        will = values.pop("will", None)
        if will is not None:
            said = json.loads(values.get("health") or before.get(source) or "{}")
            values["health"] = json.dumps(said | json.loads(will), separators=(",", ":"), ensure_ascii=False)
        yield source, values


def _forgotten(connection: Connection, latest: Latest) -> set[str]:
    """Return who is forgotten; whoever says something now is so no longer."""
    found: set[str] = set(connection.execute(sa.select(FORGOTTEN.c.source)).scalars())
    back = [source for source in latest if source in found and "heard" in latest[source]]
    for chunk in _chunks(back):
        connection.execute(sa.delete(FORGOTTEN).where(FORGOTTEN.c.source.in_(chunk)))
    return found.difference(back)


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), _CHUNK):
        yield items[first : first + _CHUNK]
