"""Days are those of the store's zone, counted as pages do; every event is looked at once more for them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make them."""
    for name in ("gaps", "longest_s"):
        op.add_column("availability", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "rolled",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("next", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
    )
    op.execute(sa.text("DELETE FROM progress WHERE name = 'availability'"))
