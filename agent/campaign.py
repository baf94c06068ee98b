"""Opens a campaign: a new one, or one that was left unfinished.

Takes the person's options and the workspace; gives a `Setting` for the loop. Everything is checked before anything is
written: after an error the workspace is as it was.
"""

import difflib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent import guard, hardware, literals, planner
from agent import track as tracks
from agent.errors import UserError
from agent.judge import verdict
from agent.loop import wind_up
from agent.options import Options, check, default_slots, enough, review_policy
from agent.records import Campaign, Caps, Draft, Proposal
from agent.runners import Runner
from agent.setting import Setting, known
from agent.store import Store, lease, open_store
from agent.syntax import NotParsed
from agent.track import Track
from agent.worktree import Repository
from trainer.data import prepare

Say = Callable[[str], None]
MakeRunner = Callable[[Track, int], Runner]


def local_runner(track: Track, slots: int) -> Runner:
    from agent.runners.local import LocalRunner

    if track.hardware.kind == "cpu":
        return LocalRunner(slots)
    names = tuple(gpu.name for gpu in hardware.gpus() if track.hardware.device in gpu.name)
    return LocalRunner(slots, names, track.hardware.gpus)


def start(options: Options, where: Path, say: Say, make_runner: MakeRunner = local_runner) -> Setting:
    """Resumes the unfinished campaign of this track, if there is one; else opens a new one."""
    check(options)
    repo = Repository(where)
    track, text = tracks.load(options.track, repo.root)
    hardware.require(track, repo.root)
    store = _existing(repo)
    campaigns = _campaigns(store)
    mine = [c for c in campaigns if c.track == track.name]
    unfinished = [c for c in mine if c.state != "finished" and options.name in (None, c.name)]
    _refuse_name(options, unfinished, campaigns)
    if not unfinished or options.base is not None:
        return _open(_checked(options, store, repo, track, text, mine, make_runner), store, repo, say)
    campaign, store = unfinished[-1], known(store)
    changed = _what_changed(campaign, text, _prepare(track, repo, say))
    if not changed:
        say(f"Resuming {campaign.name} (started {campaign.created}), with the budget and options that it has.")
        return _reopen(store, repo, track, campaign, make_runner)
    say(changed)
    say(f"{campaign.name} can't go on with that; starting a new campaign from its head.")
    options = replace(options, base="last" if _last_head(store, [campaign]) else None)
    mine = [c for c in mine if c.id != campaign.id] + [campaign]
    new = _checked(options, store, repo, track, text, mine, make_runner)
    old = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
    # It plans nothing any more, so it needs no planner; what it left running is cancelled and settled.
    resting = _setting(store, repo, old, campaign, make_runner(old, campaign.slots), plans=False)
    wind_up(resting, "the track or its data changed")
    return _open(new, store, repo, say)


def _existing(repo: Repository) -> Store | None:
    """The database, if there is one. A new one is made only when nothing is left that could be refused."""
    path = repo.root / "runs.db"
    return open_store(path, create=False) if os.path.lexists(path) else None


def _campaigns(store: Store | None) -> list[Campaign]:
    if store is None:
        return []
    with store.read() as reads:
        return reads.campaigns()


def _refuse_name(options: Options, unfinished: list[Campaign], campaigns: list[Campaign]) -> None:
    named = next((c for c in campaigns if c.name == options.name), None)
    if named is None:
        return
    if named not in unfinished:
        why = "is finished" if named.state == "finished" else f"is of track {named.track}"
        raise UserError(f"campaign {named.name} {why}; choose another --campaign name, or none")
    if options.base is not None:
        raise UserError(
            f"campaign {named.name} is not finished, so it can't start again from --base {options.base}: "
            f"`agent resume {named.name}` goes on with it, another --campaign name opens a new one"
        )


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
        lease.refuse(tx.connection, f"campaign {campaign.name}")  # reopening would undo what a person asked of it
        tx.reopen_campaign(campaign.id)
        campaign = known(tx.campaign(campaign.name))
    _trunk(repo, campaign)
    return _setting(store, repo, track, campaign, make_runner(track, campaign.slots))


@dataclass(frozen=True)
class Start:
    """A new campaign: checked, and not yet written down."""

    options: Options
    track: Track
    text: str
    runner: Runner
    slots: int
    budget_hours: float
    name: str
    base: str
    words: str
    knobs: dict[str, literals.KnobValue]
    ast_hash: str


def _checked(
    options: Options,
    store: Store | None,
    repo: Repository,
    track: Track,
    text: str,
    earlier: list[Campaign],
    make_runner: MakeRunner,
) -> Start:
    """Everything that can be refused is refused here."""
    slots = options.slots or default_slots(track)
    runner = make_runner(track, slots)
    budget = options.budget_hours or track.budget_hours
    if budget is None:
        raise UserError(f"track {track.name} needs --budget GPU_HOURS")
    enough(track, budget)
    planner.make(options.planner, track, repo.root)
    name = options.name or _free_name(store, repo, track.name)
    repo.refuse_name(name)
    base, words = _base(options, store, repo, track, earlier)
    knobs, ast_hash = _read_base(track, repo.files(base, track.script.editable))
    return Start(options, track, text, runner, slots, budget, name, base, words, knobs, ast_hash)


def _read_base(track: Track, files: Mapping[str, str]) -> tuple[dict[str, literals.KnobValue], str]:
    """Its knobs and its hash; a script that no idea could start from is refused."""
    try:
        knobs, ast_hash = literals.read(track, files), guard.ast_hash(files)
        settings = literals.settings(track, files)
    except NotParsed as error:
        raise UserError(f"the base can't be used: {error}") from error
    for knob in track.knob:
        if knob.name not in knobs:
            table, _, key = knob.at.partition(".")
            close = difflib.get_close_matches(key, settings, n=1)
            hint = f" Did you mean '{table}.{close[0]}'?" if close else ""
            raise UserError(f"knob {knob.name}: {track.script.path} has no literal {knob.at}.{hint}")
    return knobs, ast_hash


def _open(new: Start, store: Store | None, repo: Repository, say: Say) -> Setting:
    """Writes the campaign down."""
    options, track = new.options, new.track
    repo.exclude(["/runs.db*", "/.caddie/"])
    data_sha = _prepare(track, repo, say)
    store = store or open_store(repo.root / "runs.db")
    with store.write() as tx:
        campaign = tx.add_campaign(
            name=new.name,
            track=track.name,
            track_toml=new.text,
            track_sha=tracks.sha(new.text),
            data_sha=data_sha,
            base_commit=new.base,
            branch=f"caddie/{new.name}",
            seed=options.seed if options.seed is not None else secrets.randbits(31),
            caps=Caps(new.budget_hours * 3600, options.usd, options.llm_usd),
            planner=options.planner,
            review=review_policy(options.review),
            slots=new.slots,
            target_bpb=options.target_bpb,
            hardware_class=new.runner.hardware_class,
        )
        root = tx.add_proposal(campaign.id, base_draft(new.words), baseline_id=None, state="promoted", commit=new.base)
        tx.update_proposal(root.id, knobs=new.knobs, ast_hash=new.ast_hash)
        tx.set_head(campaign.id, root.id)
    say(f"Campaign {new.name}: {new.words}")
    say(verdict.resolvable(track, new.budget_hours * 3600, track.guess_run_s() * max(1, track.hardware.gpus)))
    _trunk(repo, campaign)
    return _setting(store, repo, track, campaign, new.runner)


def base_draft(words: str) -> Draft:
    """The campaign's base, as a proposal like any other: the root of every lineage."""
    return Draft(title="base", hypothesis=words, edits="", planner="", mode="base", kind="base", source_id=0)


def _base(
    options: Options, store: Store | None, repo: Repository, track: Track, earlier: list[Campaign]
) -> tuple[str, str]:
    """The commit to start from, and how to say it."""
    dirty = repo.dirty(track.script.editable)
    if options.base == "worktree":
        files = {path: (repo.root / path).read_text("utf-8") for path in track.script.editable}
        sha = repo.commit_candidate("base", 0, repo.head(), files, "Uncommitted edits of the checkout")
        return sha, f"from the checkout with its uncommitted edits ({sha[:10]})"
    last = _last_head(store, earlier)
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


def _last_head(store: Store | None, earlier: list[Campaign]) -> tuple[Campaign, Proposal] | None:
    """The head of the last campaign of this track, if it went beyond its own base."""
    for campaign in reversed(earlier):
        with known(store).read() as reads:
            head = reads.head(campaign.id)
        if head.kind != "base":
            return campaign, head
    return None


def _free_name(store: Store | None, repo: Repository, track: str) -> str:
    taken = {campaign.name for campaign in _campaigns(store)}
    n = 1
    while f"{track}-{n}" in taken or repo.trunk(f"{track}-{n}") is not None:
        n += 1
    return f"{track}-{n}"


def _trunk(repo: Repository, campaign: Campaign) -> None:
    """The branch is there from the start; a kill between row and branch is mended here."""
    if repo.trunk(campaign.name) is None:
        repo.move_trunk(campaign.name, campaign.base_commit, None)


def _setting(
    store: Store, repo: Repository, track: Track, campaign: Campaign, runner: Runner, *, plans: bool = True
) -> Setting:
    return Setting(
        store=store,
        repo=repo,
        runner=runner,
        planners=planner.make(campaign.planner, track, repo.root) if plans else (),
        track=track,
        campaign=campaign,
        corpus=hardware.corpus_folder(track, repo.root),
    )
