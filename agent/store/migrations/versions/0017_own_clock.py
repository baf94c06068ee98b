"""What a script says of its own clock, beside its steps."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("measurements", sa.Column("train_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("measurements", "train_ms")
