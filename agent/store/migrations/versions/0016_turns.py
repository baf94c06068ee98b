"""What several campaigns need to take turns on the same workers, and runs that must be on one of them."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("kinds", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("workers", sa.Column("refused", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("gpus", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("wall_s", sa.Double(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("only", sa.Integer(), nullable=True))


def downgrade() -> None:
    for table, column in (("jobs", "only"), ("jobs", "wall_s"), ("jobs", "gpus"), ("workers", "refused")):
        op.drop_column(table, column)
    op.drop_column("workers", "kinds")
