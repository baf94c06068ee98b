"""Tables of the work itself: campaigns, what was proposed and run in them, what people said, what it cost.

Gives one `Table` each; the ledger is the account of all that is paid for, and `controllers` says who is at it.
"""

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, Table, Text

from agent.store.columns import Json, amount, count, key, metadata, to, words

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
    Column("runner", Text, nullable=False, server_default="local"),  # names by commas
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
    words("lease"),  # of the machine, from its renting to its return; empty: before version 0013
    words("set_aside", 2000),  # why no verdict rests on it; empty: nothing speaks against it
    words("created"),
    Column("started", Text),
    Column("ended", Text),
    Index(None, "proposal_id"),
    Index(None, "campaign_id", "state"),
    Index(None, "campaign_id", "purpose"),
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
    words("what"),  # run, hold, planner or machine
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
