"""A new campaign: everything that can be refused is refused first, then it is written down.

Takes the person's options, the workspace and the campaigns before it; gives the campaign's row with its base.
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent import corpus, guard, reach, sharing, workspace
from agent import track as tracks
from agent.errors import MissingError, UserError, did_you_mean
from agent.judge import verdict
from agent.options import Options, enough, planner_names, review_policy
from agent.planner import Planner, making
from agent.records import Campaign, Caps, Draft, Proposal
from agent.runners import Runner, Sized, classes, configured, rents
from agent.runners.fleet import parts, tells_leases
from agent.runners.here import default_slots
from agent.script import literals
from agent.script.syntax import NotParsed
from agent.setting import known
from agent.store import Store, lease, open_store, where
from agent.track import Track
from agent.worktree import Repository
from sandbox.policy import reaches
from sandbox.walls import HELP
from trainer.data.place import Say

MakeRunner = Callable[[Track, int], Runner]


@dataclass(frozen=True)
class New:
    """A campaign that was checked, and is not yet written down."""

    options: Options
    track: Track
    text: str
    runner: Runner
    slots: int
    planners: str
    caps: Caps
    notes: tuple[str, ...]
    """What a person should know of the caps."""
    name: str
    base: str
    """The commit to start from; with `edits`, what they will be committed on."""
    words: str
    edits: dict[str, str] | None
    """The checkout's files, where they are to be the base."""
    knobs: dict[str, literals.KnobValue]
    hashes: dict[str, str]


def check(
    options: Options,
    store: Store | None,
    repo: Repository,
    track: Track,
    text: str,
    earlier: list[Campaign],
    make_runner: MakeRunner,
    onward: Campaign | None = None,
) -> New:
    """Everything that can be refused is refused here. `onward`: the campaign it takes the place of."""
    slots = options.slots or _rented(options, repo.root) or default_slots(track)
    runner = make_runner(track, slots)
    if options.usd is None and rents(runner):
        raise UserError("rented machines cost money: say how much may be spent at most, with --usd DOLLARS")
    budget = track.budget_hours if options.budget_hours is None else options.budget_hours
    if budget is None:
        raise UserError(f"track {track.name} needs --budget GPU_HOURS")
    enough(track, budget)
    sized(track, runner)
    planners = planner_names(options)
    walls = (*walled(track, runner, repo.root, planners, unsafe=options.unsafe), *alike(track, runner))
    caps, notes = _caps(options, budget, making.make(planners, track, repo.root), repo.root)
    name = options.name or _free_name(store, repo, track.name)
    repo.refuse_name(name)
    edits = None
    if options.base == "worktree":
        base, words = repo.head(), ""
        files = edits = repo.edited(base, track.script.editable)
    else:
        base, words = _base_of(known(store), onward) if onward else _base(options, store, repo, track, earlier)
        files = repo.files(base, track.script.editable)
    knobs, hashes = _read_base(track, files)
    return New(
        options, track, text, runner, slots, planners, caps, (*notes, *walls), name, base, words, edits, knobs, hashes
    )


def funded(new: New, options: Options) -> New:
    """With what these options say may be spent, where they say it."""
    gpu_s = None if options.budget_hours is None else options.budget_hours * 3600
    said = Caps(gpu_s, options.usd, options.llm_usd, options.llm_tokens, options.llm_calls)
    told = {name: value for name, value in asdict(said).items() if value is not None}
    return replace(new, caps=replace(new.caps, **told))


def sized(track: Track, runner: Runner) -> None:
    """Raises UserError: an idea may be tried at a rung for whose GPUs there is no slot, and would wait for ever."""
    deciding = track.gpus(track.decision.rung)
    asked = {rung.name: track.gpus(rung.name) for rung in track.rung if track.cheaper(rung.name) is not None}
    if set(asked.values()) <= {deciding} or any(isinstance(one, Sized) for one in parts(runner)):
        return  # those that know sizes have slots of each, or will have when there is a machine
    there = {len(one.gpus(slot)) or deciding for one in parts(runner) for slot in one.slots}
    for name, gpus in asked.items():
        if there and gpus not in there | {deciding}:
            raise UserError(
                f"track {track.name}: a run at rung {name} has {gpus} GPUs, and no slot here will. Machines over ssh "
                f"and clusters have slots as large as a deciding run ({deciding} GPUs) alone: leave `gpus` out of that "
                "[[rung]], or name a runner beside them that has slots of both sizes (local, workers, rented machines)"
            )


def _rented(options: Options, root: Path) -> int | None:
    return configured.most(options.runner or configured.DEFAULT, root, os.environ)


def walled(track: Track, runner: Runner, root: Path, planners: str, *, unsafe: bool) -> tuple[str, ...]:
    """What a person should know of the walls here.

    Raises:
        MissingError: what these planners write could not run.
        UserError: every run could read all of the workspace.
    """
    level = runner.level(reach.asked(track, root))
    if reaches(level, "landlock") and (folder := reach.exposed(track, root)):
        raise UserError(f"{root} lies in {folder}, which every run may read: move the repository out of it")
    if folder := reach.too_much(track, root):
        raise UserError(f"data.read: every run could read {folder}, with the workspace or your home: name less of it")
    if words := reach.lacking(track, level, unsafe=unsafe):
        if planners != "knobs":
            raise MissingError(f"{words}: {HELP}")
        return (f"{words[0].upper()}{words[1:]}: only ideas run that change nothing but the track's knobs.",)
    if unsafe and not reaches(level, track.sandbox.minimum):
        return ("A model's code runs without walls here, as you; no such run is ever best valid.",)
    return ()


def alike(track: Track, runner: Runner) -> tuple[str, ...]:
    """What a person should know where machines make a score, and these can't be told apart."""
    if track.hardware.anchor_every_s is None or tells_leases(runner):
        return ()
    return (
        "This runner can't tell its machines apart, so those of one class are taken for one: use machines that are "
        "alike, or a difference between two of them may pass for a gain.",
    )


def _caps(
    options: Options, budget_hours: float, planners: Sequence[Planner], root: Path
) -> tuple[Caps, tuple[str, ...]]:
    """What the person said, and a bound for language models where they said none."""
    from agent.llm.caps import bounded, priced_here
    from agent.llm.config import load, places
    from agent.planner.researcher import Researcher

    caps = Caps(budget_hours * 3600, options.usd, options.llm_usd, options.llm_tokens, options.llm_calls)
    thinking = [planner for planner in planners if isinstance(planner, Researcher)]
    if not thinking:
        return caps, ()
    models = [one.model for one in thinking]
    caps, notes = bounded(caps, models, thinking[0].limits)
    return caps, notes + priced_here(models, load(root, os.environ), str(places(root, os.environ)[1]))


def _read_base(track: Track, files: Mapping[str, str]) -> tuple[dict[str, literals.KnobValue], dict[str, str]]:
    """Its knobs and its hashes; a script that no idea could start from is refused."""
    try:
        knobs = literals.read(track, files)
        hashes = {"ast_hash": guard.ast_hash(files), "config_hash": guard.config_hash(track, files)}
        settings = literals.settings(track, files)
        priced = literals.priced(track, files) if track.compute is not None else None
    except NotParsed as error:
        raise UserError(f"the base can't be used: {error}") from error
    for knob in track.knob:
        if knob.name not in knobs:
            table = knob.at.partition(".")[0]
            hint = did_you_mean(knob.at, [f"{table}.{key}" for key in settings])
            raise UserError(f"knob {knob.name}: {track.script.path} has no literal {knob.at}.{hint}")
    for name in track.compute.cost if track.compute is not None else ():
        if priced is not None and name not in priced:
            hint = did_you_mean(name, sorted(priced))
            raise UserError(f"compute.cost.{name}: {track.script.path} knows no such part of a step.{hint}")
    return knobs, hashes


def write(new: New, store: Store | None, repo: Repository, say: Say) -> tuple[Store, Campaign]:
    """Puts the campaign and its base into the store, which is made if it is the first."""
    options, track = new.options, new.track
    repo.exclude(["/runs.db*", f"/{workspace.FOLDER}/"])
    data_sha = corpus.prepared(track, repo.root, say)
    base, words = new.base, new.words
    if new.edits is not None:
        base = repo.commit_candidate("base", 0, new.base, new.edits, "Uncommitted edits of the checkout")
        words = f"from the checkout with its uncommitted edits ({base[:10]})"
    store = store or open_store(where.place(repo.root))
    with store.write() as tx:
        lease.refuse(tx.connection, f"campaign {new.name}")  # of two first starts at once the second is told who won
        campaign = tx.add_campaign(
            name=new.name,
            track=track.name,
            track_file=options.track,
            track_toml=new.text,
            track_sha=tracks.sha(new.text),
            data_sha=data_sha,
            base_commit=base,
            branch=f"caddie/{new.name}",
            seed=options.seed if options.seed is not None else secrets.randbits(31),
            caps=new.caps,
            planner=new.planners,
            review=review_policy(options),
            slots=new.slots,
            target_bpb=options.target_bpb,
            hardware_class=next(iter(classes(new.runner)), ""),
            unsafe=options.unsafe,
            runner=options.runner or configured.DEFAULT,
        )
        root = tx.add_proposal(campaign.id, base_draft(words), baseline_id=None, state="promoted", commit=base)
        tx.update_proposal(root.id, knobs=new.knobs, **new.hashes)
        tx.set_head(campaign.id, root.id)
    if new.edits is not None and store.path is None:
        sharing.keep_base(store, repo, campaign, new.base)
    say(f"Campaign {new.name}: {words}")
    say(verdict.resolvable(track, known(new.caps.gpu_s), track.guess_run_s() * max(1, track.hardware.gpus)))
    for note in new.notes:
        say(note)
    return store, campaign


def base_draft(words: str) -> Draft:
    """The campaign's base, as a proposal like any other: the root of every lineage."""
    return Draft(title="base", hypothesis=words, edits="", planner="", mode="base", kind="base", source_id=0)


def _base(
    options: Options, store: Store | None, repo: Repository, track: Track, earlier: list[Campaign]
) -> tuple[str, str]:
    """The commit to start from, and how to say it: the last head, unless the person has built on that since."""
    dirty = repo.dirty(track.script.editable)
    last = last_head(store, earlier)
    if dirty and options.base is None:
        there = f", --base last (from p{last[1].id}, the head of {last[0].name})" if last is not None else ""
        raise UserError(
            f"{', '.join(dirty)}: uncommitted edits. Say which is meant: --base HEAD (without them){there} "
            "or --base worktree (with them)"
        )
    if options.base == "last" and last is None:
        raise UserError("--base last: there is no finished campaign of this track; use --base HEAD")
    if last is not None and options.base != "HEAD":
        campaign, head = last
        if options.base is None and _built_on(repo, track, known(head.commit)):
            return repo.head(), (
                f"from commit {repo.head()[:10]}, with what you changed since p{head.id}, the head of {campaign.name} "
                "(--base last would start from that)"
            )
        return known(head.commit), (
            f"from p{head.id}, the head of {campaign.name} (--base HEAD would start from your checkout's commit)"
        )
    return repo.head(), f"from commit {repo.head()[:10]}"


def _built_on(repo: Repository, track: Track, commit: str) -> bool:
    """Whether the checkout's commit comes after this one, and has other files."""
    if not repo.contains(repo.head(), commit):
        return False
    paths = track.script.editable
    return repo.files(repo.head(), paths) != repo.files(commit, paths)


def _base_of(store: Store, campaign: Campaign) -> tuple[str, str]:
    """Where a campaign is, be it at its own base."""
    with store.read() as reads:
        head = reads.head(campaign.id)
    return known(head.commit), f"from p{head.id}, the head of {campaign.name}"


def last_head(store: Store | None, earlier: list[Campaign]) -> tuple[Campaign, Proposal] | None:
    """The head of the last campaign of this track, if it went beyond its own base."""
    for campaign in reversed(earlier):
        with known(store).read() as reads:
            head = reads.head(campaign.id)
        if head.kind != "base":
            return campaign, head
    return None


def campaigns_of(store: Store | None) -> list[Campaign]:
    if store is None:
        return []
    with store.read() as reads:
        return reads.campaigns()


def _free_name(store: Store | None, repo: Repository, track: str) -> str:
    taken = {campaign.name for campaign in campaigns_of(store)}
    n = 1
    while f"{track}-{n}" in taken or repo.trunk(f"{track}-{n}") is not None:
        n += 1
    return f"{track}-{n}"
