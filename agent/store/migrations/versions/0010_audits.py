"""How closely each score was looked at, and what leak would have been seen."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("measurement_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("strength", sa.Text(), server_default="", nullable=False),
        sa.Column("positions", sa.Integer(), nullable=False),
        sa.Column("uniform", sa.Integer(), nullable=False),
        sa.Column("surprising", sa.Integer(), nullable=False),
        sa.Column("twice", sa.Integer(), nullable=False),
        sa.Column("replayed", sa.BigInteger(), nullable=False),
        sa.Column("largest_difference", sa.Double(), nullable=False),
        sa.Column("largest_sum", sa.Double(), nullable=False),
        sa.Column("tolerance", sa.Double(), nullable=False),
        sa.Column("tolerance_why", sa.Text(), server_default="", nullable=False),
        sa.Column("unfair_nats", sa.Double(), nullable=False),
        sa.Column("unfair_stderr", sa.Double(), nullable=False),
        sa.Column("unfair_bpb", sa.Double(), nullable=False),
        sa.Column("unfair_bpb_stderr", sa.Double(), nullable=False),
        sa.Column("reference", sa.Text(), server_default="", nullable=False),
        sa.Column("even_nats", sa.Double(), nullable=False),
        sa.Column("rare_nats", sa.Double(), nullable=False),
        sa.Column("wanted_nats", sa.Double(), nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=op.f("fk_audits_measurement_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_audits_run_id")),
        sa.PrimaryKeyConstraint("measurement_id", name=op.f("pk_audits")),
    )
    op.create_index(op.f("ix_audits_run_id"), "audits", ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_table("audits")
