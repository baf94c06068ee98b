"""The run database: `open_store` gives a `Store`, `store.read()` a `Reads`, `store.write()` a `Tx`."""

from agent.store.open import Store, open_store
from agent.store.reads import Reads
from agent.store.rows import Replicate, ReviewNote, Scored, Spent, TrialRow
from agent.store.writes import Tx

__all__ = ["Reads", "Replicate", "ReviewNote", "Scored", "Spent", "Store", "TrialRow", "Tx", "open_store"]
