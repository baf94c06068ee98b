"""Tables of what runs are worth: what was measured, their curves, the judge's findings, scores and verdicts.

Gives one `Table` each; agent/store/measured.py, curves.py and standing.py write them.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from agent.store.columns import count, key, metadata, to, words

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
    Column("train_ms", BigInteger),
    Column("reported_bpb", Double),
    Column("reported_bytes", BigInteger),
    Column("artifact_sha", Text),
    Column("judge_sha", Text),
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

# How closely a score was looked at. Leaks are nats per token.
audits = Table(
    "audits",
    metadata,
    Column("measurement_id", Integer, ForeignKey("measurements.id"), primary_key=True, autoincrement=False),
    to("run_id", "runs"),
    words("strength"),
    Column("positions", Integer, nullable=False),
    Column("uniform", Integer, nullable=False),
    Column("surprising", Integer, nullable=False),
    Column("twice", Integer, nullable=False),
    Column("replayed", BigInteger, nullable=False),
    Column("largest_difference", Double, nullable=False),
    Column("largest_sum", Double, nullable=False),
    Column("tolerance", Double, nullable=False),
    words("tolerance_why"),
    Column("unfair_nats", Double, nullable=False),
    Column("unfair_stderr", Double, nullable=False),
    Column("unfair_bpb", Double, nullable=False),
    Column("unfair_bpb_stderr", Double, nullable=False),
    words("reference"),
    Column("even_nats", Double, nullable=False),
    Column("rare_nats", Double, nullable=False),
    Column("wanted_nats", Double, nullable=False),
    Column("wall_s", Double, nullable=False),
    Column("start_s", Double, nullable=False),
    Index(None, "run_id"),
)

# What a run's log said of each step. By the run alone, without an index beside it: most rows of all are here.
points = Table(
    "points",
    metadata,
    Column("run_id", Integer, ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("train_loss", Double),
    Column("train_ms", BigInteger),  # by the script's own clock
    Column("val_loss", Double),
    Column("val_bpb", Double),
    sqlite_with_rowid=False,
)

# What an idea was accepted by, scored once more on a lease that did not train it; or why it was not.
rescores = Table(
    "rescores",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    to("proposal_id", "proposals"),
    to("run_id", "runs"),  # whose artifact it is
    to("by_run_id", "runs", nullable=True),  # empty: it was not scored again
    words("trained_on"),
    words("scored_on"),
    Column("bpb", Double),
    Column("apart_nats", Double),  # a token, from the first score
    Column("allowed_nats", Double),
    Column("agrees", Integer),  # 0: it was scored again, and did not come to the same
    words("words", 4000),
    words("created"),
    UniqueConstraint("run_id"),
    Index(None, "proposal_id"),
)

# Nats of each validation document: float32, little-endian, zlib. Apart, so that measurements stay light.
doc_nats = Table(
    "doc_nats",
    metadata,
    Column("measurement_id", Integer, ForeignKey("measurements.id"), primary_key=True),
    Column("documents", Integer, nullable=False),
    Column("nats", LargeBinary, nullable=False),
    Column("hidden", LargeBinary),  # of the documents that no score is made of
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
