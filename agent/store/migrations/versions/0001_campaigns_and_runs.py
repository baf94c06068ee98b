"""Campaigns, proposals, runs, and what was said and decided about them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "boards",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), server_default="", nullable=False),
        sa.Column("track", sa.Text(), server_default="", nullable=False),
        sa.Column("track_sha", sa.Text(), server_default="", nullable=False),
        sa.Column("data_sha", sa.Text(), server_default="", nullable=False),
        sa.Column("rung", sa.Text(), server_default="", nullable=False),
        sa.Column("hardware_class", sa.Text(), server_default="", nullable=False),
        sa.Column("judge_version", sa.Integer(), nullable=False),
        sa.Column("trust", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_boards")),
        sa.UniqueConstraint(
            "track_sha",
            "data_sha",
            "rung",
            "hardware_class",
            "judge_version",
            "trust",
            "track",
            name="uq_boards_class",
        ),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("track", sa.Text(), server_default="", nullable=False),
        sa.Column("track_toml", sa.Text(), server_default="", nullable=False),
        sa.Column("track_sha", sa.Text(), server_default="", nullable=False),
        sa.Column("data_sha", sa.Text(), server_default="", nullable=False),
        sa.Column("base_commit", sa.Text(), server_default="", nullable=False),
        sa.Column("branch", sa.Text(), server_default="", nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("cap_gpu_s", sa.Double(), nullable=True),
        sa.Column("cap_usd", sa.Double(), nullable=True),
        sa.Column("cap_llm_usd", sa.Double(), nullable=True),
        sa.Column("planner", sa.Text(), server_default="", nullable=False),
        sa.Column("review", sa.Text(), server_default="", nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("target_bpb", sa.Double(), nullable=True),
        sa.Column("hardware_class", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.Column("request", sa.Text(), server_default="", nullable=False),
        sa.Column("trust", sa.Text(), server_default="", nullable=False),
        sa.Column("rung", sa.Text(), server_default="", nullable=False),
        sa.Column("artifact_limit", sa.BigInteger(), nullable=True),
        sa.Column("settled_gpu_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("settled_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("settled_llm_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("settled_llm_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reserved_gpu_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("reserved_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("reserved_llm_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("reserved_llm_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("name", name=op.f("uq_campaigns_name")),
    )
    op.create_table(
        "controllers",
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), server_default="", nullable=False),
        sa.Column("place", sa.Text(), server_default="", nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_started", sa.Text(), server_default="", nullable=False),
        sa.Column("token", sa.Text(), server_default="", nullable=False),
        sa.Column("since", sa.Text(), server_default="", nullable=False),
        sa.Column("heartbeat", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("campaign", name=op.f("pk_controllers")),
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=True),
        sa.Column("baseline_id", sa.Integer(), nullable=True),
        sa.Column("commit_sha", sa.Text(), nullable=True),
        sa.Column("hypothesis", sa.Text(), server_default="", nullable=False),
        sa.Column("planner", sa.Text(), server_default="", nullable=False),
        sa.Column("mode", sa.Text(), server_default="", nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("edits", sa.Text(), server_default="", nullable=False),
        sa.Column("diff", sa.Text(), server_default="", nullable=False),
        sa.Column("patch_id", sa.Text(), server_default="", nullable=False),
        sa.Column("ast_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("config_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("knobs", sa.Text(), nullable=False),
        sa.Column("expected_gain", sa.Double(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("expected_bytes", sa.BigInteger(), nullable=True),
        sa.Column("risk", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("cost_gpu_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("cost_llm_usd", sa.Double(), server_default="0", nullable=False),
        sa.Column("cost_llm_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reviewed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.Column("updated", sa.Text(), server_default="", nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("invalid", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tainted", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["proposals.id"], name=op.f("fk_proposals_baseline_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_proposals_campaign_id")),
        sa.ForeignKeyConstraint(["source_id"], ["proposals.id"], name=op.f("fk_proposals_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
    )
    with op.batch_alter_table("proposals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_proposals_baseline_id"), ["baseline_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_proposals_campaign_id_ast_hash"), ["campaign_id", "ast_hash"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_proposals_campaign_id_state"), ["campaign_id", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_proposals_source_id"), ["source_id"], unique=False)
    op.create_table(
        "heads",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("since", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_heads_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_heads_proposal_id")),
        sa.PrimaryKeyConstraint("campaign_id", name=op.f("pk_heads")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), server_default="", nullable=False),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_reviews_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_reviews_proposal_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_reviews_proposal_id"), ["proposal_id"], unique=False)
    op.create_table(
        "trunk",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_trunk_campaign_id_campaigns")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_trunk_proposal_id_proposals")),
        sa.PrimaryKeyConstraint("campaign_id", "step", name=op.f("pk_trunk")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("baseline_id", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), server_default="", nullable=False),
        sa.Column("rung", sa.Text(), server_default="", nullable=False),
        sa.Column("purpose", sa.Text(), server_default="", nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("hardware_class", sa.Text(), server_default="", nullable=False),
        sa.Column("script_sha", sa.Text(), server_default="", nullable=False),
        sa.Column("walls", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.Column("started", sa.Text(), nullable=True),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["baseline_id"], ["proposals.id"], name=op.f("fk_runs_baseline_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_runs_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_runs_proposal_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_campaign_id_purpose"), ["campaign_id", "purpose"], unique=False)
        batch_op.create_index(batch_op.f("ix_runs_campaign_id_state"), ["campaign_id", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_runs_proposal_id"), ["proposal_id"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("baseline_id", sa.Integer(), nullable=False),
        sa.Column("decision", sa.Text(), server_default="", nullable=False),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("stderr", sa.Double(), nullable=True),
        sa.Column("p", sa.Double(), nullable=True),
        sa.Column("sigma", sa.Double(), nullable=True),
        sa.Column("rho", sa.Double(), nullable=True),
        sa.Column("df", sa.Double(), nullable=True),
        sa.Column("n_candidate", sa.Integer(), nullable=False),
        sa.Column("n_baseline", sa.Integer(), nullable=False),
        sa.Column("created", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["proposals.id"], name=op.f("fk_verdicts_baseline_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_verdicts_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_verdicts_proposal_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
    )
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_verdicts_proposal_id"), ["proposal_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), server_default="", nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("what", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_events_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_events_proposal_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_events_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_campaign_id_id"), ["campaign_id", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_campaign_id_id"))
    op.drop_table("events")
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_verdicts_proposal_id"))
    op.drop_table("verdicts")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_proposal_id"))
        batch_op.drop_index(batch_op.f("ix_runs_campaign_id_state"))
        batch_op.drop_index(batch_op.f("ix_runs_campaign_id_purpose"))
    op.drop_table("runs")
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_reviews_proposal_id"))
    op.drop_table("reviews")
    op.drop_table("trunk")
    op.drop_table("heads")
    with op.batch_alter_table("proposals", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_proposals_source_id"))
        batch_op.drop_index(batch_op.f("ix_proposals_campaign_id_state"))
        batch_op.drop_index(batch_op.f("ix_proposals_campaign_id_ast_hash"))
        batch_op.drop_index(batch_op.f("ix_proposals_baseline_id"))
    op.drop_table("proposals")
    op.drop_table("controllers")
    op.drop_table("campaigns")
    op.drop_table("boards")
