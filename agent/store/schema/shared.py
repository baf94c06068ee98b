"""Tables of what several machines share: jobs that workers take, what comes back of them, and the campaign's commits.

Gives one `Table` each; agent/store/queue.py, printed.py, workers.py, blobs.py and commits.py write them. A lease is a
row's `until`: seconds since 1970 by the database server's clock, so that one clock decides, whoever asks.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from agent.store.columns import Json, count, key, metadata, to, total, words

# One row a worker process; a worker that comes again is a new row.
workers = Table(
    "workers",
    metadata,
    key(),
    words("name", 100),
    words("host", 300),
    Column("pid", Integer, nullable=False),
    words("hardware_class", 300),
    Column("slots", Integer, nullable=False),
    Column("kinds", Json, nullable=False, server_default="{}"),  # slots by hardware class, where they are of several
    words("refused", 2000),  # why nothing may run on it any more
    words("level"),  # of the walls that it puts up around a run
    words("state"),  # working, draining or gone
    words("since"),
    Column("ended", Text),
    total("until"),  # alive until then, unless it gives another sign of life
    Index(None, "state", "hardware_class"),
)

# One row a run that was handed to the queue.
jobs = Table(
    "jobs",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False, unique=True),
    words("order_json"),
    Column("inputs", Json, nullable=False),  # files by name in the job folder: their sha256
    words("hardware_class"),
    count("gpus"),  # 0: none, or of before version 0016
    total("wall_s"),  # of its slot that it may use at most; 0: of before version 0016
    Column("only", Integer),  # the worker that it must be on
    words("data_sha"),
    words("minimum"),  # the weakest walls behind which its code may run
    words("state"),  # waiting, taken, running, done or lost
    count("cancel"),  # 1: it is asked to end
    count("token"),  # how often it was taken: who holds an older one is refused
    to("worker_id", "workers", nullable=True),
    words("slot", 100),
    total("until"),  # of the lease
    total("seconds"),  # of the slot that it used, by its last sign of life
    words("beat", 300_000),  # the shepherd's last heartbeat
    words("result"),
    count("machine"),  # 1: it is lost because its worker was gone, or was told to stop
    Column("outputs", Json, nullable=False),  # files that came back, by what they are: their sha256
    words("reason", 2000),
    words("created"),
    Column("taken", Text),
    Column("started", Text),
    Column("ended", Text),
    Index(None, "state", "hardware_class", "id"),
    Index(None, "campaign_id", "state"),
)

# What a run printed, as it came.
job_logs = Table(
    "job_logs",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),  # bytes before it
    Column("body", LargeBinary, nullable=False),
)

# Files by what is in them: code, artifacts, the judge's answers. zlib.
blobs = Table(
    "blobs",
    metadata,
    Column("sha", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),  # in bytes, unpacked
    Column("body", LargeBinary, nullable=False),
    words("created"),
)

# Every commit that a controller made, as a pack without what its parent has, so that another controller can have it.
commits = Table(
    "commits",
    metadata,
    Column("campaign_id", Integer, ForeignKey("campaigns.id"), primary_key=True, autoincrement=False),
    Column("sha", Text, primary_key=True),
    Column("number", Integer, nullable=False),  # in the order in which they were made
    words("parent"),
    words("ref"),
    Column("pack", LargeBinary, nullable=False),
    Index(None, "campaign_id", "number"),
)

# Where each campaign's branch is.
tips = Table(
    "tips",
    metadata,
    Column("campaign_id", Integer, ForeignKey("campaigns.id"), primary_key=True, autoincrement=False),
    words("sha"),
    words("since"),
)
