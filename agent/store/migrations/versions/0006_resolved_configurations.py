"""Ideas are found by the configuration that they come to; what planners expected is a view."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_proposals_campaign_id_config_hash"), "proposals", ["campaign_id", "config_hash"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_proposals_campaign_id_config_hash"), table_name="proposals")
