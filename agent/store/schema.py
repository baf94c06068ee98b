"""The tables of runs.db, in SQLAlchemy Core: plain columns, ISO dates, JSON as text, flags as 0 or 1.

Gives `metadata` and one `Table` each. Flags are integers, so that the same SQL runs on SQLite and PostgreSQL.
Columns marked "kept" are maintained by agent/store/standing.py or agent/budget.py in the transaction that
changes what they are derived from; that is what makes the views fast at a million runs.
"""

import json

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Words(TypeDecorator[str]):
    """Text that any database takes: models write lone surrogates and NUL, which PostgreSQL or UTF-8 refuse."""

    impl = Text
    cache_ok = True

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        """Characters kept; what a candidate or a model wrote must not fill the disk."""

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if self.limit is not None and len(value) > self.limit:
            value = value[: self.limit - 1] + "…"
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Json(TypeDecorator[object]):
    """A list or an object as readable JSON text; NaN is refused."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        if value is None:
            return None
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")

    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        return None if value is None else json.loads(value)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _to(name: str, target: str, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, ForeignKey(f"{target}.id"), nullable=nullable)


def _text(name: str, limit: int | None = None) -> Column[str]:
    return Column(name, Words(limit), nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _sum(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


def _amount(prefix: str) -> tuple[Column[float], Column[float], Column[float], Column[int]]:
    return (
        _sum(f"{prefix}_gpu_s"),
        _sum(f"{prefix}_usd"),
        _sum(f"{prefix}_llm_usd"),
        Column(f"{prefix}_llm_tokens", BigInteger, nullable=False, server_default="0"),
    )


campaigns = Table(
    "campaigns",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _text("track"),
    _text("track_toml"),
    _text("track_sha"),
    _text("data_sha"),
    _text("base_commit"),
    _text("branch"),
    Column("seed", BigInteger, nullable=False),
    Column("cap_gpu_s", Double),
    Column("cap_usd", Double),
    Column("cap_llm_usd", Double),
    _text("planner"),
    _text("review"),
    Column("slots", Integer, nullable=False),
    Column("target_bpb", Double),
    _text("hardware_class"),
    _text("state"),
    _text("reason", 2000),
    _text("created"),
    Column("ended", Text),
    _text("request"),  # "", drain or cancel: what `agent stop` asked for
    _text("trust"),  # least trust that counts, from the track
    _text("rung"),  # the rung that decides, from the track
    Column("artifact_limit", BigInteger),  # bytes, from the track
    *_amount("settled"),  # kept: sums over the ledger
    *_amount("reserved"),
)

proposals = Table(
    "proposals",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _text("title", 300),
    _text("state"),
    _text("reason", 2000),
    _to("source_id", "proposals", nullable=True),
    _to("baseline_id", "proposals", nullable=True),
    Column("commit_sha", Text),
    _text("hypothesis", 20_000),
    _text("planner"),
    _text("mode"),
    _text("kind"),
    _text("edits"),
    _text("diff"),
    _text("patch_id"),
    _text("ast_hash"),
    _text("config_hash"),
    Column("knobs", Json, nullable=False),
    Column("expected_gain", Double, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("expected_bytes", BigInteger),
    Column("risk", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    *_amount("cost"),  # what planning it cost, as the planner said
    _text("reviewed_by"),
    _text("created"),
    _text("updated"),
    Column("gain", Double),  # kept: of the last verdict that has one
    _count("invalid"),  # kept: it broke a rule itself
    _count("tainted"),  # kept: it or an ancestor broke a rule
    Index(None, "campaign_id", "state"),
    Index(None, "campaign_id", "ast_hash"),
    Index(None, "baseline_id"),
    Index(None, "source_id"),
)

# The head of each campaign; a table of its own, so that campaigns and proposals do not refer to each other in a circle.
heads = Table(
    "heads",
    metadata,
    Column("campaign_id", Integer, ForeignKey("campaigns.id"), primary_key=True),
    _to("proposal_id", "proposals"),
    _text("since"),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _to("proposal_id", "proposals"),
    _to("baseline_id", "proposals", nullable=True),
    _text("title"),
    _text("rung"),
    _text("purpose"),
    Column("seed", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("slot", Text),
    _text("state"),
    Column("outcome", Text),
    _text("reason", 2000),
    _text("hardware_class"),
    _text("script_sha"),
    Column("walls", Json, nullable=False),
    _text("created"),
    Column("started", Text),
    Column("ended", Text),
    Index(None, "proposal_id"),
    Index(None, "campaign_id", "state"),
    Index(None, "campaign_id", "purpose"),
)

# A class of scores that may be compared with one another, and with no others.
boards = Table(
    "boards",
    metadata,
    _id(),
    _text("title"),
    _text("track"),
    _text("track_sha"),
    _text("data_sha"),
    _text("rung"),
    _text("hardware_class"),
    Column("judge_version", Integer, nullable=False),
    _text("trust"),
    UniqueConstraint(
        *("track_sha", "data_sha", "rung", "hardware_class", "judge_version", "trust", "track"),
        name="uq_boards_class",
    ),
)

measurements = Table(
    "measurements",
    metadata,
    _id(),  # the order in which runs were measured
    _to("run_id", "runs"),
    _to("campaign_id", "campaigns"),
    _to("proposal_id", "proposals"),
    _to("board_id", "boards"),
    _text("trust"),
    Column("judge_version", Integer, nullable=False),
    Column("bpb", Double),
    Column("nats", Double),
    Column("bytes_scored", BigInteger),
    Column("tokens_scored", BigInteger),
    Column("artifact_bytes", BigInteger),
    Column("code_bytes", BigInteger),
    Column("total_bytes", BigInteger),
    Column("train_wall_s", Double),
    Column("train_cpu_s", Double),
    Column("score_wall_s", Double),
    Column("score_cpu_s", Double),
    Column("slot_s", Double, nullable=False),
    Column("peak_mb", Double),
    Column("steps", BigInteger),
    Column("reported_bpb", Double),
    Column("reported_bytes", BigInteger),
    Column("artifact_sha", Text),
    _text("data_sha"),
    _text("created"),
    _count("latest"),  # kept: 0 once a newer judge measured the run again
    _count("faults"),  # kept: findings that bar the run
    _count("violations"),  # kept: those of them that break a rule, which spreads to what is built on it
    _count("counts"),  # kept: has a score that may stand, its proposal's standing aside
    UniqueConstraint("run_id", "judge_version"),
    Index(None, "proposal_id"),
    Index(None, "campaign_id", "board_id", "counts", "bpb"),
)

findings = Table(
    "findings",
    metadata,
    _id(),
    _to("measurement_id", "measurements"),
    _to("run_id", "runs"),
    _text("rule"),
    _text("severity"),
    _text("text", 4000),
    Index(None, "measurement_id"),
)

# Nats of each validation document: float32, little-endian, zlib. Apart, so that measurements stay light.
doc_nats = Table(
    "doc_nats",
    metadata,
    Column("measurement_id", Integer, ForeignKey("measurements.id"), primary_key=True),
    Column("documents", Integer, nullable=False),
    Column("nats", LargeBinary, nullable=False),
)

# Kept: one row a proposal and board, derived from its runs there.
scores = Table(
    "scores",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _to("proposal_id", "proposals"),
    _to("board_id", "boards"),
    Column("bpb", Double, nullable=False),  # of the report runs where there are any, else of all runs
    Column("runs", Integer, nullable=False),  # how many runs `bpb` is the mean of
    Column("mean_bpb", Double, nullable=False),  # over all runs of its newest script
    Column("all_runs", Integer, nullable=False),
    Column("best_bpb", Double, nullable=False),
    Column("total_bytes", BigInteger),  # the largest
    _count("deciding"),  # 1 for its newest board at the rung that decides
    _count("promoted"),
    _text("barred"),  # why it may not lead: invalid, ancestor, unsafe, oversize, trust; empty when it may
    UniqueConstraint("proposal_id", "board_id"),
    Index(None, "barred", "board_id", "bpb"),
    Index(None, "board_id", "barred", "bpb"),
    Index(None, "campaign_id", "promoted", "barred", "deciding", "board_id", "bpb"),
)

# Kept: the runs that lowered the best valid BPB of their campaign and board when they were measured.
frontier_runs = Table(
    "frontier_runs",
    metadata,
    Column("measurement_id", Integer, ForeignKey("measurements.id"), primary_key=True, autoincrement=False),
    _to("campaign_id", "campaigns"),
    _to("board_id", "boards"),
    _to("run_id", "runs"),
    _to("proposal_id", "proposals"),
    Column("bpb", Double, nullable=False),
    Column("total_bytes", BigInteger),
    Index(None, "campaign_id", "board_id", "measurement_id"),
    Index(None, "proposal_id"),
)

verdicts = Table(
    "verdicts",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _to("proposal_id", "proposals"),
    _to("baseline_id", "proposals"),
    _text("decision"),
    _text("words", 4000),
    Column("gain", Double),
    Column("stderr", Double),
    Column("p", Double),
    Column("sigma", Double),
    Column("rho", Double),
    Column("df", Double),
    Column("n_candidate", Integer, nullable=False),
    Column("n_baseline", Integer, nullable=False),
    _text("created"),
    Index(None, "proposal_id"),
)

reviews = Table(
    "reviews",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _to("proposal_id", "proposals"),
    _text("action"),
    _text("who", 300),
    _text("comment", 20_000),
    _text("created"),
    Index(None, "proposal_id"),
)

events = Table(
    "events",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _text("at"),
    _to("proposal_id", "proposals", nullable=True),
    _to("run_id", "runs", nullable=True),
    _text("what", 100),
    _text("text", 4000),
    Index(None, "campaign_id", "id"),
)

ledger = Table(
    "ledger",
    metadata,
    _id(),
    _to("campaign_id", "campaigns"),
    _text("what"),  # run, hold or planner
    _text("state"),  # reserved, settled or released
    _to("proposal_id", "proposals", nullable=True),
    _to("run_id", "runs", nullable=True),
    _to("hold_id", "ledger", nullable=True),  # the hold it was drawn from
    *_amount("reserved"),
    *_amount("settled"),
    _text("reason", 2000),
    _text("created"),
    Column("closed", Text),
    Index(None, "campaign_id", "state"),
    Index(None, "run_id"),
    Index(None, "proposal_id"),
)

controllers = Table(
    "controllers",
    metadata,
    Column("campaign", Text, primary_key=True),
    _text("host"),
    _text("place"),  # boot and process namespace: within one, a process id means something
    Column("pid", Integer, nullable=False),
    _text("process_started"),
    _text("token"),
    _text("since"),
    _text("heartbeat"),
)
