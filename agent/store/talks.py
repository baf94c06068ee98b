"""Conversations with language models, as rows: what was asked, what was answered, what it cost.

Takes a transaction; gives ids, and `Conversation` and `CallRow` records for whoever shows them. Texts come in redacted.
"""

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import RowMapping, select

from agent.records import ProposalState
from agent.store import statements
from agent.store.reads import Reads
from agent.store.rows import now
from agent.store.schema import calls, conversations, proposals, texts
from agent.store.writes import Tx

CallState = Literal["open", "done", "failed", "lost"]
What = Literal["propose", "lesson", "mcp"]
SHARED = 500  # characters from which a text is stored once for all calls


@dataclass(frozen=True)
class Conversation:
    id: int
    campaign_id: int
    proposal_id: int | None
    what: What
    planner: str
    mode: str
    created: str
    ended: str | None
    outcome: str


@dataclass(frozen=True)
class CallRow:
    """One call; its transcript is the part of the question that was new, and the answer."""

    id: int
    conversation_id: int
    entry_id: int
    model: str
    state: CallState
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    usd: float | None
    error: str
    started: str
    ended: str | None
    transcript: object


def add_conversation(
    tx: Tx, campaign_id: int, what: What, planner: str, mode: str = "", proposal_id: int | None = None
) -> int:
    values = {"campaign_id": campaign_id, "what": what, "planner": planner, "mode": mode, "created": now()}
    return statements.add(tx.connection, conversations, {**values, "proposal_id": proposal_id})


def end_conversation(tx: Tx, conversation_id: int, outcome: str) -> None:
    statements.change(tx.connection, conversations, conversation_id, {"ended": now(), "outcome": outcome})


def add_call(tx: Tx, campaign_id: int, conversation_id: int, entry_id: int, model: str, transcript: object) -> int:
    values = {
        "campaign_id": campaign_id,
        "conversation_id": conversation_id,
        "entry_id": entry_id,
        "model": model,
        "state": "open",
        "started": now(),
        "transcript": _packed(tx, transcript),
    }
    return statements.add(tx.connection, calls, values)


def end_call(
    tx: Tx,
    call_id: int,
    state: CallState,
    *,
    tokens: Mapping[str, int] | None = None,
    usd: float | None = None,
    error: str = "",
    transcript: object = None,
) -> None:
    """`tokens`: by column, such as `input_tokens`. `transcript` takes the place of the one that was written before."""
    values: dict[str, object] = {"state": state, "ended": now(), "usd": usd, "error": error, **(tokens or {})}
    if transcript is not None:
        values["transcript"] = _packed(tx, transcript)
    statements.change(tx.connection, calls, call_id, values)


def conversations_of(reads: Reads, proposal_id: int) -> list[Conversation]:
    """What led to a proposal and what was said of it afterwards, oldest first."""
    query = select(conversations).where(conversations.c.proposal_id == proposal_id).order_by(conversations.c.id)
    return [Conversation(**row) for row in reads.connection.execute(query).mappings()]


def calls_of(reads: Reads, conversation_id: int) -> list[CallRow]:
    query = select(calls).where(calls.c.conversation_id == conversation_id).order_by(calls.c.id)
    return [_call(reads, row) for row in reads.connection.execute(query).mappings()]


def open_calls(reads: Reads, campaign_id: int) -> list[tuple[int, int]]:
    """Call and ledger entry of all that are under way, or were when somebody was killed."""
    query = select(calls.c.id, calls.c.entry_id).where(calls.c.campaign_id == campaign_id, calls.c.state == "open")
    return [(row.id, row.entry_id) for row in reads.connection.execute(query)]


def untaught(reads: Reads, campaign_id: int, states: Collection[ProposalState], most: int) -> list[int]:
    """Proposals whose present state nobody was asked to explain, the oldest first."""
    of = (conversations.c.proposal_id == proposals.c.id) & (conversations.c.what == "lesson")
    asked = select(conversations.c.id).where(of, conversations.c.mode == proposals.c.state).exists()
    mine = (proposals.c.campaign_id == campaign_id) & proposals.c.state.in_(states) & (proposals.c.kind != "base")
    query = select(proposals.c.id).where(mine, ~asked).order_by(proposals.c.id).limit(most)
    return [row.id for row in reads.connection.execute(query)]


def unpriced(reads: Reads, campaign_id: int) -> list[str]:
    """Models that answered, and nobody knows for how much."""
    free = (calls.c.campaign_id == campaign_id) & (calls.c.state == "done") & calls.c.usd.is_(None)
    return sorted(row.model for row in reads.connection.execute(select(calls.c.model).where(free).distinct()))


def is_open(reads: Reads, call_id: int) -> bool:
    return str(reads.connection.execute(select(calls.c.state).where(calls.c.id == call_id)).scalar_one()) == "open"


def _call(reads: Reads, row: RowMapping) -> CallRow:
    values = {name: row[name] for name in CallRow.__dataclass_fields__ if name != "transcript"}
    return CallRow(**values, transcript=_whole(reads, json.loads(zlib.decompress(row["transcript"]))))


def _packed(tx: Tx, transcript: object) -> bytes:
    text = json.dumps(_shared(tx, transcript), ensure_ascii=True, allow_nan=False)
    return zlib.compress(text.encode("ascii"))


def _shared(tx: Tx, value: object) -> object:
    """Long texts go to a table of their own, where the prompt of a thousand calls stands once."""
    if isinstance(value, str) and len(value) >= SHARED:
        data = value.encode("utf-8", "replace")
        sha = hashlib.sha256(data).hexdigest()
        if tx.connection.execute(select(texts.c.sha).where(texts.c.sha == sha)).first() is None:
            tx.connection.execute(texts.insert(), {"sha": sha, "text": zlib.compress(data)})
        return {"sha256": sha}
    if isinstance(value, Mapping):
        return {str(key): _shared(tx, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shared(tx, item) for item in value]
    return value


def _whole(reads: Reads, value: object) -> object:
    if isinstance(value, dict):
        if list(value) == ["sha256"]:
            found = reads.connection.execute(select(texts.c.text).where(texts.c.sha == value["sha256"])).scalar_one()
            return zlib.decompress(found).decode("utf-8")
        return {key: _whole(reads, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(reads, item) for item in value]
    return value
