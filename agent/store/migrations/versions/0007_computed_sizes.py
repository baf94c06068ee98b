"""A size that was computed has a column of its own: `expected_bytes` is the planner's own word."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Older sizes stay where they are: nothing says any more who gave them.
    op.add_column("proposals", sa.Column("sized_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("proposals", "sized_bytes")
