"""Jobs that workers take by leases, what comes back of them, and commits that controllers share."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def upgrade() -> None:
    _workers()
    _jobs()
    op.create_table(
        "blobs",
        sa.Column("sha", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        words("created"),
        sa.PrimaryKeyConstraint("sha", name=op.f("pk_blobs")),
    )
    op.create_table(
        "commits",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        words("parent"),
        words("ref"),
        sa.Column("pack", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_commits_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "sha", name=op.f("pk_commits")),
    )
    op.create_index(op.f("ix_commits_campaign_id_number"), "commits", ["campaign_id", "number"], unique=False)
    op.create_table(
        "tips",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        words("sha"),
        words("since"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_tips_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", name=op.f("pk_tips")),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        words("name"),
        words("host"),
        sa.Column("pid", sa.Integer(), nullable=False),
        words("hardware_class"),
        sa.Column("slots", sa.Integer(), nullable=False),
        words("level"),
        words("state"),
        words("since"),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.Column("until", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    columns = ["state", "hardware_class"]
    op.create_index(op.f("ix_workers_state_hardware_class"), "workers", columns, unique=False)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        words("order_json"),
        sa.Column("inputs", sa.Text(), nullable=False),
        words("hardware_class"),
        words("data_sha"),
        words("minimum"),
        words("state"),
        sa.Column("cancel", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=True),
        words("slot"),
        sa.Column("until", sa.Double(), server_default="0", nullable=False),
        sa.Column("seconds", sa.Double(), server_default="0", nullable=False),
        words("beat"),
        words("result"),
        sa.Column("outputs", sa.Text(), nullable=False),
        words("reason"),
        words("created"),
        sa.Column("taken", sa.Text(), nullable=True),
        sa.Column("started", sa.Text(), nullable=True),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_jobs_campaign_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_jobs_run_id")),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_jobs_worker_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_jobs_run_id")),
    )
    op.create_index(op.f("ix_jobs_state_hardware_class_id"), "jobs", ["state", "hardware_class", "id"], unique=False)
    op.create_index(op.f("ix_jobs_campaign_id_state"), "jobs", ["campaign_id", "state"], unique=False)
    op.create_table(
        "job_logs",
        sa.Column("job_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_logs_job_id")),
        sa.PrimaryKeyConstraint("job_id", "name", "at", name=op.f("pk_job_logs")),
    )


def downgrade() -> None:
    for table in ("tips", "commits", "blobs", "job_logs", "jobs", "workers"):
        op.drop_table(table)
