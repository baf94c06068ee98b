"""A campaign as an evening on the tiny track leaves it: three accepted, one reverted, the usual failures.

`build(root)` makes a workspace with runs.db and job folders through the store's own API, seeded. Only the
clock is set by hand afterwards, so that time can be drawn. `python -m tests.fixture_campaign DIR` keeps one.
"""

import json
import random
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from agent import budget
from agent.job.folder import Heartbeat, PhaseName
from agent.records import Amount, Campaign, Finding, Kind, Proposal, ProposalState, Purpose, Verdict
from agent.store import Store, Tx, open_store
from agent.track import load, sha
from tests.filling import draft, measurement

HOSTILE = "\x1b[2J\x1b[31mwin[/] | *bold* \u202eeslaf\x07 [link=http://x]$\\frac{1}{0}$"
START = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
WORST_S = 85.0
TRACK, TOML = load("tiny", Path())


@dataclass
class Night:
    """The clock, the dice and the ledger of one made-up campaign."""

    tx: Tx
    campaign: Campaign
    rng: random.Random
    seconds: float = 0.0
    times: list[tuple[int, float]] = field(default_factory=list)  # (last event, when it was written)

    def now(self) -> None:
        row = self.tx.connection.execute(text("SELECT MAX(id) FROM events")).scalar_one()
        self.times.append((int(row), self.seconds))


def build(root: Path, *, seed: int = 1, state: str = "running") -> Store:
    """A workspace with the campaign `tiny-1`."""
    root.mkdir(parents=True, exist_ok=True)
    store = open_store(root / "runs.db")
    with store.write() as tx:
        campaign = _campaign(tx)
        night = Night(tx, campaign, random.Random(seed))
        _fill(night)
        if state == "running":
            _in_flight(night, root / ".caddie" / campaign.name / "jobs")
        else:
            tx.end_campaign(campaign.id, "finished", "the budget can't pay another run")
            night.now()
        _set_clock(night)
    return store


def _campaign(tx: Tx) -> Campaign:
    from agent.records import Caps

    return tx.add_campaign(
        name="tiny-1",
        track="tiny",
        track_file="toy.toml",
        track_toml=TOML,
        track_sha=sha(TOML),
        data_sha="d1",
        base_commit="0" * 40,
        branch="caddie/tiny-1",
        seed=7,
        caps=Caps(gpu_s=3000.0),
        planner="knobs",
        review="risky",
        slots=2,
        target_bpb=None,
        hardware_class="cpu-1core",
    )


def _fill(night: Night) -> None:
    tx, campaign = night.tx, night.campaign
    base = tx.add_proposal(
        campaign.id,
        draft("base", kind="base", mode="base"),
        baseline_id=None,
        state="promoted",
        commit="0" * 40,
    )
    tx.set_head(campaign.id, base.id)
    _runs(night, base, "report", 3, 2.331, 149_000)
    heads = [(base, 2.331, 149_000)]
    _losers(night, heads[-1], 4)
    heads.append(_winner(night, heads[-1], "matrix_lr = 0.03, warmdown_frac = 0.7", "optimiser", 0.048, 149_300))
    _failure(night, heads[-1], "invalid", "peeks at the next token", 1.62)
    _losers(night, heads[-1], 5)
    _failure(night, heads[-1], "crashed", "num_layers = 5 and no memory for it", None)
    bad = _winner(night, heads[-1], "eval_stride = 64", "evaluation", 0.035, 149_300, lucky=0.035)
    _revert(night, bad[0], heads[-1][0])
    _failure(night, heads[-1], "oversize", "vocab_size = 2048 at int8", 2.205, 214_700)
    _losers(night, heads[-1], 4)
    heads.append(_winner(night, heads[-1], "vocab_size = 2048 in 6 bits with brotli", "tokenizer", 0.071, 172_400))
    _failure(night, heads[-1], "oversize", "vocab_size = 3072 in 6 bits", 2.190, 201_200)
    _losers(night, heads[-1], 4)
    heads.append(_winner(night, heads[-1], "tied_embed_lr = 0.09", "optimiser", 0.022, 172_600))
    _losers(night, heads[-1], 3, title=HOSTILE)
    _failure(night, heads[-1], "crashed", "model_dim = 96 past the compute budget", None)
    _unmeasured(night, heads[-1][0])


def _idea(night: Night, head: Proposal, title: str, kind: Kind = "knob", **more: object) -> Proposal:
    hypothesis = f"{title} lowers val_bpb because [the head] is under-trained at 300 steps."
    made = night.tx.add_proposal(
        head.campaign_id,
        draft(title, head.id, kind=kind, hypothesis=hypothesis, expected_gain=0.02, **more),
        baseline_id=head.id,
    )
    diff = (
        "--- a/trainer/train_gpt.py\n+++ b/trainer/train_gpt.py\n@@ -41,3 +41,3 @@ TINY = {\n"
        '     "num_layers": 3,\n-    "matrix_lr": 0.02,\n'
        f'+    "matrix_lr": 0.0{made.id},  # {title}\n     "seed": 1,\n'
    )
    night.tx.update_proposal(made.id, diff=diff, patch_id=f"{made.id:040x}", ast_hash=f"a{made.id}")
    night.now()
    return night.tx.update_proposal(made.id, commit=f"{made.id:040x}")


def _move(night: Night, proposal: Proposal, *states: ProposalState, reason: str = "") -> None:
    for state in states:
        night.tx.move(proposal.id, state, reason if state == states[-1] else "")
    night.now()


def _runs(
    night: Night,
    proposal: Proposal,
    purpose: Purpose,
    n: int,
    true: float | None,
    size: int,
    findings: tuple[Finding, ...] = (),
) -> list[float]:
    """Runs that are done and paid for; their scores, where they have one."""
    tx, found = night.tx, []
    for seed in range(n):
        run = tx.add_run(
            proposal.campaign_id,
            proposal.id,
            None if purpose == "report" else proposal.baseline_id,
            rung="decide",
            purpose=purpose,
            seed=seed,
            attempt=1,
            hardware_class="cpu-1core",
            script_sha=f"s{proposal.id}",
        )
        worst = Amount(gpu_s=WORST_S)
        entry = budget.reserve(tx, proposal.campaign_id, worst, "run", proposal_id=proposal.id, run_id=run.id)
        tx.update_run(run.id, state="running", slot=str(run.id % 2))
        night.now()
        took = 31.0 + night.rng.random() * 6
        night.seconds += took / 2  # two slots
        score = None if true is None else round(night.rng.gauss(true, 0.011), 5)
        budget.settle(tx, entry, Amount(gpu_s=took))
        tx.update_run(
            run.id,
            state="done",
            outcome="ok" if score else "crashed",
            reason="" if score else "Traceback: [Errno 12] Cannot allocate memory",
            walls=("env", "rlimits"),
        )
        changes: dict[str, object] = {
            "trust": "blind",
            "total_bytes": size,
            "findings": findings,
            "slot_s": took,
        }
        tx.add_measurement(measurement(run.id, score, **changes))
        night.now()
        found += [score] if score else []
    return found


def _verdict(night: Night, proposal: Proposal, decision: str, words: str, gain: float | None = None) -> None:
    assert proposal.baseline_id is not None
    night.tx.add_verdict(
        Verdict(
            proposal.id,
            proposal.baseline_id,
            decision,  # type: ignore[arg-type]
            words,
            gain=gain,
            stderr=0.009,
            p=0.001 if decision == "accept" else 0.4,
            sigma=0.011,
            n_candidate=3,
            n_baseline=3,
        )
    )


def _losers(night: Night, head: tuple[Proposal, float, int], n: int, title: str = "") -> None:
    for k in range(n):
        knob = night.rng.choice(("qk_gain_init", "logit_softcap", "muon_momentum", "scalar_lr", "mlp_mult"))
        one = _idea(night, head[0], title or f"{knob} = {night.rng.choice((0.5, 1.5, 2.0, 4.0))}")
        _move(night, one, "approved", "queued", "running")
        gain = night.rng.choice((-0.06, -0.02, -0.01, 0.0, 0.004, -0.4))
        close = gain > -0.005 and k % 2 == 0
        _runs(night, one, "screen", 1, head[1] - gain, head[2])
        if close:
            _move(night, one, "measured", "confirming")
            _runs(night, one, "confirm", 2, head[1] - gain, head[2])
        words = f"{-gain:+.4f} BPB against p{head[0].id} (sigma 0.011): " + ("can't tell" if close else "worse")
        _verdict(night, one, "inconclusive" if close else "worse", words, gain)
        if close:
            _move(night, one, "inconclusive", reason=words)
        else:
            _move(night, one, "measured", "worse", reason=words)


def _winner(
    night: Night,
    head: tuple[Proposal, float, int],
    title: str,
    kind: Kind | str,
    gain: float,
    size: int,
    lucky: float = 0.0,
) -> tuple[Proposal, float, int]:
    one = _idea(night, head[0], title, kind)  # type: ignore[arg-type]
    true = head[1] - gain
    _move(night, one, "approved", "queued", "running")
    _runs(night, one, "screen", 1, true, size)
    _move(night, one, "measured", "confirming")
    _runs(night, one, "confirm", 2, true, size)
    words = f"{-gain:+.4f} BPB against p{head[0].id} over 3 runs and 3 (p = 0.0004): real"
    _verdict(night, one, "accept", words, gain)
    _move(night, one, "auditing", "accepted", "promoted", reason=words)
    night.tx.set_head(one.campaign_id, one.id)
    _runs(night, one, "report", 3, true + lucky + 0.004, size)
    return one, true + lucky, size


def _revert(night: Night, proposal: Proposal, parent: Proposal) -> None:
    _move(night, proposal, "reverted", reason="its fresh runs show no gain (+0.0021 BPB over 3 runs)")
    night.tx.set_head(proposal.campaign_id, parent.id)


def _failure(
    night: Night,
    head: tuple[Proposal, float, int],
    state: ProposalState,
    title: str,
    bpb: float | None,
    size: int | None = None,
) -> None:
    one = _idea(night, head[0], title, "architecture")
    _move(night, one, "approved", "queued", "running")
    findings: tuple[Finding, ...] = ()
    if state == "invalid":
        findings = (Finding("future", "invalid", "its probabilities depend on later tokens: 0.71 BPB too good"),)
    _runs(night, one, "screen", 1, bpb, size or head[2], findings)
    words = {"invalid": "depends on later tokens", "oversize": f"{size} bytes are over the limit of 175,000"}
    _verdict(night, one, state, words.get(state, "died with signal 9"))
    _move(night, one, "measured", state, reason=words.get(state, "died with signal 9"))


def _unmeasured(night: Night, head: Proposal) -> None:
    """What never ran, and what waits."""
    _move(night, _idea(night, head, "the same again"), "duplicate", reason="p4 was the same")
    _move(night, _idea(night, head, "edits notes.txt"), "blocked", reason="notes.txt is not editable")
    risky = {"kind": "architecture", "risk": ("touches scoring code",)}
    _move(night, _idea(night, head, "tie the heads of layers 2 and 3", **risky), "awaiting_review")  # type: ignore[arg-type]
    _move(night, _idea(night, head, f"rotate half {HOSTILE}", **risky), "awaiting_review")  # type: ignore[arg-type]
    _move(night, _idea(night, head, "logit_softcap = 60"), "approved")


def _in_flight(night: Night, jobs: Path) -> None:
    """Two runs that a controller has started: one trains, one is being scored."""
    head = night.tx.head(night.campaign.id)
    for n, title in enumerate(("muon_backend_steps = 4", "train_seq_len = 512")):
        one = _idea(night, head, title)
        _move(night, one, "approved", "queued", "running")
        run = night.tx.add_run(
            night.campaign.id,
            one.id,
            head.id,
            rung="decide",
            purpose="screen",
            seed=n,
            attempt=1,
            hardware_class="cpu-1core",
            script_sha="s",
        )
        worst = Amount(gpu_s=WORST_S)
        budget.reserve(night.tx, night.campaign.id, worst, "run", proposal_id=one.id, run_id=run.id)
        night.tx.update_run(run.id, state="running", slot=str(n))
        night.now()
        folder = jobs / f"r{run.id}"
        folder.mkdir(parents=True)
        phase: PhaseName = "judge" if n else "train"
        beat = Heartbeat(at="2026-11-20T22:18:20.000Z", boot="b", phase=phase, seconds=12.5, root=1, processes={})
        (folder / "heartbeat.json").write_text(json.dumps(asdict(beat)))
        (folder / "train.log").write_text("step:150/300 train_loss:4.1234 train_time:9876ms step_avg:82.30ms\n")


def _set_clock(night: Night) -> None:
    """Spreads what was written in a moment over the hours that it would have taken."""
    run = night.tx.connection.execute
    before = 0
    for last, seconds in night.times:
        at = (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        where = {"at": at, "before": before, "last": last}
        run(text("UPDATE events SET at = :at WHERE id > :before AND id <= :last"), where)
        before = max(before, last)
    when = "(SELECT at FROM events e WHERE e.run_id = {id} AND e.what = '{what}')"
    for table, column, key, what in (
        ("runs", "created", "runs.id", "queued"),
        ("runs", "started", "runs.id", "running"),
        ("runs", "ended", "runs.id", "done"),
        ("ledger", "created", "ledger.run_id", "queued"),
        ("ledger", "closed", "ledger.run_id", "done"),
    ):
        run(text(f"UPDATE {table} SET {column} = {when.format(id=key, what=what)}"))
    run(text("UPDATE campaigns SET created = (SELECT MIN(at) FROM events)"))


if __name__ == "__main__":
    build(Path(sys.argv[1])).close()
