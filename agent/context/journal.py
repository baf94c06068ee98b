"""The part of a prompt that grows: what failed and what was learnt, as blocks of which only the last ever changes.

Takes `Evidence`; gives `Part`s: first what was before the present head, then what came since. A provider that keeps
what two questions have in common finds all blocks but the last again.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.context import tokens
from agent.context.budgets import Budgets
from agent.context.evidence import Evidence
from agent.context.history import Head, History, Lesson, Tried
from agent.context.templates import Templates
from agent.llm import Part

BLOCK = 8  # entries; half of that, on average, is what changes with each question


class _Entry(NamedTuple):
    at: str
    line: str


class _Told(NamedTuple):
    """One of the two histories, within its budgets."""

    lines: list[str]
    left_out_failed: int
    left_out_lessons: int


def parts(templates: Templates, evidence: Evidence, budgets: Budgets) -> tuple[Part, ...]:
    """The last whole block is marked as worth a cache."""
    older = _told(templates, evidence.older, budgets.older_failed, budgets.older_lessons)
    region = _told(templates, evidence.region, budgets.failed, budgets.lessons)
    before = _blocks(templates, evidence.head, older, region=False)
    since = _blocks(templates, evidence.head, region, region=True)
    texts = [*before, *since]
    whole = len(texts) - (1 if len(region.lines) % BLOCK or not region.lines else 0)
    return tuple(Part(text, stable=n == whole - 1) for n, text in enumerate(texts))


def tried(templates: Templates, idea: Tried) -> str:
    """One line of an idea that was not kept."""
    return templates.render("tried.md.j2", {"idea": idea}).strip()


def finding(templates: Templates, lesson: Lesson) -> str:
    """One line of what a verdict taught."""
    return templates.render("finding.md.j2", {"lesson": lesson}).strip()


def _told(templates: Templates, history: History, failed_budget: int, lessons_budget: int) -> _Told:
    """The newest of both that fit, in the order in which they came."""
    failed = _newest((_Entry(one.at, tried(templates, one)) for one in reversed(history.failed)), failed_budget)
    lessons = _newest((_Entry(one.at, finding(templates, one)) for one in reversed(history.lessons)), lessons_budget)
    all_failed = history.first_failed + len(history.failed)
    all_lessons = history.first_lesson + len(history.lessons)
    failed = failed[_start(failed, all_failed, failed_budget) :]
    lessons = lessons[_start(lessons, all_lessons, lessons_budget) :]
    kept = sorted([*failed, *lessons], key=lambda one: one.at)
    return _Told([one.line for one in kept], all_failed - len(failed), all_lessons - len(lessons))


def _newest(entries: Iterator[_Entry], budget: int) -> list[_Entry]:
    """As many as a budget can hold, or a few more, oldest first. What is older is not even made a line of."""
    found: list[_Entry] = []
    for entry in entries:
        found.append(entry)
        budget -= tokens.estimate(entry.line)
        if budget < 0:
            break
    return found[::-1]


def _start(newest: list[_Entry], ever: int, budget: int) -> int:
    return tokens.window([one.line for one in newest], ever - len(newest), budget)


def _blocks(templates: Templates, head: Head, told: _Told, *, region: bool) -> list[str]:
    starts = range(0, max(1, len(told.lines)), BLOCK)
    return [_block(templates, head, told, told.lines[at : at + BLOCK], region=region, opening=at == 0) for at in starts]


def _block(templates: Templates, head: Head, told: _Told, lines: Sequence[str], *, region: bool, opening: bool) -> str:
    values = {
        "head": head,
        "region": region,
        "opening": opening,
        "left_out_failed": told.left_out_failed,
        "left_out_lessons": told.left_out_lessons,
        "lines": lines,
    }
    return templates.render("journal.md.j2", values)
