"""The life of a proposal: which state may follow which, and where it ends."""

from agent.records import ProposalState

# What may follow what. Every state that maps to nothing is final; `promoted` ends a proposal unless it is reverted.
TRANSITIONS: dict[ProposalState, tuple[ProposalState, ...]] = {
    "drafted": ("edit_failed", "duplicate", "blocked", "awaiting_review", "approved", "cancelled"),
    "awaiting_review": ("declined", "expired", "approved", "cancelled"),
    "approved": ("queued", "awaiting_review", "blocked", "unfunded", "cancelled"),  # blocked: breaks the contract
    "queued": ("running", "lost", "unfunded", "cancelled"),  # lost: no machine took it
    "running": ("lost", "measured", "crashed", "cancelled", "duplicate"),  # inert: the same losses as its baseline's
    "lost": ("running", "crashed", "unfunded", "cancelled"),
    "measured": (
        "running",  # one more seed
        "confirming",
        "invalid",
        "oversize",
        "crashed",
        "worse",
        "inconclusive",
        "unfunded",
        "cancelled",
        "duplicate",  # inert: the same scores as its baseline's
    ),
    "confirming": (
        "auditing",
        "replaying",
        "invalid",
        "oversize",
        "crashed",
        "worse",
        "inconclusive",
        "unfunded",
        "cancelled",
        "duplicate",  # inert, which only a seed that its baseline was run with can tell
    ),
    "auditing": ("replaying", "accepted", "invalid", "inconclusive", "unfunded", "cancelled"),
    "replaying": ("confirming", "awaiting_review", "inconclusive", "unfunded", "cancelled", "crashed"),
    "accepted": ("promoted", "cancelled"),
    "promoted": ("reverted",),
}
FINAL: frozenset[ProposalState] = frozenset(
    {
        "edit_failed",
        "duplicate",
        "blocked",
        "declined",
        "expired",
        "invalid",
        "oversize",
        "crashed",
        "worse",
        "inconclusive",
        "unfunded",
        "cancelled",
        "promoted",
        "reverted",
    }
)
# Given up for want of time, money or a free core: the same idea may be had again, unless it has a score already.
GIVEN_UP: frozenset[ProposalState] = frozenset({"cancelled", "unfunded", "expired"})
