"""What becomes of edits, before they are proposed: do they apply, compile, train a few steps, and fit the limits?

Takes a desk, what the edits are written against, and the edits; gives a `Check`, whose words are for a model to act on.
By hand or from any thread; nothing is written to the store.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent import guard, reach
from agent.errors import EditError, InfraError
from agent.judge.conform import How
from agent.rebase import Basis, rebased
from agent.records import Kind, Mode
from agent.script import literals
from agent.step_lines import same_start
from agent.tools.desk import Desk
from agent.tools.dry_run import DryRun, Place
from agent.track import Track
from agent.workspace import campaign_folder, packed_folder

FLOPS_PER_WEIGHT = 6  # of one token: two forward, four backward
# Sizes are estimated from a few steps of training: they hold to a few per cent.
DOUBT = 0.02
UNTRIED = "Its dry run came to no end: other work had the core"
MOST_CLAUSES = 3  # that are told at once: one fault breaks several


@dataclass(frozen=True)
class Estimates:
    """What a run is expected to need. None: it can't be known."""

    total_bytes: int | None = None
    measured: bool = False
    """Whether that starts from what was measured of the head; else it is the dry run's own, and may be far off."""
    code_bytes: int | None = None
    parameters: int | None = None
    step: float | None = None
    """The declared cost of one step, as a multiple of the head's."""
    steps: int | None = None
    """That the track's compute budget pays for."""
    peak_mb: float | None = None
    """Of the dry run."""
    first_loss: float | None = None
    last_loss: float | None = None
    same_steps: int = 0
    """How many of the first steps have exactly the head's losses."""


@dataclass(frozen=True)
class Check:
    ok: bool
    words: str
    failures: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    """What a reviewer will be shown."""
    ast_hash: str = ""
    after: Mapping[str, str] = field(default_factory=dict)
    """All editable files as they would run; empty: the edits don't apply."""
    tried: bool = False
    """Whether it was run. A track may have no dry run."""
    estimates: Estimates = Estimates()


@dataclass(frozen=True)
class _Claims:
    """What the guard wants to know of an idea."""

    expected_bytes: int | None
    mode: Mode
    kind: Kind
    rung: str
    risk: tuple[str, ...] = ()
    sized_bytes: int | None = None


def check(
    desk: Desk,
    basis: Basis,
    edits: str,
    *,
    expected_bytes: int | None = None,
    mode: Mode = "exploit",
    kind: Kind = "architecture",
    rung: str = "",
) -> Check:
    """Everything that can be known of edits without a run. Raises InfraError when the machine fails."""
    try:
        after = rebased(basis, edits, desk.track.script.editable)
    except EditError as error:
        return _failed([str(error)])
    with desk.store.read() as reads:

        def seen(ast_hash: str) -> str | None:
            twin = reads.find_ast(desk.campaign.id, ast_hash)
            return f"p{twin.id}" if twin is not None else None

        def seen_config(config_hash: str) -> str | None:
            twin = reads.find_config(desk.campaign.id, config_hash)
            return f"p{twin.id}" if twin is not None else None

        claims = _Claims(expected_bytes, mode, kind, rung)
        report = guard.check(desk.track, claims, basis.head_files, after, seen, seen_config)
    if report.failures:
        texts = [failure.text for failure in report.failures]
        return _failed(texts, report.risks, report.ast_hash, after)
    if desk.track.check is None:
        words = "The edit applies and compiles. It was not run: this track has no dry run."
        return Check(True, _risky(words, report.risks), (), report.risks, report.ast_hash, after)
    try:
        found = desk.dry_runs.of(_place(desk, basis, after), after, _tested(desk.track, basis, after))
    except EditError as error:
        return _failed([str(error)], report.risks, report.ast_hash, after)
    known = desk.dry_runs.of(_place(desk, basis, basis.head_files), basis.head_files)
    if found.busy or known.busy:
        words = f"The edit applies and compiles. {UNTRIED}: ask again later, or propose it; it is tried before its run."
        return Check(True, _risky(words, report.risks), (), report.risks, report.ast_hash, after)
    if known.failure:  # the machine, or its data: nothing can be held against the edit
        words = f"The edit applies and compiles. It was not run: here even the head's script fails: {known.failure}"
        return Check(True, _risky(words, report.risks), (), report.risks, report.ast_hash, after)
    if found.failure:
        tail = f"\nThe end of its log:\n{found.tail}" if found.tail else ""
        text = f"it applies and compiles, but a dry run of the training command failed: {found.failure}{tail}"
        return _failed([text], report.risks, report.ast_hash, after, tried=True)
    estimates = _estimates(desk, basis, found, known)
    failures = _against_the_contract(desk, basis, found) + _too_much(desk, estimates)
    facts = _facts(desk, basis, estimates, found, known)
    said = f"The edit would not pass: {'; '.join(failures)}." if failures else "The edit applies, compiles and trains."
    words = _risky("\n".join([said, *facts]), report.risks)
    return Check(not failures, words, tuple(failures), report.risks, report.ast_hash, after, True, estimates)


def breaches(desk: Desk, basis: Basis, after: Mapping[str, str]) -> list[str]:
    """What the scoring of these files breaks of the contract, and the head's does not. A script that does not train
    breaks nothing: its run says that better. Raises EditError or InfraError where it can't be tried."""
    how = _tested(desk.track, basis, after)
    if desk.track.check is None or how is None:
        return []
    found = desk.dry_runs.of(_place(desk, basis, after), after, how)
    if found.busy:
        raise InfraError(UNTRIED)
    return [] if found.failure else _against_the_contract(desk, basis, found)


def _failed(
    texts: list[str],
    risks: tuple[str, ...] = (),
    ast_hash: str = "",
    after: Mapping[str, str] | None = None,
    *,
    tried: bool = False,
) -> Check:
    words = "The edit would not pass: " + "\n".join(texts)
    return Check(False, words, tuple(texts), risks, ast_hash, after or {}, tried)


def _risky(words: str, risks: tuple[str, ...]) -> str:
    return "\n".join([words, *(f"A reviewer will be told: {risk}" for risk in risks)])


def _tested(track: Track, basis: Basis, after: Mapping[str, str]) -> How | None:
    """How its scoring is tested: what changes literals of knobs alone answers as its head does."""
    if not track.script.score or literals.only_knobs(track, basis.head_files, after):
        return None
    return "quick"


def _against_the_contract(desk: Desk, basis: Basis, found: DryRun) -> list[str]:
    """What its scoring breaks of the contract, and the head's does not."""
    broken = found.conformance.broken if found.conformance else ()
    if not broken:
        return []
    known = desk.dry_runs.of(_place(desk, basis, basis.head_files), basis.head_files, "quick").conformance
    before = {one.name for one in known.broken} if known else set()
    new = [one for one in broken if one.name not in before][:MOST_CLAUSES]
    words = [f"its scoring breaks the contract, {one.name}: {one.asks}. Seen: {one.seen}. {one.fix}" for one in new]
    if new and found.tail:
        words[-1] += f"\nThe end of its scoring's log:\n{found.tail}"
    return words


def _place(desk: Desk, basis: Basis, files: Mapping[str, str]) -> Place:
    folder = campaign_folder(desk.root, desk.campaign.name)
    commit = basis.head.commit
    assert commit is not None
    least = reach.minimum(desk.track, desk.repo, desk.campaign, files)
    return Place(
        track=desk.track,
        corpus=desk.corpus,
        machine=desk.machine,
        reach=reach.Reach(least, desk.gpus),
        folder=folder / "checks",
        packed=packed_folder(desk.root, desk.campaign.name),
        export=lambda code: desk.repo.export(commit, code),
    )


def _estimates(desk: Desk, basis: Basis, found: DryRun, known: DryRun) -> Estimates:
    seen, cost = list(found.losses.values()), found.step_cost_ms
    budget = desk.track.budget_ms(desk.track.deciding())
    artifact, grown = found.artifact_bytes, _growth(desk, basis, known)
    if artifact is not None and grown is not None:
        artifact = round(artifact * grown)
    return Estimates(
        total_bytes=None if artifact is None else artifact + found.code_bytes,
        measured=grown is not None,
        code_bytes=found.code_bytes,
        parameters=found.parameters,
        step=cost / known.step_cost_ms if cost and known.step_cost_ms else None,
        steps=int(budget / cost * (1 + 1e-9)) if budget and cost else None,
        peak_mb=found.peak_mb,
        first_loss=seen[0] if seen else None,
        last_loss=seen[-1] if seen else None,
        same_steps=same_start(dict(found.losses), dict(known.losses)),
    )


def _growth(desk: Desk, basis: Basis, known: DryRun) -> float | None:
    """What a whole run makes of the bytes that a dry run's artifact has, by the head's; None: not measured yet."""
    with desk.store.read() as reads:
        scored = reads.scored(basis.head.campaign_id, proposal_id=basis.head.id, documents=False)
    deciding = [one.measurement for one in scored if one.run.rung == desk.track.decision.rung]
    measured = [one.artifact_bytes for one in deciding if one.artifact_bytes is not None]
    return statistics.fmean(measured) / known.artifact_bytes if measured and known.artifact_bytes else None


def _too_much(desk: Desk, estimates: Estimates) -> list[str]:
    limit, size = desk.track.limits.artifact_bytes, estimates.total_bytes
    most = 1 + DOUBT if estimates.measured else guard.HOPELESS
    if limit is None or size is None or size <= limit * most:
        return []
    return [f"it is too big: about {size:,} bytes of code and artifact, and the limit is {limit:,}"]


def _facts(desk: Desk, basis: Basis, estimates: Estimates, found: DryRun, known: DryRun) -> list[str]:
    head = f"p{basis.head.id}"
    facts = [_trained(estimates, found, known, head)]
    if estimates.parameters is not None:
        facts.append(f"parameters: {estimates.parameters:,}" + _as_head(estimates.parameters, known.parameters, head))
        flops = FLOPS_PER_WEIGHT * estimates.parameters / 1e6
        facts.append(f"arithmetic: about {flops:,.2f} MFLOP a token to train, attention not counted")
    if estimates.total_bytes is not None:
        facts.append(_size(estimates, desk.track.limits.artifact_bytes))
    if estimates.steps is not None and found.step_cost_ms is not None:
        times = f", {estimates.step:.3f} times {head}'s" if estimates.step is not None else ""
        cost = f"{found.step_cost_ms:.1f} ms a step by the track's table{times}"
        facts.append(f"compute: {cost}; its budget pays for {estimates.steps:,} steps")
    facts.append(f"memory: below {50 * math.ceil(found.peak_mb / 50 + 0.1):,} MB of {desk.track.limits.memory_mb:,} MB")
    return facts


def _trained(estimates: Estimates, found: DryRun, known: DryRun, head: str) -> str:
    if estimates.first_loss is None:
        return "dry run: it ended well and left its artifact, but its log names no training loss"
    count, last = len(found.losses), estimates.last_loss
    words = f"dry run: {count} steps, loss {estimates.first_loss:.4f} to {last:.4f}"
    if known.losses:
        words += f" ({head}: {len(known.losses)} steps, to {list(known.losses.values())[-1]:.4f}, same seed)"
    if estimates.same_steps and estimates.same_steps == min(count, len(known.losses)):
        words += f"; every loss is exactly {head}'s: so far the edit changes nothing in training"
    return words


def _size(estimates: Estimates, limit: int | None) -> str:
    size = estimates.total_bytes or 0
    words = f"size: about {size:,} bytes{f' of {limit:,}' if limit else ''}, {estimates.code_bytes:,} of them code"
    if not estimates.measured:
        return f"{words}; as the dry run left it, because no run of the head is measured yet"
    near = limit is not None and abs(size / limit - 1) <= DOUBT
    return f"{words}; too near to the limit to be sure" if near else words


def _as_head(value: int, known: int | None, head: str) -> str:
    if not known:
        return ""
    return f", as many as {head}" if value == known else f", {100 * (value / known - 1):+.1f} % against {head}"
