"""What a script says of its own clock, beside its steps; and which jobs of workers their machine lost."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("measurements", sa.Column("train_ms", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("machine", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("jobs", "machine")
    op.drop_column("measurements", "train_ms")
