"""A sign in a script's text that a rule may be broken: what it is, where, and how much it says.

`invalid`: no honest script needs it. `flag`: a person should look; honest scripts do it too. `policy`: the contest has
accepted it, or has not decided.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from agent.records import Finding, Measurement

Severity = Literal["invalid", "flag", "policy"]
UNSEEN = frozenset(("hidden_code", "no_python", "too_deep", "too_long"))
"""Signs that a part of the text could not be looked at: what the rest does not show says nothing then."""


@dataclass(frozen=True)
class Sign:
    rule: int
    """Its number among the contest's."""
    severity: Severity
    name: str
    words: str
    line: int
    size: int = 0
    """Of what is counted over the whole script: an edit answers for what it adds to it."""

    def key(self) -> tuple[int, str, str]:
        """The same in another version of the script, wherever it stands there."""
        return self.rule, self.name, self.words

    def __str__(self) -> str:
        return f"line {self.line}: {self.words}" if self.line else self.words

    def risk(self, path: str) -> str:
        """For a reviewer; `findings` reads it again."""
        return f"{path}: rule {self.rule}, {self.name}: {self.words}"


_RISK = re.compile(r"\S+: rule \d+, (\w+): (.*)", re.DOTALL)


def findings(risks: Iterable[str]) -> tuple[Finding, ...]:
    """What a proposal's script was flagged for, as findings of its runs."""
    read = (_RISK.fullmatch(text) for text in risks)
    return tuple(Finding(found[1], "flag", found[2]) for found in read if found is not None)


def flagged(measured: Measurement, risks: Iterable[str]) -> Measurement:
    """With them."""
    return replace(measured, findings=measured.findings + findings(risks))
