"""Tables of language models: what they were asked and answered, and the lessons in their words.

Gives one `Table` each; agent/store/talks.py and agent/store/lessons.py write them.
"""

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, Table, Text

from agent.store.columns import Json, key, metadata, to, words

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
