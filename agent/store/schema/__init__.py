"""The tables of runs.db, in SQLAlchemy Core: plain columns, ISO dates, JSON as text, flags as 0 or 1.

Gives `metadata`, which knows them all, and one `Table` each, by subject: the work, what it is worth, what is rented,
what machines share, language models.
Flags are integers, so that the same SQL runs on SQLite and PostgreSQL. Columns marked "kept" are maintained by
agent/store/standing.py or agent/budget.py in the transaction that changes what they are derived from; that is what
makes the views fast at a million runs.
"""

from agent.store.columns import metadata
from agent.store.schema.admitted import admissions
from agent.store.schema.measured import (
    audits,
    boards,
    doc_nats,
    findings,
    frontier_runs,
    measurements,
    points,
    rescores,
    scores,
    verdicts,
)
from agent.store.schema.rented import installs, machines
from agent.store.schema.shared import blobs, commits, job_logs, jobs, tips, workers
from agent.store.schema.talks import calls, conversations, lessons, texts
from agent.store.schema.work import campaigns, controllers, events, heads, ledger, proposals, reviews, runs, trunk

__all__ = [
    "admissions",
    "audits",
    "blobs",
    "boards",
    "calls",
    "campaigns",
    "commits",
    "controllers",
    "conversations",
    "doc_nats",
    "events",
    "findings",
    "frontier_runs",
    "heads",
    "installs",
    "job_logs",
    "jobs",
    "ledger",
    "lessons",
    "machines",
    "measurements",
    "metadata",
    "points",
    "proposals",
    "rescores",
    "reviews",
    "runs",
    "scores",
    "texts",
    "tips",
    "trunk",
    "verdicts",
    "workers",
]
