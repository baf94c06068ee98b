"""Legality as code: the contest's rules, each a function of what is known of a run or a submission.

`ruling` says what a rule is and what it is asked; the rules themselves are in `scoring` (what may be done with
validation text), `limits` (clocks and bytes) and `evidence` (seeds, network, the code that ran). `static` finds signs
in the text of a script, `payload` unpacks what a script executes of its own literals. `RULES` has them all, by number.
"""

from agent.judge.rules import evidence, limits, scoring
from agent.judge.rules.ruling import Case as Case
from agent.judge.rules.ruling import Rule as Rule
from agent.judge.rules.ruling import Ruling as Ruling

RULES: tuple[Rule, ...] = tuple(sorted((*scoring.RULES, *limits.RULES, *evidence.RULES), key=lambda one: one.number))


def rulings(case: Case) -> list[Ruling]:
    """What every rule says. A folder's own word may tell against it, and proves nothing for it."""
    said, known = [one(case.believed) for one in RULES], case.vouched
    if known is case:
        return said
    return [rule(known) if one.state == "passed" else one for rule, one in zip(RULES, said, strict=True)]
