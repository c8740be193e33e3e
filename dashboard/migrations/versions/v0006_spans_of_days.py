"""Of each day also when what was in which state; every event is looked at once more for that."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make them. Days whose events are gone keep their sums."""
    for name, before in (("since", ""), ("spans", "[]")):
        op.add_column("availability", sa.Column(name, sa.Text, nullable=False, server_default=before))
    op.drop_index("availability_day", "availability")
    op.create_index("availability_name", "availability", ["store", "about", "name", "day"])
    op.execute(sa.text("DELETE FROM progress WHERE name = 'availability'"))
