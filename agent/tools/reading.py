"""Tools that read what is written: skills, scripts, diffs, the database.

Each takes the desk, the proposal that edits apply to, and its arguments; gives text.
"""

from agent import skills
from agent.errors import UserError, did_you_mean
from agent.records import Proposal
from agent.store.query import Table
from agent.store.query import query as ask
from agent.store.schema import metadata
from agent.store.views import VIEWS
from agent.tools import arguments
from agent.tools.desk import Desk, a_proposal
from agent.tools.window import window
from agent.words import line

ROWS, SECONDS, CELL = 200, 5.0, 600
# What tells of the research; a few more hold accounts of its machinery.
_TABLES = ("proposals", "runs", "measurements", "findings", "verdicts", "reviews", "lessons", "events", "campaigns")


def read_skill(desk: Desk, source: Proposal, given: arguments.ReadSkill) -> str:
    skill = skills.read(skills.folder_of(desk.root), given.name)
    return window(f"skill {skill.name}", skill.body, given.first_line, 0)


def read_script(desk: Desk, source: Proposal, given: arguments.ReadScript) -> str:
    editable = desk.track.script.editable
    path = given.path or desk.track.script.path
    if path not in editable:  # the exact spelling, or nothing: no `..`, no link, nothing else of the repository
        hint = did_you_mean(path, editable)
        raise UserError(f"{line(path, 100)} is not an editable file.{hint} Editable are {', '.join(editable)}")
    one = source
    if given.of:
        with desk.store.read() as reads:
            one = a_proposal(reads, given.of)
    if one.commit is None:
        raise UserError(
            f"p{one.id} has no commit: it is {one.state}. read_script without `of` shows what edits apply to"
        )
    text = desk.repo.files(one.commit, (path,))[path]
    return window(f"{path} of p{one.id}", text, given.first_line, given.last_line)


def show_diff(desk: Desk, source: Proposal, given: arguments.ShowDiff) -> str:
    with desk.store.read() as reads:
        one = a_proposal(reads, given.proposal)
    if one.baseline_id is None:
        raise UserError(f"p{one.id} has no diff: it is the base, what the others change")
    if not one.diff:  # what did not apply was never made a diff
        return window(f"p{one.id} is {one.state}, it has no diff; its edits as they were written", one.edits, 1, 0)
    return window(f"diff of p{one.id} against p{one.baseline_id}", one.diff, given.first_line, 0)


def query(desk: Desk, source: Proposal, given: arguments.Query) -> str:
    return _rows(ask(desk.store, given.sql, max_rows=ROWS, timeout_s=SECONDS, max_cell=CELL))


def tables() -> str:
    """What can be asked for, with the columns of what matters most."""
    columns = [f"{name}({', '.join(column.name for column in metadata.tables[name].columns)})" for name in _TABLES]
    others = [name for name in metadata.tables if name not in _TABLES]
    return f"Views: {', '.join(VIEWS)}. Tables: {'; '.join(columns)}; and {', '.join(others)}."


def _rows(found: Table) -> str:
    if not found.rows:
        return f"no rows; columns: {', '.join(line(name, 60) for name in found.columns)}"
    rows = [found.columns, *found.rows]
    cut = [f"[cut at {len(found.rows)} rows: there are more]"] if found.truncated else []
    return "\n".join([*(" | ".join(map(_cell, row)) for row in rows), *cut])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.7g}" if isinstance(value, float) else line(str(value), CELL)
