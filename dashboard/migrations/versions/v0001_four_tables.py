"""The first four tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "event",
        sa.Column("row", _BIG, primary_key=True, autoincrement=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("sequence", _BIG, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("received", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("source", "id"),
    )
    op.create_index("event_place", "event", ["source", "stream", "sequence"])
    op.create_table(
        "stream",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("upto", _BIG, nullable=False),
    )
    op.create_table(
        "gap",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("first", _BIG, primary_key=True),
        sa.Column("last", _BIG, nullable=False),
        sa.Column("noted", sa.Text, nullable=False),
    )
    op.create_table(
        "device",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("state", sa.Text),
        sa.Column("health", sa.Text),
    )
