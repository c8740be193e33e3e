"""When each device was last heard, and which are forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make them."""
    op.add_column("device", sa.Column("heard", sa.Text))
    op.create_table(
        "forgotten",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("noted", sa.Text, nullable=False),
    )
