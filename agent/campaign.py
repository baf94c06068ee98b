"""Starts a campaign, or goes on with one that was left unfinished.

Takes the person's options and the workspace; gives a `Setting` for the loop. Everything is checked before anything is
written: after an error the workspace is as it was.
"""

import difflib
import os
from dataclasses import replace
from pathlib import Path

from agent import corpus, hardware, opening, sharing
from agent import track as tracks
from agent.errors import UserError, did_you_mean
from agent.llm import config
from agent.llm.meter import Meter
from agent.llm.redact import Redactor
from agent.loop import wind_up
from agent.opening import MakeRunner
from agent.options import Options, check, refuse_other
from agent.planner import making
from agent.planner.researcher import Bench
from agent.records import Amount, Balance, Campaign
from agent.runners import Runner, classes, configured
from agent.runners.here import sure_runner
from agent.setting import Setting, known
from agent.store import Store, lease, open_store
from agent.store import where as where_store
from agent.tools import Desk
from agent.track import Track
from agent.workspace import corpus_folder
from agent.worktree import Repository
from trainer.data.place import Say


def runner_maker(names: str, workspace: Path) -> MakeRunner:
    """Makes what `--runner` named."""

    def make(track: Track, slots: int) -> Runner:
        return configured.make(names, configured.Place(track, slots, workspace, sure_runner), os.environ)

    return make


def start(options: Options, where: Path, say: Say, make_runner: MakeRunner | None = None) -> Setting:
    """Resumes the unfinished campaign of this track, if there is one; else opens a new one."""
    check(options)
    repo = Repository(where)
    options = replace(options, track=tracks.from_here(options.track, where, repo.root))
    track, text = tracks.load(options.track, repo.root)
    # A new one is made only when nothing is left that could be refused.
    store = _opened(repo, create=True) if where_store.is_there(repo.root) else None
    campaigns = opening.campaigns_of(store)
    unfinished = [
        c for c in campaigns if c.track == track.name and c.state != "finished" and options.name in (None, c.name)
    ]
    _refuse_name(options, unfinished, campaigns)
    if unfinished and options.base is None:
        return _go_on(unfinished[-1], options, track, text, known(store), repo, say, make_runner)
    names = options.runner or configured.DEFAULT
    hardware.require(track, repo.root, gpus=not configured.elsewhere(names))
    make_runner = make_runner or runner_maker(names, repo.root)
    earlier = [c for c in campaigns if c.track == track.name]
    new = opening.check(options, store, repo, track, text, earlier, make_runner)
    return _open(new, store, repo, say)


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


def resume(name: str | None, where: Path, say: Say, make_runner: MakeRunner | None = None) -> Setting:
    """Goes on with a campaign by name, or with the latest that is unfinished."""
    repo = Repository(where)
    if not where_store.is_there(repo.root):
        raise UserError(f"no runs.db in {repo.root}: `agent start` makes one")
    store = _opened(repo)
    campaigns = opening.campaigns_of(store)
    chosen = [c for c in campaigns if name in (None, c.name)]
    if not chosen:
        names = [c.name for c in campaigns]
        if not names:
            raise UserError(f"{store.where} holds no campaign yet: `agent start` opens one")
        raise UserError(
            f"no campaign {name!r} in {store.where}.{did_you_mean(name or '', names)} There are: {', '.join(names)}"
        )
    unfinished = [c for c in chosen if c.state != "finished"]
    campaign = (unfinished or chosen)[-1]
    if campaign.state == "finished":
        raise UserError(f"campaign {campaign.name} is finished ({campaign.reason}); `agent start` opens the next one")
    if tracks.is_there(campaign.track_file, repo.root):
        track, text = tracks.load(campaign.track_file, repo.root)
    else:
        track, text = tracks.parse(campaign.track_toml, f"track of {campaign.name}"), campaign.track_toml
        say(f"There is no track {campaign.track_file} any more; {campaign.name} goes on with what it was.")
    return _go_on(campaign, None, track, text, store, repo, say, make_runner)


def _opened(repo: Repository, *, create: bool = False) -> Store:
    """The workspace's store; but not one that came with somebody's repository, and says which programs to ask.

    `create`: of a database on a server, which somebody made, but which may be empty.
    """
    if (url := where_store.server()) is not None:
        return open_store(url, create=create)
    if repo.committed("runs.db"):
        raise UserError(
            "runs.db is part of this repository's last commit, so it may be a stranger's; "
            "`git rm --cached runs.db` and a commit make it yours, or remove it"
        )
    return open_store(repo.root / "runs.db", create=False)


def _balance(campaign: Campaign, store: Store) -> Balance:
    with store.read() as reads:
        return reads.balance(campaign.id)


def _left(campaign: Campaign, balance: Balance) -> Options:
    """What its person said, for a campaign that takes its place: its budget is what this one has not promised."""
    left = balance.left()
    return Options(
        track=campaign.track_file,
        budget_hours=known(left.gpu_s) / 3600,
        usd=left.usd,
        llm_usd=left.llm_usd,
        llm_tokens=left.llm_tokens,
        llm_calls=left.llm_calls,
        planner=campaign.planner,
        review=campaign.review,
        slots=campaign.slots,
        target_bpb=campaign.target_bpb,
        unsafe=campaign.unsafe,
        runner=campaign.runner,
    )


def _like(campaign: Campaign, said: Options | None, balance: Balance) -> Options:
    """Where nothing else was said, who plans, who reviews and what language models may cost is as it was."""
    left = _left(campaign, balance)
    if said is None:
        return left
    same = ("planner", "review", "llm_usd", "llm_tokens", "llm_calls")
    kept = {name: getattr(left, name) for name in same if getattr(said, name) is None}
    return replace(said, **kept, name=None, runner=campaign.runner)


def _go_on(
    campaign: Campaign,
    said: Options | None,
    track: Track,
    text: str,
    store: Store,
    repo: Repository,
    say: Say,
    make_runner: MakeRunner | None,
) -> Setting:
    """Resumes; with another track or other data a new campaign takes its place, of what the person asks for (`said`)
    or of what is left. Where its runs are stays as it was."""
    with store.read() as reads:  # before anything is asked of whoever leads it
        lease.refuse(reads.connection, f"campaign {campaign.name}")
    hardware.require(track, repo.root, gpus=not configured.elsewhere(campaign.runner))
    make_runner = make_runner or runner_maker(campaign.runner, repo.root)
    changed = _what_changed(campaign, text, corpus.prepared(track, repo.root, say))
    if not changed:
        if said is not None:
            refuse_other(said, campaign)
        return _reopen(campaign, track, store, repo, say, make_runner)
    say(changed)
    say(f"{campaign.name} can't go on with that; starting a new campaign from its head.")
    unspent = replace(_balance(campaign, store), reserved=Amount())  # most of it is given back before the new one opens
    new = opening.check(_like(campaign, said, unspent), store, repo, track, text, [campaign], make_runner, campaign)
    old = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
    # It plans nothing any more, so it needs no planner; what it left running is cancelled and settled.
    resting = _setting(campaign, old, store, repo, make_runner(old, campaign.slots), plans=False)
    if left := wind_up(resting, "the track or its data changed"):
        say(left)
    new = opening.funded(new, _like(campaign, said, _balance(campaign, store)))
    return _open(new, store, repo, say)


def _what_changed(campaign: Campaign, text: str, data_sha: str) -> str:
    if campaign.track_toml != text:
        lines = difflib.unified_diff(
            campaign.track_toml.splitlines(), text.splitlines(), f"{campaign.name}", "now", lineterm="", n=1
        )
        return f"The track file changed since {campaign.name} began:\n" + "\n".join(lines)
    if campaign.data_sha != data_sha:
        return f"The corpus changed since {campaign.name} began: {campaign.data_sha[:12]} -> {data_sha[:12]}."
    return ""


def _reopen(
    campaign: Campaign, track: Track, store: Store, repo: Repository, say: Say, make_runner: MakeRunner
) -> Setting:
    runner = make_runner(track, campaign.slots)
    _refuse_hardware(campaign, runner)
    with store.write() as tx:
        lease.refuse(tx.connection, f"campaign {campaign.name}")  # reopening would undo what a person asked of it
        tx.reopen_campaign(campaign.id)
        campaign = known(tx.campaign(campaign.name))
    say(f"Resuming {campaign.name} (started {campaign.created}), with the budget and options that it has.")
    walls = opening.walled(track, runner, repo.root, campaign.planner, unsafe=campaign.unsafe)
    for note in (*runner.notes, *walls):
        say(note)
    return _setting(campaign, track, store, repo, runner)


def _refuse_hardware(campaign: Campaign, runner: Runner) -> None:
    """What was measured on one class of machine is never compared with what another one says."""
    here = classes(runner)
    if here and campaign.hardware_class not in ("", *here):
        raise UserError(
            f"campaign {campaign.name} runs on {campaign.hardware_class}, and this is {', '.join(here)}: scores of two "
            "classes of machine are not compared. Resume it there, or start another one here: agent start --base last "
            "(or HEAD)"
        )


def _open(new: opening.New, store: Store | None, repo: Repository, say: Say) -> Setting:
    store, campaign = opening.write(new, store, repo, say)
    for note in new.runner.notes:
        say(note)
    return _setting(campaign, new.track, store, repo, new.runner)


def _setting(
    campaign: Campaign, track: Track, store: Store, repo: Repository, runner: Runner, *, plans: bool = True
) -> Setting:
    if store.path is None:  # others may lead it from other clones
        sharing.join(store, repo, campaign)
    if plans and repo.trunk(campaign.name) is None:  # a kill between row and branch, or a person who removed it
        with store.read() as reads:
            head = reads.head(campaign.id)
        repo.move_trunk(campaign.name, head.commit or campaign.base_commit, None)
    folder = corpus_folder(repo.root, track.data.corpus)
    desk = Desk(store=store, repo=repo, track=track, campaign=campaign, root=repo.root, corpus=folder)
    limits = config.load(repo.root, os.environ).limits
    bench = Bench(desk, Meter(store, campaign.id, Redactor.of(), limits.call_usd), limits)
    return Setting(
        store=store,
        repo=repo,
        runner=runner,
        planners=making.make(campaign.planner, track, repo.root, bench) if plans else (),
        track=track,
        campaign=campaign,
        corpus=folder,
        desk=desk,
    )
