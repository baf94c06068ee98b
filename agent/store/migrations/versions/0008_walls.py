"""Whether a person allowed a campaign to run a model's code without walls around it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("unsafe", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("campaigns", "unsafe")
