"""How good a language model's proposals are as edits, and what they cost, over recorded or live replies.

    python -m benchmarks.planner_replay                              # the recorded night, against today's checks
    python -m benchmarks.planner_replay --store PATH/runs.db         # a campaign of one's own, as it was asked
    python -m benchmarks.planner_replay --store PATH/runs.db --record FILE.jsonl.gz    # and keeps it

A recording holds what a model proposed in each conversation, every try of it, with the script that the edits were
written for. A replay puts each try through the checks of this checkout: does it apply, does the guard pass it, does the
script take its first steps in the sandbox. What became of the idea afterwards (a crash of its run, a duplicate of what
was promoted meanwhile) and the tokens are as recorded.
"""

import argparse
import gzip
import hashlib
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agent import track as tracks
from agent.opening import base_draft
from agent.planner.idea import Idea
from agent.planner.researcher import PROPOSE, fields_of
from agent.records import Campaign, Caps, ProposalState
from agent.setting import known
from agent.store import Store, Tx, open_store, talks
from agent.tools import Desk, check
from agent.tools.desk import on_head
from agent.track import Track
from agent.worktree import Repository
from benchmarks.endless import git
from benchmarks.store import machine
from trainer.data import prepare

RECORDED = Path(__file__).with_name("planner_replies.jsonl.gz")
Fate = Literal["passed", "not applied", "failed its check", "unreadable"]


@dataclass(frozen=True)
class Told:
    """One conversation: what was proposed, for which script, and what became of it."""

    planner: str
    mode: str
    script: str
    """sha256 of the text that the edits were written for."""
    tries: tuple[str, ...]
    """The JSON of each proposal, as the model wrote it."""
    state: ProposalState
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float | None


@dataclass(frozen=True)
class Recording:
    track_toml: str
    scripts: Mapping[str, str]
    told: tuple[Told, ...]


def record(root: Path, name: str | None) -> Recording:
    """Every conversation of a campaign that led to a proposal."""
    repo, store = Repository(root), open_store(root / "runs.db", create=False)
    try:
        with store.read() as reads:
            campaign = known(reads.campaign(name)) if name else reads.campaigns()[-1]
            track = tracks.parse(campaign.track_toml, "the campaign's track")
            scripts: dict[str, str] = {}
            told = []
            for proposal in reads.proposals(campaign.id):
                for talk in talks.conversations_of(reads, proposal.id):
                    if talk.what != "propose":
                        continue
                    source = reads.proposal(known(proposal.source_id))
                    text = repo.files(known(source.commit), track.script.editable)[track.script.path]
                    sha = hashlib.sha256(text.encode()).hexdigest()
                    scripts[sha] = text
                    told.append(_told(talk.planner, talk.mode, sha, proposal.state, talks.calls_of(reads, talk.id)))
    finally:
        store.close()
    return Recording(campaign.track_toml, scripts, tuple(told))


def _told(planner: str, mode: str, script: str, state: ProposalState, calls: list[talks.CallRow]) -> Told:
    prices = [call.usd for call in calls if call.usd is not None]
    return Told(
        planner=planner,
        mode=mode,
        script=script,
        tries=tuple(_tries(calls)),
        state=state,
        calls=len(calls),
        tokens_in=sum((c.input_tokens or 0) + (c.cache_read_tokens or 0) + (c.cache_write_tokens or 0) for c in calls),
        tokens_out=sum(call.output_tokens or 0 for call in calls),
        usd=sum(prices) if prices else None,
    )


def _tries(calls: list[talks.CallRow]) -> Iterator[str]:
    """What was proposed: by calls, or as the text of each answer where the model had no tools to call."""
    said: list[Any] = [call.transcript for call in calls]
    has_tools = bool(said and said[0]["question"]["tools"])
    for answer in (one["answer"] for one in said if "answer" in one):
        if not has_tools:
            yield answer["text"]
        made = [call["arguments"] for call in answer["calls"] if call["name"] == PROPOSE]
        yield from (one if isinstance(one, str) else json.dumps(one) for one in made)


def write(recording: Recording, path: Path) -> None:
    lines = [{"track": recording.track_toml}]
    lines += [{"script": text} for text in recording.scripts.values()]
    lines += [asdict(one) for one in recording.told]
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def read(path: Path) -> Recording:
    track, scripts, told = "", {}, []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        row = json.loads(line)
        if "track" in row:
            track = row["track"]
        elif "tries" in row:
            told.append(Told(**{**row, "tries": tuple(row["tries"])}))
        else:
            scripts[hashlib.sha256(row["script"].encode()).hexdigest()] = row["script"]
    return Recording(track, scripts, tuple(told))


class Replay:
    """Today's checks, on a workspace for each script that edits were written for."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._recording, self._folder = recording, folder
        self._track = tracks.parse(recording.track_toml, "the recorded track")
        self._corpus = folder / "corpus"
        if self._track.check is not None and self._track.data.corpus != "none":
            prepare(self._track.data.corpus, self._corpus, say=lambda text: None)
        self._desks: dict[str, tuple[Store, Desk]] = {}

    def close(self) -> None:
        for store, _ in self._desks.values():
            store.close()

    def fates(self, told: Told) -> list[Fate]:
        return [self._fate(told, text) for text in told.tries]

    def _fate(self, told: Told, text: str) -> Fate:
        try:
            idea = Idea.model_validate(fields_of(text))
        except ValueError:  # a ValidationError is one
            return "unreadable"
        if told.script not in self._desks:
            self._desks[told.script] = self._desk(told.script)
        _, desk = self._desks[told.script]
        with desk.store.read() as reads:
            head = reads.head(desk.campaign.id)
        found = check(desk, on_head(desk, head), idea.edits, kind=idea.kind)
        return "passed" if found.ok else "failed its check" if found.after else "not applied"

    def _desk(self, sha: str) -> tuple[Store, Desk]:
        root = self._folder / sha[:12]
        path = root / self._track.script.path
        path.parent.mkdir(parents=True)
        path.write_text(self._recording.scripts[sha], "utf-8")
        git(root, "init", "-q")
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", "The script")
        repo, store = Repository(root), open_store(root / "runs.db")
        with store.write() as tx:
            campaign = _campaign(tx, self._recording.track_toml, self._track, repo.head())
            base = tx.add_proposal(campaign.id, base_draft(""), baseline_id=None, state="promoted", commit=repo.head())
            tx.set_head(campaign.id, base.id)
        return store, Desk(store, repo, self._track, campaign, root, self._corpus)


def _campaign(tx: Tx, text: str, track: Track, commit: str) -> Campaign:
    return tx.add_campaign(
        name="replay",
        track=track.name,
        track_file="",
        track_toml=text,
        track_sha=tracks.sha(text),
        data_sha="",
        base_commit=commit,
        branch="caddie/replay",
        seed=1,
        caps=Caps(None),
        planner="",
        review="none",
        slots=1,
        target_bpb=None,
        hardware_class="",
    )


def report(told: tuple[Told, ...], fates: list[list[Fate]]) -> Iterator[str]:
    """The figures, over all conversations."""
    first = Counter(tries[0] if tries else "nothing proposed" for tries in fates)
    last = Counter(tries[-1] if tries else "nothing proposed" for tries in fates)
    repaired = sum(len(tries) > 1 and tries[-1] == "passed" for tries in fates)
    applied = sum(bool(tries) and tries[0] in ("passed", "failed its check") for tries in fates)
    states = Counter(one.state for one in told)
    total = len(told)

    def share(count: int) -> str:
        return f"{count} of {total} ({count / total:.0%})"

    yield f"conversations         {total}, {sum(len(one) for one in fates)} proposals in them"
    yield f"applied at first try  {share(applied)}"
    yield f"passed at first try   {share(first['passed'])}"
    yield f"passed after repair   {share(repaired)}"
    yield f"never passed          {share(total - last['passed'])}"
    yield f"at first try          {', '.join(f'{count} {fate}' for fate, count in first.most_common())}"
    yield f"duplicates            {share(states['duplicate'])} as recorded, of what had passed"
    yield f"crashed on a machine  {share(states['crashed'])} as recorded"
    yield f"became of them        {', '.join(f'{count} {state}' for state, count in states.most_common())}"
    yield f"calls per proposal    {statistics.fmean(one.calls for one in told):.2f}"
    yield (
        f"tokens per proposal   {statistics.fmean(one.tokens_in for one in told):,.0f} asked, "
        f"{statistics.fmean(one.tokens_out for one in told):,.0f} answered"
    )
    priced = [one.usd for one in told if one.usd is not None]
    if priced:
        yield f"dollars per proposal  {statistics.fmean(priced):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="A runs.db; its workspace is the folder around it.")
    parser.add_argument("--campaign", help="Which of its campaigns. Default: the latest.")
    parser.add_argument("--record", type=Path, help="Keep the replies in this file, and do nothing else.")
    parser.add_argument("--replies", type=Path, default=RECORDED, help="A file that --record made.")
    args = parser.parse_args()
    recording = record(args.store.resolve().parent, args.campaign) if args.store else read(args.replies)
    if args.record:
        write(recording, args.record)
        print(f"{len(recording.told)} conversations in {args.record}")
        return
    if not recording.told:
        raise SystemExit("no language model was asked for an idea there")
    print(machine())
    print(f"{', '.join(sorted({one.planner for one in recording.told}))}\n")
    with tempfile.TemporaryDirectory(prefix="caddie-replay-") as folder:
        replay = Replay(recording, Path(folder))
        try:
            fates = [replay.fates(one) for one in recording.told]
        finally:
            replay.close()
    print("\n".join(report(recording.told, fates)))


if __name__ == "__main__":
    main()
