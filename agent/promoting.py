"""From findings to a skill: a draft that a person reviews, on a branch of its own.

Takes the findings of one campaign; gives the text of `skills/<name>/SKILL.md`, or commits it to the branch
`caddie/skill-<name>`. The person's checkout, branch and index stay as they are. A model's words go in as one line each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent import skills
from agent.errors import UserError
from agent.records import Campaign
from agent.store.lessons import Lesson
from agent.words import line
from agent.worktree import Repository, message


@dataclass(frozen=True)
class Drafted:
    """What waits for a person."""

    branch: str
    commit: str
    path: str
    lessons: tuple[int, ...]
    new: bool
    """Else a section was added to a skill that was there."""


def usable(lessons: Sequence[Lesson], only: Sequence[int] = ()) -> list[Lesson]:
    """Those that nothing has contradicted; with `only`, those of these numbers."""
    known = {lesson.id: lesson for lesson in lessons}
    for number in only:
        if number not in known:
            raise UserError(f"no finding l{number} in this campaign")
        if (by := known[number].contradicted_by) is not None:
            raise UserError(f"l{number} was contradicted by l{by}, and is no skill")
    chosen = [known[number] for number in only] if only else list(lessons)
    found = [lesson for lesson in chosen if lesson.contradicted_by is None]
    if not found:
        raise UserError("there are no findings that stand; a campaign writes them after its verdicts")
    return found


def skill_text(name: str, before: str | None, lessons: Sequence[Lesson], campaign: Campaign) -> str:
    """The whole file: a new skill, or the old one with one more section."""
    section = _section(lessons, campaign)
    if before is not None:
        return f"{before.rstrip()}\n\n{section}"
    kinds = ", ".join(sorted({line(lesson.kind, 40) for lesson in lessons if lesson.kind.strip()})) or "no kind"
    about = (
        f"Findings of campaign {campaign.name} on track {campaign.track} ({kinds}). "
        "Read before proposing a change of one of these kinds."
    )
    head = f"---\nname: {name}\ndescription: {json.dumps(line(about, 1000), ensure_ascii=False)}\n---\n\n"
    return head + section


def propose(repo: Repository, name: str, lessons: Sequence[Lesson], campaign: Campaign) -> Drafted:
    """Commits the draft on top of the checkout's commit. Raises UserError for what can't be a skill."""
    topic, path = f"skill-{name}", f"skills/{name}/{skills.FILE}"
    _refuse_name(name)
    if repo.trunk(topic) is not None:
        raise UserError(
            f"branch caddie/{topic} waits for review already: merge it, or remove it (git branch -D caddie/{topic})"
        )
    head = repo.head()
    before = repo.files(head, [path])[path] if repo.has(head, path) else None
    text = skill_text(name, before, lessons, campaign)
    _lint(name, text)
    cited = ", ".join(f"l{lesson.id}" for lesson in lessons)
    runs = ", ".join(f"r{run}" for run in sorted({run for lesson in lessons for run in lesson.runs}))
    said = message(
        f"Skill {name}: findings of campaign {campaign.name}",
        f"Written by a model after verdicts of track {campaign.track}; to be reviewed by a person before it is merged.",
        {"Campaign": campaign.name, "Findings": cited, "Runs": runs},
    )
    commit = repo.commit_candidate(topic, 0, head, {path: text}, said)
    repo.move_trunk(topic, commit, None)
    return Drafted(f"caddie/{topic}", commit, path, tuple(lesson.id for lesson in lessons), before is None)


def words(found: Drafted) -> str:
    """What was done, and how a person goes on."""
    what = "a new skill" if found.new else "a new section of a skill"
    return "\n".join(
        [
            f"{len(found.lessons)} findings are {what}, {found.path}, on branch {found.branch} ({found.commit[:10]}).",
            "Nothing in your checkout has changed. Figures and words are a model's until you have read them:",
            f"  git diff HEAD...{found.branch}    what it says",
            f"  git merge {found.branch}          keeps it",
            f"  git branch -D {found.branch}      throws it away",
        ]
    )


def _section(lessons: Sequence[Lesson], campaign: Campaign) -> str:
    lines = [
        f"## Findings of campaign {campaign.name}",
        "",
        f"Track {campaign.track}, {campaign.hardware_class or 'unknown hardware'}, data {campaign.data_sha[:12]}. "
        "In a model's words, checked by no second campaign.",
        "",
    ]
    return "\n".join([*lines, *map(_item, lessons)]) + "\n"


def _item(lesson: Lesson) -> str:
    text = line(lesson.text, 1500).replace("](", "] (")  # no link of a model's
    runs = ", ".join(f"r{run}" for run in lesson.runs)
    few = "; one run, which proves nothing" if len(lesson.runs) == 1 else ""
    kind = f"{line(lesson.kind, 40)}; " if lesson.kind.strip() else ""
    return f"- {text} ({kind}p{lesson.proposal_id}; {runs}; {lesson.confidence:.0%} sure{few})"


def _refuse_name(name: str) -> None:
    if not skills.good_name(name):
        raise UserError(f"skill {name!r}: lower-case letters, digits and single hyphens, {skills.MOST_NAME} at most")


def _lint(name: str, text: str) -> None:
    """What the skills' own check would say of the draft, links to files beside it aside."""
    with TemporaryDirectory(prefix="caddie-skill-") as folder:
        path = Path(folder) / name / skills.FILE
        path.parent.mkdir()
        path.write_text(text, "utf-8")
        faults = [fault.words for fault in skills.lint(Path(folder)) if not fault.words.startswith("links to ")]
    if faults:
        raise UserError(f"skill {name} would be refused: {'; '.join(faults)}")
