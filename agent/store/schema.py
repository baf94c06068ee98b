"""The tables of runs.db, in SQLAlchemy Core: plain columns, ISO dates, JSON as text, flags as 0 or 1.

Gives `metadata` and one `Table` each. Flags are integers, so that the same SQL runs on SQLite and PostgreSQL.
Columns marked "kept" are maintained by agent/store/standing.py or agent/budget.py in the transaction that
changes what they are derived from; that is what makes the views fast at a million runs.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from agent.store.columns import Json, amount, count, key, to, words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


campaigns = Table(
    "campaigns",
    metadata,
    key(),
    Column("name", Text, nullable=False, unique=True),
    words("track"),
    words("track_file"),
    words("track_toml"),
    words("track_sha"),
    words("data_sha"),
    words("base_commit"),
    words("branch"),
    Column("seed", BigInteger, nullable=False),
    Column("cap_gpu_s", Double),
    Column("cap_usd", Double),
    Column("cap_llm_usd", Double),
    Column("cap_llm_tokens", BigInteger),
    Column("cap_llm_calls", BigInteger),
    words("planner"),
    words("review"),
    Column("slots", Integer, nullable=False),
    Column("target_bpb", Double),
    Column("unsafe", Integer, nullable=False, server_default="0"),  # 1: a model's code may run without walls
    words("hardware_class"),
    words("state"),
    words("reason", 2000),
    words("created"),
    Column("ended", Text),
    words("request"),  # "", drain or cancel: what `agent stop` asked for
    words("trust"),  # least trust that counts, from the track
    words("rung"),  # the rung that decides, from the track
    Column("artifact_limit", BigInteger),  # bytes, from the track
    *amount("settled"),  # kept: sums over the ledger
    *amount("reserved"),
)

proposals = Table(
    "proposals",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    words("title", 300),
    words("state"),
    words("reason", 2000),
    to("source_id", "proposals", nullable=True),
    to("baseline_id", "proposals", nullable=True),
    Column("commit_sha", Text),
    words("hypothesis", 20_000),
    words("planner"),
    words("mode"),
    words("kind"),
    words("edits"),
    words("diff"),
    words("patch_id"),
    words("ast_hash"),
    words("config_hash"),
    Column("knobs", Json, nullable=False),
    Column("expected_gain", Double, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("expected_bytes", BigInteger),  # as its planner said; before version 0007 also what was computed
    Column("sized_bytes", BigInteger),  # computed, where the planner said nothing
    Column("expected_step", Double),
    words("rung"),
    Column("risk", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    *amount("cost"),  # what planning it cost, as the planner said
    words("reviewed_by"),
    words("created"),
    words("updated"),
    Column("gain", Double),  # kept: of the last verdict that has one
    count("invalid"),  # kept: it broke a rule itself
    count("tainted"),  # kept: it or an ancestor broke a rule
    Index(None, "campaign_id", "state"),
    Index(None, "campaign_id", "ast_hash"),
    Index(None, "campaign_id", "config_hash"),
    Index(None, "campaign_id", "id"),
    Index(None, "campaign_id", "planner"),
    Index(None, "baseline_id"),
    Index(None, "source_id"),
)

# Each campaign's head; a table of its own, or campaigns and proposals would refer to each other in a circle.
heads = Table(
    "heads",
    metadata,
    Column("campaign_id", Integer, ForeignKey("campaigns.id"), primary_key=True),
    to("proposal_id", "proposals"),
    words("since"),
)

# Kept: the chain from each campaign's base (step 0) to its head; a lineage need not be walked to be read.
trunk = Table(
    "trunk",
    metadata,
    Column("campaign_id", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    to("proposal_id", "proposals"),
)

runs = Table(
    "runs",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    to("baseline_id", "proposals", nullable=True),
    words("title"),
    words("rung"),
    words("purpose"),
    Column("seed", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("slot", Text),
    words("state"),
    Column("outcome", Text),
    words("reason", 2000),
    words("hardware_class"),
    words("script_sha"),
    Column("walls", Json, nullable=False),
    words("created"),
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
    key(),
    words("title"),
    words("track"),
    words("track_sha"),
    words("data_sha"),
    words("rung"),
    words("hardware_class"),
    Column("judge_version", Integer, nullable=False),
    words("trust"),
    UniqueConstraint(
        *("track_sha", "data_sha", "rung", "hardware_class", "judge_version", "trust", "track"),
        name="uq_boards_class",
    ),
)

measurements = Table(
    "measurements",
    metadata,
    key(),  # the order in which runs were measured
    to("run_id", "runs"),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    to("board_id", "boards"),
    words("trust"),
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
    words("data_sha"),
    words("created"),
    count("latest"),  # kept: 0 once a newer judge measured the run again
    count("faults"),  # kept: findings that bar the run
    count("violations"),  # kept: those of them that break a rule, which spreads to what is built on it
    count("counts"),  # kept: has a score that may stand, its proposal's standing aside
    UniqueConstraint("run_id", "judge_version"),
    Index(None, "proposal_id"),
    Index(None, "campaign_id", "board_id", "counts", "bpb"),
)

findings = Table(
    "findings",
    metadata,
    key(),
    to("measurement_id", "measurements"),
    to("run_id", "runs"),
    words("rule"),
    words("severity"),
    words("text", 4000),
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
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    to("board_id", "boards"),
    Column("bpb", Double, nullable=False),  # of the report runs where there are any, else of all runs
    Column("runs", Integer, nullable=False),  # how many runs `bpb` is the mean of
    Column("mean_bpb", Double, nullable=False),  # over all runs of its newest script
    Column("all_runs", Integer, nullable=False),
    Column("best_bpb", Double, nullable=False),
    Column("total_bytes", BigInteger),  # the largest
    count("deciding"),  # 1 for its newest board at the rung that decides
    count("promoted"),
    words("barred"),  # why it may not lead: invalid, ancestor, unsafe, oversize, trust; empty when it may
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
    to("campaign_id", "campaigns"),
    to("board_id", "boards"),
    to("run_id", "runs"),
    to("proposal_id", "proposals"),
    Column("bpb", Double, nullable=False),
    Column("total_bytes", BigInteger),
    Index(None, "campaign_id", "board_id", "measurement_id"),
    Index(None, "proposal_id"),
)

verdicts = Table(
    "verdicts",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    to("baseline_id", "proposals"),
    words("decision"),
    words("words", 4000),
    Column("gain", Double),
    Column("stderr", Double),
    Column("p", Double),
    Column("sigma", Double),
    Column("rho", Double),
    Column("df", Double),
    Column("n_candidate", Integer, nullable=False),
    Column("n_baseline", Integer, nullable=False),
    words("created"),
    Index(None, "proposal_id"),
)

reviews = Table(
    "reviews",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    words("action"),
    words("who", 300),
    words("comment", 20_000),
    words("created"),
    Index(None, "proposal_id"),
)

events = Table(
    "events",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    words("at"),
    to("proposal_id", "proposals", nullable=True),
    to("run_id", "runs", nullable=True),
    words("what", 100),
    words("text", 4000),
    Index(None, "campaign_id", "id"),
    Index(None, "proposal_id", "what"),
)

ledger = Table(
    "ledger",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    words("what"),  # run, hold or planner
    words("state"),  # reserved, settled or released
    to("proposal_id", "proposals", nullable=True),
    to("run_id", "runs", nullable=True),
    to("hold_id", "ledger", nullable=True),  # the hold it was drawn from
    *amount("reserved"),
    *amount("settled"),
    words("reason", 2000),
    words("created"),
    Column("closed", Text),
    Index(None, "campaign_id", "state"),
    Index(None, "run_id"),
    Index(None, "proposal_id"),
)

# How an idea or a lesson came to be: one exchange with a language model, of one or many calls.
conversations = Table(
    "conversations",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals", nullable=True),  # what it led to, or is about
    words("what"),  # propose or lesson
    words("planner"),
    words("mode"),
    words("created"),
    Column("ended", Text),
    words("outcome", 2000),
    Index(None, "proposal_id"),
    Index(None, "campaign_id", "id"),
)

calls = Table(
    "calls",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("conversation_id", "conversations"),
    to("entry_id", "ledger"),
    words("model"),
    words("state"),  # open, done, failed or lost
    Column("input_tokens", BigInteger),  # neither read from a cache nor written to one
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("usd", Double),  # empty: nobody knows its price
    words("error", 2000),
    words("started"),
    Column("ended", Text),
    Column("transcript", LargeBinary, nullable=False),  # redacted JSON, zlib: what was new in the question, the answer
    Index(None, "conversation_id"),
    Index(None, "campaign_id", "id"),
)

# Long texts that many calls share: prompts and scripts, redacted, zlib.
texts = Table(
    "texts",
    metadata,
    Column("sha", Text, primary_key=True),
    Column("text", LargeBinary, nullable=False),
)

# What a verdict taught, in a model's words.
lessons = Table(
    "lessons",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    to("conversation_id", "conversations", nullable=True),
    words("kind"),
    words("text", 4000),
    Column("confidence", Double, nullable=False),
    Column("runs", Json, nullable=False),
    to("contradicted_by", "lessons", nullable=True),
    words("created"),
    Index(None, "campaign_id", "id"),
    Index(None, "proposal_id"),
)

controllers = Table(
    "controllers",
    metadata,
    Column("campaign", Text, primary_key=True),
    words("host"),
    words("place"),  # boot and process namespace: within one, a process id means something
    Column("pid", Integer, nullable=False),
    words("process_started"),
    words("token"),
    words("since"),
    words("heartbeat"),
)
