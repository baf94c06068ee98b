"""What machines showed of themselves before they were used, and on which lease each run was."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("lease", sa.Text(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("set_aside", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "admissions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=True),
        sa.Column("lease", sa.Text(), server_default="", nullable=False),
        sa.Column("machine_key", sa.Text(), server_default="", nullable=False),
        sa.Column("hardware_class", sa.Text(), server_default="", nullable=False),
        sa.Column("ok", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("step_ms", sa.Double(), nullable=True),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_admissions_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admissions")),
    )
    op.create_index(op.f("ix_admissions_hardware_class_id"), "admissions", ["hardware_class", "id"], unique=False)
    op.create_index(op.f("ix_admissions_machine_key"), "admissions", ["machine_key"], unique=False)
    op.create_index(op.f("ix_admissions_lease"), "admissions", ["lease"], unique=False)


def downgrade() -> None:
    op.drop_table("admissions")
    op.drop_column("runs", "set_aside")
    op.drop_column("runs", "lease")
