"""What was measured, what the views read, and the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("board_id", sa.Integer(), nullable=False),
        sa.Column("bpb", sa.Double(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("mean_bpb", sa.Double(), nullable=False),
        sa.Column("all_runs", sa.Integer(), nullable=False),
        sa.Column("best_bpb", sa.Double(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("deciding", sa.Integer(), server_default="0", nullable=False),
        sa.Column("promoted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("barred", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["board_id"], ["boards.id"], name=op.f("fk_scores_board_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_scores_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_scores_proposal_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scores")),
        sa.UniqueConstraint("proposal_id", "board_id", name=op.f("uq_scores_proposal_id_board_id")),
    )
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_scores_barred_board_id_bpb"), ["barred", "board_id", "bpb"], unique=False)
        batch_op.create_index(batch_op.f("ix_scores_board_id_barred_bpb"), ["board_id", "barred", "bpb"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_scores_campaign_id_promoted_barred_deciding_board_id_bpb"),
            ["campaign_id", "promoted", "barred", "deciding", "board_id", "bpb"],
            unique=False,
        )
    op.create_table(
        "ledger",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("hold_id", sa.Integer(), nullable=True),
        sa.Column("reserved_gpu_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("reserved_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("reserved_llm_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("reserved_llm_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("settled_gpu_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("settled_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("settled_llm_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("settled_llm_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.Column("closed", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_ledger_campaign_id")),
        sa.ForeignKeyConstraint(["hold_id"], ["ledger.id"], name=op.f("fk_ledger_hold_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_ledger_proposal_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_ledger_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ledger_campaign_id_state"), ["campaign_id", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_ledger_proposal_id"), ["proposal_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_ledger_run_id"), ["run_id"], unique=False)
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("board_id", sa.Integer(), nullable=False),
        sa.Column("trust", sa.Text(), server_default="", nullable=False),
        sa.Column("judge_version", sa.Integer(), nullable=False),
        sa.Column("bpb", sa.Double(), nullable=True),
        sa.Column("nats", sa.Double(), nullable=True),
        sa.Column("bytes_scored", sa.BigInteger(), nullable=True),
        sa.Column("tokens_scored", sa.BigInteger(), nullable=True),
        sa.Column("artifact_bytes", sa.BigInteger(), nullable=True),
        sa.Column("code_bytes", sa.BigInteger(), nullable=True),
        sa.Column("total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("train_wall_s", sa.Double(), nullable=True),
        sa.Column("train_cpu_s", sa.Double(), nullable=True),
        sa.Column("score_wall_s", sa.Double(), nullable=True),
        sa.Column("score_cpu_s", sa.Double(), nullable=True),
        sa.Column("slot_s", sa.Double(), nullable=False),
        sa.Column("peak_mb", sa.Double(), nullable=True),
        sa.Column("steps", sa.BigInteger(), nullable=True),
        sa.Column("reported_bpb", sa.Double(), nullable=True),
        sa.Column("reported_bytes", sa.BigInteger(), nullable=True),
        sa.Column("artifact_sha", sa.Text(), nullable=True),
        sa.Column("data_sha", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.Column("latest", sa.Integer(), server_default="0", nullable=False),
        sa.Column("faults", sa.Integer(), server_default="0", nullable=False),
        sa.Column("violations", sa.Integer(), server_default="0", nullable=False),
        sa.Column("counts", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["board_id"], ["boards.id"], name=op.f("fk_measurements_board_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_measurements_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_measurements_proposal_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_measurements_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
        sa.UniqueConstraint("run_id", "judge_version", name=op.f("uq_measurements_run_id_judge_version")),
    )
    with op.batch_alter_table("measurements", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_measurements_campaign_id_board_id_counts_bpb"),
            ["campaign_id", "board_id", "counts", "bpb"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_measurements_proposal_id"), ["proposal_id"], unique=False)
    op.create_table(
        "doc_nats",
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("documents", sa.Integer(), nullable=False),
        sa.Column("nats", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=op.f("fk_doc_nats_measurement_id")),
        sa.PrimaryKeyConstraint("measurement_id", name=op.f("pk_doc_nats")),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=op.f("fk_findings_measurement_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_findings_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    with op.batch_alter_table("findings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_findings_measurement_id"), ["measurement_id"], unique=False)
    op.create_table(
        "frontier_runs",
        sa.Column("measurement_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("board_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("bpb", sa.Double(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["board_id"], ["boards.id"], name=op.f("fk_frontier_runs_board_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_frontier_runs_campaign_id")),
        sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=op.f("fk_frontier_runs_measurement_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_frontier_runs_proposal_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_frontier_runs_run_id")),
        sa.PrimaryKeyConstraint("measurement_id", name=op.f("pk_frontier_runs")),
    )
    with op.batch_alter_table("frontier_runs", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_frontier_runs_campaign_id_board_id_measurement_id"),
            ["campaign_id", "board_id", "measurement_id"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_frontier_runs_proposal_id"), ["proposal_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("frontier_runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_frontier_runs_proposal_id"))
        batch_op.drop_index(batch_op.f("ix_frontier_runs_campaign_id_board_id_measurement_id"))
    op.drop_table("frontier_runs")
    with op.batch_alter_table("findings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_findings_measurement_id"))
    op.drop_table("findings")
    op.drop_table("doc_nats")
    with op.batch_alter_table("measurements", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_measurements_proposal_id"))
        batch_op.drop_index(batch_op.f("ix_measurements_campaign_id_board_id_counts_bpb"))
    op.drop_table("measurements")
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ledger_run_id"))
        batch_op.drop_index(batch_op.f("ix_ledger_proposal_id"))
        batch_op.drop_index(batch_op.f("ix_ledger_campaign_id_state"))
    op.drop_table("ledger")
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_scores_campaign_id_promoted_barred_deciding_board_id_bpb"))
        batch_op.drop_index(batch_op.f("ix_scores_board_id_barred_bpb"))
        batch_op.drop_index(batch_op.f("ix_scores_barred_board_id_bpb"))
    op.drop_table("scores")
