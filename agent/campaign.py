"""Opens a campaign: a new one, or one that was left unfinished.

Takes the person's options and the workspace; gives a `Setting` for the loop. Everything is checked before anything is
written: after an error the workspace is as it was.
"""

import difflib
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from agent import guard, hardware, literals, planner
from agent import track as tracks
from agent.errors import UserError
from agent.judge import verdict
from agent.records import Campaign, Caps, Draft, Proposal, Review
from agent.runners import Runner
from agent.setting import Setting, known
from agent.store import Store, open_store
from agent.track import Track
from agent.worktree import Repository
from trainer.data import prepare

Say = Callable[[str], None]
MakeRunner = Callable[[int], Runner]
BASES = ("last", "HEAD", "worktree")


@dataclass(frozen=True)
class Options:
    """What a person can say at the start; None: not said."""

    track: str = "tiny"
    budget_hours: float | None = None
    usd: float | None = None
    llm_usd: float | None = None
    planner: str = "knobs"
    review: str = "risky"
    slots: int | None = None
    name: str | None = None
    target_bpb: float | None = None
    base: str | None = None
    seed: int | None = None


def local_runner(slots: int) -> Runner:
    from agent.runners.local import LocalRunner

    return LocalRunner(slots)


def start(options: Options, where: Path, say: Say, make_runner: MakeRunner = local_runner) -> Setting:
    """Resumes the unfinished campaign of this track, if there is one; else opens a new one."""
    check(options)
    repo = Repository(where)
    track, text = tracks.load(options.track, repo.root)
    hardware.require(track, repo.root)
    data_sha = _prepare(track, repo, say)
    repo.exclude(["/runs.db*", "/.caddie/"])
    store = open_store(repo.root / "runs.db")
    with store.read() as reads:
        all_of_track = [c for c in reads.campaigns() if c.track == track.name]
        named = reads.campaign(options.name) if options.name else None
    unfinished = [c for c in all_of_track if c.state != "finished" and options.name in (None, c.name)]
    if named is not None and named not in unfinished:
        raise UserError(f"campaign {named.name} is finished; choose another --campaign name, or none")
    if unfinished and options.base is None:
        campaign = unfinished[-1]
        changed = _what_changed(campaign, text, data_sha)
        if not changed:
            say(f"Resuming {campaign.name} (started {campaign.created}).")
            return _reopen(store, repo, track, campaign, make_runner)
        say(changed)
        say(f"{campaign.name} can't go on with that; starting a new campaign from its head.")
        options = replace(options, base="last" if _last_head(store, repo, [campaign]) else None)
        with store.write() as tx:
            tx.end_campaign(campaign.id, "finished", "the track or its data changed")
        all_of_track = [c for c in all_of_track if c.id != campaign.id] + [campaign]
    return _open(options, store, repo, track, text, data_sha, all_of_track, say, make_runner)


def resume(name: str | None, where: Path, say: Say, make_runner: MakeRunner = local_runner) -> Setting:
    """Goes on with a campaign by name, or with the latest."""
    repo = Repository(where)
    store = open_store(repo.root / "runs.db", create=False)
    with store.read() as reads:
        campaigns = reads.campaigns()
    chosen = [c for c in campaigns if name in (None, c.name)]
    if not chosen:
        close = difflib.get_close_matches(name or "", [c.name for c in campaigns], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"no campaign {name!r} in {repo.root / 'runs.db'}.{hint}")
    campaign = chosen[-1]
    if campaign.state == "finished":
        raise UserError(f"campaign {campaign.name} is finished ({campaign.reason}); `agent start` opens the next one")
    shipped = campaign.track in tracks.shipped()
    track = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
    if shipped:
        return start(
            Options(track=campaign.track, name=campaign.name, planner=campaign.planner),
            where,
            say,
            make_runner,
        )
    hardware.require(track, repo.root)
    return _reopen(store, repo, track, campaign, make_runner)


def check(options: Options) -> None:
    """Refuses what can't be meant, naming the option."""
    for name, value in (
        ("--budget", options.budget_hours),
        ("--usd", options.usd),
        ("--llm-usd", options.llm_usd),
        ("--target", options.target_bpb),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} {value}: must be a number above 0")
    if options.slots is not None and not 1 <= options.slots <= 64:
        raise UserError(f"--slots {options.slots}: must be between 1 and 64")
    if options.review not in get_args(Review):
        raise UserError(f"--review {options.review}: choose one of {', '.join(get_args(Review))}")
    if options.base is not None and options.base not in BASES:
        raise UserError(f"--base {options.base}: choose one of {', '.join(BASES)}")
    if options.name is not None and not options.name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"--campaign {options.name}: letters, digits, - and _ only")


def _prepare(track: Track, repo: Repository, say: Say) -> str:
    if track.data.corpus == "none":
        return ""
    return prepare(track.data.corpus, hardware.corpus_folder(track, repo.root), say=say).data_sha


def _what_changed(campaign: Campaign, text: str, data_sha: str) -> str:
    if campaign.track_toml != text:
        lines = difflib.unified_diff(
            campaign.track_toml.splitlines(), text.splitlines(), f"{campaign.name}", "now", lineterm="", n=1
        )
        return f"The track file changed since {campaign.name} began:\n" + "\n".join(lines)
    if campaign.data_sha != data_sha:
        return f"The corpus changed since {campaign.name} began: {campaign.data_sha[:12]} -> {data_sha[:12]}."
    return ""


def _reopen(store: Store, repo: Repository, track: Track, campaign: Campaign, make_runner: MakeRunner) -> Setting:
    with store.write() as tx:
        tx.reopen_campaign(campaign.id)
        campaign = known(tx.campaign(campaign.name))
    _trunk(repo, campaign)
    return _setting(store, repo, track, campaign, make_runner(campaign.slots))


def _open(
    options: Options,
    store: Store,
    repo: Repository,
    track: Track,
    text: str,
    data_sha: str,
    earlier: list[Campaign],
    say: Say,
    make_runner: MakeRunner,
) -> Setting:
    slots = options.slots or default_slots(track)
    runner = make_runner(slots)
    budget = options.budget_hours or track.budget_hours
    if budget is None:
        raise UserError(f"track {track.name} needs --budget GPU_HOURS")
    _enough(track, budget)
    base, base_words = _base(options, store, repo, track, earlier)
    files = repo.files(base, track.script.editable)
    planner.make(options.planner, track, repo.root)  # an unknown planner is refused before anything is written
    name = options.name or _free_name(store, repo, track.name)
    with store.write() as tx:
        campaign = tx.add_campaign(
            name=name,
            track=track.name,
            track_toml=text,
            track_sha=tracks.sha(text),
            data_sha=data_sha,
            base_commit=base,
            branch=f"caddie/{name}",
            seed=options.seed if options.seed is not None else secrets.randbits(31),
            caps=Caps(budget * 3600, options.usd, options.llm_usd),
            planner=options.planner,
            review=_review(options.review),
            slots=slots,
            target_bpb=options.target_bpb,
            hardware_class=runner.hardware_class,
        )
        root = tx.add_proposal(campaign.id, base_draft(base_words), baseline_id=None, state="promoted", commit=base)
        tx.update_proposal(root.id, knobs=literals.read(track, files), ast_hash=guard.ast_hash(files))
        tx.set_head(campaign.id, root.id)
    say(f"Campaign {name}: {base_words}")
    say(verdict.resolvable(track, budget * 3600, track.guess_run_s() * max(1, track.hardware.gpus)))
    _trunk(repo, campaign)
    return _setting(store, repo, track, campaign, runner)


def base_draft(words: str) -> Draft:
    """The campaign's base, as a proposal like any other: the root of every lineage."""
    return Draft(title="base", hypothesis=words, edits="", planner="", mode="base", kind="base", source_id=0)


def _review(text: str) -> Review:
    found: tuple[Review, ...] = tuple(word for word in get_args(Review) if word == text)
    return found[0]


def default_slots(track: Track) -> int:
    """Two on a laptop: one core each, and the rest of the machine is the person's."""
    if track.hardware.kind == "cuda":
        return max(1, len(hardware.gpus()) // max(1, track.hardware.gpus))
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _enough(track: Track, budget_hours: float) -> None:
    """A budget that can't confirm a single idea is refused: it would only be burnt."""
    rule, gpus = track.decision, max(1, track.hardware.gpus)
    least = (rule.report_seeds + 1) * track.limits.worst_s() * gpus / 3600
    if budget_hours < least:
        raise UserError(
            f"--budget {budget_hours:g} is too small for track {track.name}: its base needs "
            f"{rule.report_seeds} runs and an idea at least one, {least:.2g} GPU-hours at worst"
        )


def _base(options: Options, store: Store, repo: Repository, track: Track, earlier: list[Campaign]) -> tuple[str, str]:
    """The commit to start from, and how to say it."""
    dirty = repo.dirty(track.script.editable)
    if options.base == "worktree":
        files = {path: (repo.root / path).read_text("utf-8") for path in track.script.editable}
        sha = repo.commit_candidate("base", 0, repo.head(), files, "Uncommitted edits of the checkout")
        return sha, f"from the checkout with its uncommitted edits ({sha[:10]})"
    last = _last_head(store, repo, earlier)
    if options.base == "last" and last is None:
        raise UserError("--base last: there is no finished campaign of this track; use --base HEAD")
    if last is not None and options.base != "HEAD":
        campaign, head = last
        return known(head.commit), (
            f"from p{head.id}, the head of {campaign.name} (--base HEAD would start from your checkout's commit)"
        )
    if dirty and options.base is None:
        raise UserError(
            f"{', '.join(dirty)}: uncommitted edits. Say which is meant: --base HEAD (without them) "
            "or --base worktree (with them)"
        )
    return repo.head(), f"from commit {repo.head()[:10]}"


def _last_head(store: Store, repo: Repository, earlier: list[Campaign]) -> tuple[Campaign, Proposal] | None:
    """The head of the last campaign of this track, if it went beyond its own base."""
    for campaign in reversed(earlier):
        with store.read() as reads:
            head = reads.head(campaign.id)
        if head.kind != "base":
            return campaign, head
    return None


def _free_name(store: Store, repo: Repository, track: str) -> str:
    with store.read() as reads:
        taken = {campaign.name for campaign in reads.campaigns()}
    n = 1
    while f"{track}-{n}" in taken or repo.trunk(f"{track}-{n}") is not None:
        n += 1
    return f"{track}-{n}"


def _trunk(repo: Repository, campaign: Campaign) -> None:
    """The branch is there from the start; a kill between row and branch is mended here."""
    if repo.trunk(campaign.name) is None:
        repo.move_trunk(campaign.name, campaign.base_commit, None)


def _setting(store: Store, repo: Repository, track: Track, campaign: Campaign, runner: Runner) -> Setting:
    return Setting(
        store=store,
        repo=repo,
        runner=runner,
        planners=planner.make(campaign.planner, track, repo.root),
        track=track,
        campaign=campaign,
        corpus=hardware.corpus_folder(track, repo.root),
    )
