"""How many tokens each part of a prompt may take.

Takes what a model can read at once, where that is little; gives `Budgets`.
"""

from dataclasses import dataclass, fields

FIXED = 7_000  # tokens of the templates' own text, at most


@dataclass(frozen=True)
class Budgets:
    """Tokens of each part, at most."""

    skills: int = 6_000
    texts: int = 14_000
    """Of whole skills, for a model without tools."""
    knobs: int = 3_000
    script: int = 40_000
    lineage: int = 3_000
    older_failed: int = 4_000
    older_lessons: int = 3_000
    failed: int = 12_000
    lessons: int = 4_000
    near: int = 1_500
    reviews: int = 2_000
    in_flight: int = 2_000
    diff: int = 8_000
    words: int = 3_000
    """Title, hypothesis and verdict of what is to be shrunk, repaired or combined."""
    log: int = 3_000

    @property
    def most(self) -> int:
        """Of a whole prompt: `combine` shows two more diffs."""
        return FIXED + 2 * self.diff + sum(int(getattr(self, field.name)) for field in fields(self))

    def within(self, total: int) -> "Budgets":
        """All of them smaller in proportion, for a model that takes no more than so much."""
        share = (total - FIXED) / (self.most - FIXED)
        if share >= 1:
            return self
        return Budgets(**{field.name: max(0, int(getattr(self, field.name) * share)) for field in fields(self)})
