"""Language models: their calls on the ledger, the conversations behind ideas, what verdicts taught."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CALLS = {"campaigns": ("settled", "reserved"), "ledger": ("settled", "reserved"), "proposals": ("cost",)}


def upgrade() -> None:
    for name in ("cap_llm_tokens", "cap_llm_calls"):
        op.add_column("campaigns", sa.Column(name, sa.BigInteger(), nullable=True))
    for table, prefixes in CALLS.items():
        for prefix in prefixes:
            column = sa.Column(f"{prefix}_llm_calls", sa.BigInteger(), server_default="0", nullable=False)
            op.add_column(table, column)
    op.add_column("proposals", sa.Column("expected_step", sa.Double(), nullable=True))
    op.add_column("proposals", sa.Column("rung", sa.Text(), server_default="", nullable=False))
    _conversations()
    _calls()
    op.create_table(
        "texts",
        sa.Column("sha", sa.Text(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha", name=op.f("pk_texts")),
    )
    _lessons()


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), server_default="", nullable=False) for name in names]


def _conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=True),
        *_words("what", "planner", "mode", "created"),
        sa.Column("ended", sa.Text(), nullable=True),
        *_words("outcome"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_conversations_campaign_id_campaigns")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_conversations_proposal_id_proposals")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
    )
    op.create_index(op.f("ix_conversations_proposal_id"), "conversations", ["proposal_id"], unique=False)
    op.create_index(op.f("ix_conversations_campaign_id_id"), "conversations", ["campaign_id", "id"], unique=False)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("conversation_id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        *_words("model", "state"),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("usd", sa.Double(), nullable=True),
        *_words("error", "started"),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.Column("transcript", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_calls_campaign_id_campaigns")),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_calls_conversation_id_conversations")
        ),
        sa.ForeignKeyConstraint(["entry_id"], ["ledger.id"], name=op.f("fk_calls_entry_id_ledger")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index(op.f("ix_calls_conversation_id"), "calls", ["conversation_id"], unique=False)
    op.create_index(op.f("ix_calls_campaign_id_id"), "calls", ["campaign_id", "id"], unique=False)


def _lessons() -> None:
    op.create_table(
        "lessons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("conversation_id", sa.Integer(), nullable=True),
        *_words("kind", "text"),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("runs", sa.Text(), nullable=False),
        sa.Column("contradicted_by", sa.Integer(), nullable=True),
        *_words("created"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_lessons_campaign_id_campaigns")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_lessons_proposal_id_proposals")),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_lessons_conversation_id_conversations")
        ),
        sa.ForeignKeyConstraint(["contradicted_by"], ["lessons.id"], name=op.f("fk_lessons_contradicted_by_lessons")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lessons")),
    )
    op.create_index(op.f("ix_lessons_campaign_id_id"), "lessons", ["campaign_id", "id"], unique=False)
    op.create_index(op.f("ix_lessons_proposal_id"), "lessons", ["proposal_id"], unique=False)


def downgrade() -> None:
    for table in ("lessons", "texts", "calls", "conversations"):
        op.drop_table(table)
    for name in ("rung", "expected_step"):
        op.drop_column("proposals", name)
    for table, prefixes in CALLS.items():
        for prefix in prefixes:
            op.drop_column(table, f"{prefix}_llm_calls")
    for name in ("cap_llm_calls", "cap_llm_tokens"):
        op.drop_column("campaigns", name)
