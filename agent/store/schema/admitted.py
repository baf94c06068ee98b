"""Tables of machines before they are used: what each showed of itself, and whether it was taken.

Gives one `Table`; agent/store/admissions.py writes it.
"""

from sqlalchemy import Column, Double, Index, Integer, Table

from agent.store.columns import Json, key, metadata, to, words

admissions = Table(
    "admissions",
    metadata,
    key(),
    to("campaign_id", "campaigns", nullable=True),
    words("lease"),
    words("machine_key", 100),  # tells a machine again when it is offered once more
    words("hardware_class", 300),
    Column("ok", Integer, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("step_ms", Double),  # of the fixed work; empty: it showed none
    Column("record", Json, nullable=False),  # as it was shown
    words("created"),
    Index(None, "hardware_class", "id"),
    Index(None, "machine_key"),
    Index(None, "lease"),
)
