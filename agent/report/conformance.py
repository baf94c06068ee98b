"""The conformance test of a script in words: one line a clause, and below what is broken and how to mend it.

Takes a `Conformance`; gives text. What a candidate wrote is shown without control characters.
"""

import textwrap

from agent.judge.contract import ASKS, FIXES, Clause, Conformance
from agent.words import plain

SIGNS = {"holds": "holds", "broken": "BROKEN", "untested": "-"}
WIDTH = 108


def words(found: Conformance) -> str:
    width = max((len(one.name) for one in found.clauses), default=0)  # none where it was broken off at once
    rows = [f"{SIGNS[one.state]:<6}  {one.name:<{width}}  {one.asks}" for one in found.clauses]
    broken = [row for one in found.broken for row in _broken(one)]
    reasons = dict.fromkeys(one.seen for one in found.clauses if one.state == "untested")
    untested = [row for reason in reasons for row in ("", _filled(f"Not tested: {reason}."))]
    return "\n".join([*rows, *broken, *untested, "", summary(found)])


def summary(found: Conformance) -> str:
    count = len(found.broken)
    if count:
        return f"{count} clause{'s are' if count > 1 else ' is'} broken."
    return f"It holds to the contract, as far as {found.tokens:,} tokens and {found.peeks:,} questions show."


def _broken(one: Clause) -> list[str]:
    first, *log = plain(one.seen, limit=4000).split("\n")
    rows = ["", _filled(f"{one.name}: {first}"), *(f"  | {row}" for row in log)]
    return [*rows, _filled(f"  To mend it: {one.fix}.")]


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def markdown() -> str:
    """All clauses as docs/candidates.md has them."""
    lines = ["| clause | what is asked | to mend it |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {asks} | {FIXES[name]} |" for name, asks in ASKS.items())])
