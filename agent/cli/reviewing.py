"""The command `review`: what waits for a person, and the person's answers.

It writes rows and nothing else, so it works while the loop runs in another terminal.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent import named
from agent.cli.opened import AtWork, opened
from agent.cli.printing import AsJson, coloured, emit
from agent.errors import EditError, UserError

if TYPE_CHECKING:
    from agent.cli.opened import Opened
    from agent.review import Pending
    from agent.store import Reads
    from agent.track import Track

Answer = Literal["approve", "edit", "reject", "stop", "later", "quit"]
ANSWERS: dict[str, Answer] = {
    "a": "approve",
    "e": "edit",
    "r": "reject",
    "s": "stop",
    "l": "later",
    "q": "quit",
}
LONGEST_DIFF = 100_000  # characters that a card shows


def review(
    proposals: Annotated[
        list[str] | None, typer.Argument(help="Only these, such as p12 p13. Default: all that wait.")
    ] = None,
    campaign: AtWork = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show what waits; ask nothing.")] = False,
    approve_all: Annotated[bool, typer.Option("--approve-all", help="Approve them without asking.")] = False,
    reject_all: Annotated[bool, typer.Option("--reject-all", help="Reject them without asking.")] = False,
    comment: Annotated[str, typer.Option(help="Why; kept with the idea.")] = "",
    as_json: AsJson = False,
) -> None:
    """Answer the ideas that wait for you.

    The best expected gain per cost comes first. Each can be approved, edited in $EDITOR, rejected with a
    comment, or left for later; stop ends the campaign when what runs is done. What you edited is approved.
    """
    from agent import review as queue

    if approve_all and reject_all:
        raise UserError("--approve-all and --reject-all: choose one")
    in_bulk = approve_all or reject_all
    with opened(campaign, at_work=True) as found:
        if proposals and campaign is None:
            found = _theirs(found, proposals)
        waiting = _waiting(found, proposals or [])
        if list_only or not waiting or (as_json and not in_bulk):
            emit([_row(item) for item in waiting], as_json, lambda: _listed(waiting))
        elif in_bulk:
            act = queue.approve if approve_all else queue.reject
            with found.store.write() as tx:
                done = act(tx, [item.proposal for item in waiting], _who(), comment)
            rows = [{"proposal": f"p{one.id}", "state": one.state} for one in done]
            emit(rows, as_json, lambda: "\n".join(f"p{one.id} {one.state}" for one in done))
        else:
            for n, item in enumerate(waiting, 1):
                if not _answered(found, item, f"{n} of {len(waiting)}", comment):
                    return


def _theirs(found: "Opened", wanted: list[str]) -> "Opened":
    """With the campaign of the ideas that are named."""
    with found.store.read() as reads:
        owners = {named.proposal(reads, text).campaign_id for text in wanted}
        return found._replace(campaign=reads.campaign_by_id(min(owners)))


def _waiting(found: "Opened", wanted: list[str]) -> "list[Pending]":
    from agent import review as queue
    from agent.track import parse

    with found.store.read() as reads:
        track = parse(found.campaign.track_toml, "the campaign's track")
        waiting = queue.pending(reads, found.campaign.id, _run_s(reads, found.campaign.id, track), track)
        asked = [named.proposal(reads, text) for text in wanted]
    for one in asked:
        if one.campaign_id != found.campaign.id:
            raise UserError(f"p{one.id} is of another campaign than {found.campaign.name}: answer it by itself")
        if one.state != "awaiting_review":
            raise UserError(f"p{one.id} doesn't wait for review: it is {one.state}")
    ids = {one.id for one in asked}
    return [item for item in waiting if not ids or item.proposal.id in ids]


def _run_s(reads: "Reads", campaign_id: int, track: "Track") -> float:
    """What a run at the rung that decides has cost so far."""
    from agent.context import history

    return (history.run_s(reads, campaign_id) or 0.0) * max(1, track.hardware.gpus)


def _answered(found: "Opened", item: "Pending", place: str, comment: str) -> bool:
    """Shows it, and asks until there is an answer that works; False: the person has had enough."""
    typer.echo(_card(item, place))
    draft = _Draft(found.folder / f"edited-p{item.proposal.id}.diff", item.proposal.diff)
    while True:
        try:
            typed = typer.prompt("approve / edit / reject / stop / later / quit", default="later")
        except typer.Abort:  # the end of the input
            return False
        answer = ANSWERS.get(str(typed).strip().lower()[:1])
        if answer is None:
            typer.echo(f"{typed!r}: type the first letter of one of them")
            continue
        try:
            return _act(found, item, answer, comment, draft)
        except (EditError, UserError) as error:
            typer.echo(f"That did not work: {error}")
            if isinstance(error, UserError):
                now = next((one for one in _waiting(found, []) if one.proposal.id == item.proposal.id), None)
                # Somebody else has answered in the meantime, or a new head has changed it.
                return now is None or _answered(found, now, place, comment)


def _act(found: "Opened", item: "Pending", answer: Answer, comment: str, draft: "_Draft") -> bool:
    from agent import review as queue
    from agent.store.lease import holder

    proposal, who, name = item.proposal, _who(), found.campaign.name
    if answer in ("later", "quit"):
        return answer == "later"
    if answer == "edit":
        return _edit(found, item, comment, draft)
    if answer == "reject":
        comment = comment or typer.prompt("why (kept with the idea)", default="", show_default=False)
    with found.store.write() as tx:
        if answer == "approve":
            queue.approve(tx, [proposal], who, comment)
        elif answer == "reject":
            queue.reject(tx, [proposal], who, comment)
        elif holder(tx.connection, f"campaign {name}") is None:
            typer.echo(f"p{proposal.id} waits on; nobody runs {name}, so there is nothing to stop")
            return False
        else:
            queue.stop(tx, proposal.id, who, comment)
            typer.echo(f"p{proposal.id} waits on; {name} finishes what runs and ends")
            return False
    draft.done()
    typer.echo(f"p{proposal.id} {'approved' if answer == 'approve' else 'rejected'}")
    return True


def _edit(found: "Opened", item: "Pending", comment: str, draft: "_Draft") -> bool:
    """The person's version of the diff takes the place of the idea; the guard checks it like any other."""
    from agent import review as queue
    from agent.track import parse
    from agent.worktree import Repository

    old = item.proposal
    edited = draft.edited()
    track = parse(found.campaign.track_toml, "the campaign's track")
    try:
        with found.store.read() as reads:
            baseline = reads.proposal(old.baseline_id or 0)
        files = Repository(found.root).files(baseline.commit or "", track.script.editable)
        with found.store.write() as tx:
            new = queue.edit(tx, old, _who(), edited, files, track, comment)
    except EditError as error:
        raise EditError(f"{error}. {draft.kept()}") from error
    except UserError as error:
        raise UserError(f"{error}. {draft.kept()}") from error
    draft.done()
    typer.echo(f"p{new.id} takes the place of p{old.id} and is approved, unless a check finds something wrong with it")
    return True


class _Draft:
    """What a person makes of a diff. It stays in a file until it was taken; the next try, today or another day, goes on
    with it."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def edited(self) -> str:
        """Opens the editor. Raises EditError."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or shutil.which("nano") or shutil.which("vi")
        if not editor:
            raise EditError("there is no editor: set EDITOR, such as EDITOR=nano")
        try:
            command = shlex.split(editor)
        except ValueError as error:
            raise EditError(f"EDITOR (or VISUAL) is no command: {editor!r}: {error}. Set it anew") from error
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._path.write_text(self._text, "utf-8")
            subprocess.run([*command, str(self._path)], check=True)
            return self._path.read_text("utf-8")
        except (OSError, subprocess.CalledProcessError, UnicodeDecodeError) as error:
            raise EditError(f"the editor failed, and the idea still waits: {error}. {self.kept()}") from error

    def kept(self) -> str:
        return f"What you wrote is in {self._path}; `edit` goes on with it, and without the file begins anew"

    def done(self) -> None:
        self._path.unlink(missing_ok=True)


def _row(item: "Pending") -> dict[str, object]:
    one = item.proposal
    return {
        "proposal": f"p{one.id}",
        "title": one.title,
        "hypothesis": one.hypothesis,
        "kind": one.kind,
        "planner": one.planner,
        "expected_gain": one.expected_gain,
        "confidence": one.confidence,
        "cost_s": item.cost_s,
        "gain_per_hour": item.gain_per_hour,
        "risk": one.risk,
        "expected_bytes": one.expected_bytes,
        "sized_bytes": one.sized_bytes,
        "diff": one.diff,
    }


def _listed(waiting: "list[Pending]") -> str:
    from agent.words import line, table

    if not waiting:
        return "nothing waits for review"
    rows = []
    for item in waiting:
        one = item.proposal
        risk = ", ".join(one.risk)
        rows.append((f"p{one.id}", one.expected_gain, item.gain_per_hour, risk, line(one.title, 60)))
    return table(("idea", "expected gain", "per hour", "risk", "title"), rows)


def _card(item: "Pending", place: str) -> str:
    """One idea, with all that a person needs for an answer."""
    from agent.words import colourful, duration, line, plain

    one = item.proposal
    risks = [line(risk, 500) for risk in one.risk] or ["none seen"]
    bold = ("\x1b[1m", "\x1b[0m") if colourful(sys.stdout) else ("", "")
    lines = [
        "",
        f"{bold[0]}p{one.id}  {line(one.title, 100)}{bold[1]}  ({place})",
        f"  hypothesis  {line(one.hypothesis, 1000)}",
        f"  expected    {0.0 - one.expected_gain:+.4f} BPB, confidence {one.confidence:.0%}",
        f"  cost        {duration(item.cost_s)} of slot time expected: screening, and more the better it is",
        *(f"  {'' if n else 'risk':12}{risk}" for n, risk in enumerate(risks)),
        f"  from        {line(one.planner, 60)}, {one.kind}, on p{one.baseline_id}",
    ]
    if one.expected_bytes is not None:
        lines.insert(4, f"  bytes       {one.expected_bytes:,} expected")
    elif one.sized_bytes is not None:
        lines.insert(4, f"  bytes       {one.sized_bytes:,} estimated")
    diff = plain(one.diff, limit=max(1, len(one.diff)))
    if (more := len(diff) - LONGEST_DIFF) > 0:
        return "\n".join(
            [*lines, "", coloured(diff[:LONGEST_DIFF]), f"{more:,} characters more: agent diff p{one.id}", ""]
        )
    return "\n".join([*lines, "", coloured(diff), ""])


def _who() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "a person"


def register(app: typer.Typer) -> None:
    app.command()(review)
