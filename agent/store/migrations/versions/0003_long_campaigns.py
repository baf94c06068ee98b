"""Indexes for the newest proposals of a campaign and those of one planner: a long campaign must not slow down."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_proposals_campaign_id_id"), "proposals", ["campaign_id", "id"], unique=False)
    op.create_index(op.f("ix_proposals_campaign_id_planner"), "proposals", ["campaign_id", "planner"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_proposals_campaign_id_planner"), table_name="proposals")
    op.drop_index(op.f("ix_proposals_campaign_id_id"), table_name="proposals")
