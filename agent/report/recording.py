"""A campaign as a recording: what happened, in order, with times, so that it can be played again.

`record` reads a store and gives gzipped JSON lines; `load` reads them strictly. A recording holds no text of a
corpus, no document's score and no path of the machine it was made on.
`python -m agent.report.recording RUNS_DB CAMPAIGN OUT` makes one and plays it once, to see that it is whole.
"""

import gzip
import io
import json
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agent.errors import CaddieError, UserError
from agent.records import (
    Amount,
    Campaign,
    CampaignState,
    Draft,
    Measurement,
    ProposalState,
    Run,
    RunState,
    Verdict,
)
from agent.store import Store, open_store
from agent.words import line
from agent.workspace import jobs_folder

MOST_BYTES = 64_000_000  # unpacked


class Row(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Header(Row):
    format: Literal["caddie recording"]
    version: Literal[1]
    campaign: Campaign


class Step(Row):
    at: float
    """Seconds since the campaign began; pauses in which nothing ran are cut short."""


class Propose(Step):
    do: Literal["propose"] = "propose"
    id: int
    state: ProposalState
    draft: Draft
    baseline_id: int | None
    commit: str | None
    diff: str


class Move(Step):
    do: Literal["move"] = "move"
    proposal_id: int
    state: ProposalState
    reason: str
    run_id: int | None


class Rebase(Step):
    """From here on the idea is measured against another head."""

    do: Literal["rebase"] = "rebase"
    proposal_id: int
    baseline_id: int
    commit: str | None


class Point(NamedTuple):
    """What a training log said at one moment."""

    seconds: float
    step: int
    steps: int
    loss: float | None


class Book(Step):
    do: Literal["book"] = "book"
    run: Run
    train_s: float | None
    """How long it trained before it was scored; None where it never was."""
    curve: tuple[Point, ...]


class Change(Step):
    do: Literal["change"] = "change"
    run_id: int
    state: RunState
    measurement: Measurement | None


class Judge(Step):
    do: Literal["judge"] = "judge"
    verdict: Verdict


class Reserve(Step):
    do: Literal["reserve"] = "reserve"
    entry: int
    what: Literal["run", "hold", "planner"]
    amount: Amount
    proposal_id: int | None
    run_id: int | None
    hold_id: int | None
    """Drawn from this one."""


class Close(Step):
    do: Literal["close"] = "close"
    entry: int
    settled: Amount | None
    """None: released."""
    reason: str


class Note(Step):
    do: Literal["note"] = "note"
    what: str
    text: str
    proposal_id: int | None
    run_id: int | None


class End(Step):
    """The campaign ended, or was taken up again."""

    do: Literal["end"] = "end"
    state: CampaignState
    reason: str


AnyStep = Propose | Move | Rebase | Book | Change | Judge | Reserve | Close | Note | End
_STEP: TypeAdapter[AnyStep] = TypeAdapter(Annotated[AnyStep, Field(discriminator="do")])


class Recording(NamedTuple):
    campaign: Campaign
    steps: tuple[AnyStep, ...]

    @property
    def seconds(self) -> float:
        """How long the campaign took."""
        return self.steps[-1].at if self.steps else 0.0


def record(store: Store, campaign_id: int) -> bytes:
    """The campaign as it stands. It must be its database's first, so that p3 and r7 mean the same in the replay."""
    from agent.report.recorder import steps, without_paths

    with store.read() as reads:
        campaign = reads.campaign_by_id(campaign_id)
        first, *others = reads.campaigns()
        if first.id != campaign.id or any(first.ended is None or one.created < first.ended for one in others):
            raise UserError(
                f"{store.where} holds other campaigns: only the first can be recorded, "
                "if it ended before the others began"
            )
        jobs = jobs_folder(store.path.parent, campaign.name) if store.path else None
        found = steps(reads, campaign, jobs)
    header = Header(format="caddie recording", version=1, campaign=campaign)
    lines = [one.model_dump(mode="json") for one in (header, *found)]
    text = "".join(json.dumps(without_paths(one), ensure_ascii=False) + "\n" for one in lines)
    return gzip.compress(text.encode(), 9, mtime=0)


def load(data: bytes, where: str) -> Recording:
    """The recording; UserError names the line that is not one of ours."""
    lines = _unpacked(data, where).splitlines()
    try:
        campaign = Header.model_validate_json(lines[0] if lines else b"").campaign
    except ValidationError as error:
        raise UserError(f"{where} is no recording that this version can play: {_first(error)}") from error
    steps: list[AnyStep] = []
    for n, text in enumerate(lines[1:], start=2):
        try:
            steps.append(_STEP.validate_json(text))
        except ValidationError as error:
            raise UserError(f"{where}, line {n}: {_first(error)}") from error
    if any(later.at < step.at for step, later in pairwise(steps)):
        raise UserError(f"{where}: its steps are not in order")
    return Recording(campaign, tuple(steps))


def _unpacked(data: bytes, where: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{where} is no recording: {error}") from error
    if len(text) > MOST_BYTES:
        raise UserError(f"{where} has more than {MOST_BYTES:,} bytes, unpacked")
    return text


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, found["loc"]))
    return line(f"{place}: {found['msg']}" if place else found["msg"], 200)


def make(database: Path, name: str, out: Path) -> str:
    """Records a campaign, plays it to see that it is whole, writes the file; gives what the replay ends with."""
    from agent.report.demo import rehearse

    store = open_store(database, create=False)
    try:
        with store.read() as reads:
            campaign = reads.campaign(name)
        if campaign is None:
            raise UserError(f"no campaign {name!r} in {database}")
        data = record(store, campaign.id)
    finally:
        store.close()
    played = load(data, str(out))
    words = rehearse(played)
    out.write_bytes(data)
    return f"{words}\n\n{out}: {len(played.steps)} steps over {played.seconds:.0f} s in {len(data):,} bytes"


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print("python -m agent.report.recording RUNS_DB CAMPAIGN OUT", file=sys.stderr)
        return 2
    try:
        print(make(Path(arguments[0]), arguments[1], Path(arguments[2])))
    except CaddieError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    from agent.report import recording  # this file is __main__ now; the records are those of the module

    sys.exit(recording.main(sys.argv[1:]))
