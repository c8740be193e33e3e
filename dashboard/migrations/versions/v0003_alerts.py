"""Alerts, mutes, and what was delivered."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=nullable) for name in names]


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "alert",
        sa.Column("id", sa.Text, primary_key=True),
        *_texts("rule", "kind", "store", "device", "shelf", "subject", "label", "name", "gtin", "detail"),
        *_texts("since"),
        *_texts("opened", "announced", "told", "closed", "taken", nullable=True),
        sa.Column("times", sa.Integer, nullable=False),
        *_texts("taken_by"),
        sa.Column("done", sa.Boolean, nullable=False),
    )
    op.create_index("alert_done", "alert", ["done", "closed"])
    op.create_table(
        "alert_mute",
        sa.Column("id", sa.Text, primary_key=True),
        *_texts("store", "device", "rule", "label", "made", "made_by"),
        *_texts("until", nullable=True),
    )
    op.create_table(
        "alert_delivery",
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        *_texts("created", "body", "state", "due", "said"),
        *_texts("ended", nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_index("alert_delivery_due", "alert_delivery", ["state", "channel", "due"])
