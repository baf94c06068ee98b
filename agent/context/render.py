"""Evidence as a prompt: `render(evidence, budgets) -> Context`, by the templates in prompts/.

Pure but for reading templates: the same evidence gives the same bytes. Parts come in the order of how seldom they
change, so that providers can keep what two questions have in common: the rules of the campaign, the head's script and
lineage, a journal that only grows at its end, and last what is new each time.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.context import journal, tokens
from agent.context.budgets import Budgets
from agent.context.evidence import Evidence, Source
from agent.context.templates import Templates
from agent.judge.verdict import baseline_runs
from agent.llm import Part
from agent.planner.idea import Idea
from agent.track import Track


@dataclass(frozen=True)
class Context:
    """What a model is told, the seldom changing first."""

    system: tuple[Part, ...]
    user: tuple[Part, ...]


DEFAULT = Budgets()


def render(
    evidence: Evidence, budgets: Budgets = DEFAULT, *, tools: bool = True, workspace: Path | None = None
) -> Context:
    """`tools`: the model can call some; else its answer is one JSON object. Raises UserError for a broken template."""
    templates = Templates(workspace)
    system = (
        Part(templates.render("system.md.j2", _system(evidence, tools))),
        Part(templates.render("track.md.j2", _track(evidence, budgets, tools)), stable=True),
    )
    head = Part(templates.render("head.md.j2", _head(templates, evidence, budgets)), stable=True)
    past = journal.parts(templates, evidence, budgets)
    now = Part(templates.render("research.md.j2", _now(templates, evidence, budgets, tools)))
    return Context(system, (head, *past, now))


def _system(evidence: Evidence, tools: bool) -> dict[str, object]:
    return {"tools": tools, "path": evidence.track.script.path, "fields": list(_fields())}


def _fields() -> Iterator[dict[str, object]]:
    """The fields of an idea, as its own JSON schema has them."""
    schema = Idea.model_json_schema()
    for name, said in schema["properties"].items():
        kinds = [one for one in said.get("anyOf", [said]) if one.get("type") != "null"]
        of = " or ".join(f'"{one}"' for one in said.get("enum", ())) or str(kinds[0]["type"])
        required = name in schema["required"]
        yield {"name": name, "type": of, "description": said.get("description", ""), "required": required}


def _track(evidence: Evidence, budgets: Budgets, tools: bool) -> dict[str, object]:
    rule = evidence.track.decision
    against = baseline_runs(rule, rule.max_seeds)
    knobs, knobs_left = _first(_knobs(evidence.track), budgets.knobs)
    skills, skills_left = _first(evidence.skills, budgets.skills)
    shown = 0 if tools else tokens.fit([one.body for one in evidence.texts], budgets.texts)
    return {
        "track": evidence.track,
        "against": against,
        "resolution": rule.prior_sigma * math.sqrt(1 / rule.max_seeds + 1 / against),
        "knobs": knobs,
        "knobs_left_out": knobs_left,
        "skills": skills,
        "skills_left_out": skills_left,
        "texts": [{"name": one.name, "body": one.body} for one in evidence.texts[:shown]],
    }


def _knobs(track: Track) -> list[str]:
    return [f"{one.name} at {one.at} ({one.group}): {', '.join(map(str, one.choices))}" for one in track.knob]


def _head(templates: Templates, evidence: Evidence, budgets: Budgets) -> dict[str, object]:
    steps = [templates.render("step.md.j2", {"step": step}).strip() for step in evidence.lineage]
    kept = tokens.fit(steps[::-1], budgets.lineage)
    files, left = [], budgets.script
    for path, text in evidence.files:
        cut = tokens.shorten(text, left)
        left = max(0, left - tokens.estimate(cut.text))
        files.append({"path": path, "text": cut.text, "left_out": cut.left_out})
    return {
        "head": evidence.head,
        "files": files,
        "lineage": steps[len(steps) - kept :],
        "lineage_left_out": len(steps) - kept,
    }


def _now(templates: Templates, evidence: Evidence, budgets: Budgets, tools: bool) -> dict[str, object]:
    limit, size = evidence.track.limits.artifact_bytes, evidence.head.total_bytes
    near, _ = _first([journal.tried(templates, one) for one in evidence.near], budgets.near)
    said = [templates.render("review.md.j2", {"review": one}).strip() for one in evidence.reviews]
    waiting = [templates.render("waiting.md.j2", {"idea": one}).strip() for one in evidence.in_flight]
    said_kept, waiting_kept = tokens.fit(said[::-1], budgets.reviews), tokens.fit(waiting[::-1], budgets.in_flight)
    return {
        "head": evidence.head,
        "near": near,
        "reviews": said[len(said) - said_kept :],
        "reviews_left_out": len(said) - said_kept,
        "in_flight": waiting[len(waiting) - waiting_kept :],
        "in_flight_left_out": len(waiting) - waiting_kept,
        "calibration": evidence.calibration,
        "sigma": evidence.sigma,
        "left": evidence.balance.left(),
        "caps": evidence.balance.caps,
        "run_s": evidence.run_s,
        "limit": limit,
        "room": None if limit is None or size is None else limit - size,
        "mode": evidence.mode,
        "source": _cut(evidence.source, budgets, budgets.words),
        "pieces": [_cut(piece, budgets, budgets.words // 2) for piece in evidence.pieces],
        "log": tokens.shorten(evidence.log_tail, budgets.log, end=True).text,
        "tools": tools,
        "focus": evidence.focus,
    }


def _cut(source: Source, budgets: Budgets, words: int) -> Mapping[str, object]:
    """Its texts within their budgets."""
    cut = tokens.shorten(source.diff, budgets.diff)
    shorter = replace(
        source,
        diff=cut.text,
        hypothesis=tokens.shorten(source.hypothesis, words // 2).text,
        words=tokens.shorten(source.words, words // 2).text,
    )
    return {**vars(shorter), "left_out": cut.left_out}


def _first(lines: Sequence[str], budget: int) -> tuple[list[str], int]:
    """The first lines that fit, and how many don't."""
    kept = tokens.fit(lines, budget)
    return list(lines[:kept]), len(lines) - kept
