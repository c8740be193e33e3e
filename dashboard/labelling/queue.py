"""Pictures that wait for a label: each once, however often it comes, in one folder with one database.

A picture is kept as PNG under the hash of its pixels: what came in is decoded, and no more of it is kept.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.pool import NullPool

from dashboard.schema import patient, writing
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.identifiers import Label
from edge_agent.contracts.preprocess import Image

_FILE, _PICTURES = "labels.sqlite", "pictures"
_METADATA = sa.MetaData()
_LABEL = TypeAdapter(Label)
_MARKS = ("=", "+", "-", "@", "\t")
_KNOWN = ("guess", "second", "confirmed")

ITEMS = sa.Table(
    "item",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("guess", sa.Text, nullable=False),
    sa.Column("confidence", sa.Text, nullable=False),
    sa.Column("second", sa.Text, nullable=False),
    sa.Column("second_confidence", sa.Text, nullable=False),
    sa.Column("confirmed", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False, server_default=""),
    sa.Column("state", sa.Text, nullable=False, server_default="open"),
    sa.Column("by", sa.Text, nullable=False, server_default=""),
)
"""`state` is open, labelled or skipped."""

REPORTS = sa.Table(
    "report",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("guess", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
)
"""Readings that somebody called wrong, of which there is no picture."""

Row = dict[str, Any]
TOLD = ("device", "slot", "group", "reason", "time", *_KNOWN, "confidence", "second_confidence")
"""What may be said of a picture that comes in; besides model and version."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pictures there are."""

    open: int
    labelled: int
    skipped: int


class Queue:
    """Pictures and their labels.

    Args:
        folder: Where they are kept; made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(f"sqlite:///{folder / _FILE}", poolclass=NullPool)
        sa.event.listen(self._engine, "connect", patient)
        # Recorders that share a folder may start at one moment.
        with writing(self._engine) as connection:
            _METADATA.create_all(connection)

    def add(self, picture: Image, told: Row, label: str = "", by: str = "") -> bool:
        """Keep a picture; return whether it is new.

        Args:
            picture: uint8, (height, width, 3), BGR.
            told: What is known of it, of `TOLD`, model and version.
            label: Where it has one already.
            by: Who gave it.
        """
        shape = np.array(picture.shape, np.uint32).tobytes()
        name = hashlib.sha256(shape + np.ascontiguousarray(picture).tobytes()).hexdigest()[:32]
        path = self.path(name)
        if not path.exists():
            _, data = cv2.imencode(".png", picture)
            with written_beside(path) as staged:
                staged.write_bytes(data.tobytes())
        values = {key: str(told.get(key) or "") for key in (*TOLD, "model", "version")}
        values |= {"name": name, "label": label, "state": "labelled" if label else "open", "by": by}
        with self._engine.begin() as connection:
            known = connection.execute(sa.select(ITEMS.c.number).where(ITEMS.c.name == name)).first()
            if known is None:
                connection.execute(sa.insert(ITEMS), values)
            connection.execute(
                sa.delete(REPORTS).where(
                    REPORTS.c.device == values["device"], REPORTS.c.slot == values["slot"]
                )
            )
        return known is None

    def items(self, state: str, limit: int) -> list[Row]:
        """Return pictures of a state; those that somebody called wrong come first, then the oldest."""
        first = sa.case((ITEMS.c.reason == "wrong", 0), else_=1)
        query = sa.select(ITEMS).order_by(first, ITEMS.c.number).limit(limit)
        if state:
            query = query.where(ITEMS.c.state == state)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def counts(self) -> Counts:
        """Return how many pictures there are of each state."""
        query = sa.select(ITEMS.c.state, sa.func.count()).group_by(ITEMS.c.state)
        with self._engine.connect() as connection:
            found = {row[0]: int(row[1]) for row in connection.execute(query).all()}
        return Counts(found.get("open", 0), found.get("labelled", 0), found.get("skipped", 0))

    def labels(self) -> list[str]:
        """Return every label that is known, the most used first."""
        seen: Counter[str] = Counter()
        with self._engine.connect() as connection:
            for row in connection.execute(sa.select(ITEMS.c.label, *(ITEMS.c[key] for key in _KNOWN))):
                seen.update({text: 1 for text in row[1:] if text})
                if row.label:
                    seen[row.label] += 1000
        return [label for label, _ in sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))]

    def label(self, name: str, label: str, state: str, by: str) -> bool:
        """Give a picture a label, or set it aside, or take both back; return whether there is such a picture.

        Raises:
            UsageError: It can be no label.
        """
        kept = fitting(label) if state == "labelled" else ""
        change = sa.update(ITEMS).where(ITEMS.c.name == name).values(label=kept, state=state, by=by)
        with self._engine.begin() as connection:
            return connection.execute(change).rowcount > 0

    def report(self, row: Row) -> None:
        """Note a reading that somebody called wrong, of which there is no picture."""
        with self._engine.begin() as connection:
            same = (REPORTS.c.device == row["device"]) & (REPORTS.c.slot == row["slot"])
            connection.execute(sa.delete(REPORTS).where(same & (REPORTS.c.store == row["store"])))
            connection.execute(sa.insert(REPORTS), row)

    def reports(self) -> list[Row]:
        """Return those readings, the newest first."""
        with self._engine.connect() as connection:
            query = sa.select(REPORTS).order_by(REPORTS.c.number.desc()).limit(500)
            return [dict(row) for row in connection.execute(query).mappings()]

    def dismiss(self, number: int) -> None:
        """Forget one of them."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(REPORTS).where(REPORTS.c.number == number))

    def picture(self, name: str) -> bytes | None:
        """Return a picture as PNG; None where there is none of that name."""
        if not (name.isascii() and name.isalnum()):
            return None
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def path(self, name: str) -> Path:
        """Return where a picture lies."""
        return self._folder / _PICTURES / f"{name}.png"


def fitting(label: str) -> str:
    """Return a label as it is kept.

    Raises:
        UsageError: It can be none.
    """
    label = label.strip()
    try:
        _LABEL.validate_python(label)
    except ValidationError as exc:
        raise UsageError(
            f"Expected: a label of 1 to 128 characters, no `/`. Received: {label!r:.80}."
        ) from exc
    # A spreadsheet would take it for a formula.
    if label.startswith(_MARKS):
        raise UsageError(f"Expected: a label that begins with a letter or digit. Received: {label!r:.80}.")
    return label


def checked_state(state: object) -> str:
    """Return a state that a picture may be given.

    Raises:
        DataError: There is no such state.
    """
    if not isinstance(state, str) or state not in {"open", "labelled", "skipped"}:
        raise DataError(f"Expected: open, labelled or skipped. Received: {state!r:.40}.")
    return state
