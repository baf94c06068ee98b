"""Where a campaign's runs are: the names of its runners."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("runner", sa.Text(), nullable=False, server_default="local"))


def downgrade() -> None:
    op.drop_column("campaigns", "runner")
