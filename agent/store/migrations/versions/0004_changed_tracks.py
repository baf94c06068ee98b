"""Where the track file of a campaign is, so that a resume finds what a person changed in it; events by proposal."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("track_file", sa.Text(), server_default="", nullable=False))
    op.execute("UPDATE campaigns SET track_file = track")  # right for those that come with Caddie
    op.create_index(op.f("ix_events_proposal_id_what"), "events", ["proposal_id", "what"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_events_proposal_id_what"), table_name="events")
    op.drop_column("campaigns", "track_file")
