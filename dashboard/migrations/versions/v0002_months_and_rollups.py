"""Months on PostgreSQL, the highest sequence of a stream, reasons of gaps, quarantine, roll-ups."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# A UUIDv7 says in its first 48 bits how many milliseconds after 1970 it was made.
_BEFORE = "row, source, id, stream, sequence, type, subject, received, body"
_MONTH = """
CASE WHEN id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
THEN to_char(to_timestamp(('x' || replace(left(id, 13), '-', ''))::bit(48)::bigint / 1000) AT TIME ZONE 'UTC',
    'FMYYYYMM')::int
ELSE 0 END
"""

_TABLE = """
CREATE TABLE event (
    row bigserial, source text NOT NULL, id text NOT NULL, stream text NOT NULL, sequence bigint NOT NULL,
    type text NOT NULL, subject text NOT NULL, received text NOT NULL, body text NOT NULL,
    month integer NOT NULL, PRIMARY KEY (row, month), UNIQUE (source, id, month)
) PARTITION BY RANGE (month)
"""


def upgrade() -> None:
    """Make them."""
    if op.get_bind().dialect.name == "postgresql":
        _partition()
    op.create_index("event_time", "event", ["source", "received"])
    op.add_column("stream", sa.Column("top", _BIG))
    op.add_column("gap", sa.Column("reason", sa.Text))
    op.create_table(
        "quarantine",
        sa.Column("row", _BIG, primary_key=True, autoincrement=True),
        sa.Column("received", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "availability",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("source", "subject", "day")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("store", "shelf", "about", "name")),
        *(
            sa.Column(name, sa.Integer, nullable=False)
            for name in ("available_s", "low_s", "missing_s", "other_s", "events")
        ),
        sa.Column("last", sa.Text, nullable=False),
    )
    op.create_index("availability_day", "availability", ["store", "day"])
    op.create_table("progress", sa.Column("name", sa.Text, primary_key=True), sa.Column("row", _BIG))


def _partition() -> None:
    """Move the events into a table of months; all of them into the fallback, which upkeep divides."""
    for line in (
        "ALTER TABLE event RENAME TO event_before",
        "ALTER SEQUENCE event_row_seq RENAME TO event_before_row_seq",
        "ALTER INDEX event_place RENAME TO event_before_place",
        "ALTER TABLE event_before DROP CONSTRAINT event_source_id_key",
        "ALTER INDEX event_pkey RENAME TO event_before_pkey",
        _TABLE,
        "CREATE TABLE event_other PARTITION OF event DEFAULT",
        "CREATE INDEX event_place ON event (source, stream, sequence)",
        f"INSERT INTO event SELECT {_BEFORE}, {_MONTH} FROM event_before",  # noqa: S608 - our own words
        "SELECT setval('event_row_seq', (SELECT max(row) FROM event_before))",
        "DROP TABLE event_before",
    ):
        op.execute(sa.text(line))
