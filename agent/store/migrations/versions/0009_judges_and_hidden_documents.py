"""Which source judged a run, and the nats of the documents that no score is made of."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("measurements", sa.Column("judge_sha", sa.Text(), nullable=True))
    op.add_column("doc_nats", sa.Column("hidden", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("doc_nats", "hidden")
    op.drop_column("measurements", "judge_sha")
