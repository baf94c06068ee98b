"""Tables of what is rented: each machine from the moment it is wanted to its last bill, and the names they go by.

Gives one `Table` each. A machine's dollars stand in the ledger (`entry_id`); agent/machines/ alone writes here.
"""

from sqlalchemy import Column, Double, Index, Integer, Table, Text, UniqueConstraint

from agent.store.columns import Json, key, metadata, to, words

STORAGE = " storage"  # ends the provider's and the backend's name of what is no machine (agent/machines/storage.py)

machines = Table(
    "machines",
    metadata,
    key(),
    to("campaign_id", "campaigns"),
    words("name", 200),  # at the provider: what a sweep finds it by
    words("backend", 200),  # the runner it is rented for, as its settings are called
    words("provider"),
    words("provider_id", 200),  # empty until the provider has said it
    words("kind", 200),  # of GPU, as the provider calls it
    Column("gpus", Integer, nullable=False),
    words("place", 200),  # data centre or region; empty: wherever
    Column("usd_per_hour", Double, nullable=False),
    words("state"),  # wanted, creating, live, closing, gone or refused
    words("reason", 2000),
    words("refused", 2000),  # why it was found not to be good enough; empty: it was not
    to("entry_id", "ledger", nullable=True),
    words("until"),  # when it ends by itself, and what is reserved ends
    words("created"),
    Column("live", Text),
    Column("ended", Text),
    Column("billed_usd", Double),  # as the provider says; empty until it said so
    Column("facts", Json, nullable=False),  # of its hardware and how it is reached
    Index(None, "campaign_id", "state"),
    Index(None, "state"),
    Index(None, "ended"),
)

# What the names of machines begin with. A database that was copied elsewhere is another home: neither sweeps the
# other's machines away.
installs = Table(
    "installs",
    metadata,
    key(),
    words("name"),
    words("home"),
    words("created"),
    UniqueConstraint("home"),
)
