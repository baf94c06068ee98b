"""Where what was accepted was scored once more, and what came of it."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rescores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("by_run_id", sa.Integer(), nullable=True),
        sa.Column("trained_on", sa.Text(), server_default="", nullable=False),
        sa.Column("scored_on", sa.Text(), server_default="", nullable=False),
        sa.Column("bpb", sa.Double(), nullable=True),
        sa.Column("apart_nats", sa.Double(), nullable=True),
        sa.Column("allowed_nats", sa.Double(), nullable=True),
        sa.Column("agrees", sa.Integer(), nullable=True),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_rescores_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_rescores_proposal_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_rescores_run_id")),
        sa.ForeignKeyConstraint(["by_run_id"], ["runs.id"], name=op.f("fk_rescores_by_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescores")),
        sa.UniqueConstraint("run_id", name=op.f("uq_rescores_run_id")),
    )
    op.create_index(op.f("ix_rescores_proposal_id"), "rescores", ["proposal_id"], unique=False)


def downgrade() -> None:
    op.drop_table("rescores")
