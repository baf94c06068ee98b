"""Fills a store with campaigns, proposals and measured runs, for the tests of what reads them."""

from agent import budget
from agent.records import Amount, Campaign, Caps, Draft, Finding, Measurement, Proposal, Purpose, Run, Trust
from agent.store import Store, Tx

TRACK = 'trust = "measured"\n[decision]\nrung = "full"\n[limits]\nartifact_bytes = 175000\n'
TO_PROMOTED = ("approved", "queued", "running", "measured", "confirming", "auditing", "accepted", "promoted")


def add_campaign(
    tx: Tx, name: str = "night", *, caps: Caps | None = None, toml: str = TRACK, sha: str = "t1", base: str = "0" * 40
) -> Campaign:
    return tx.add_campaign(
        name=name,
        track="tiny",
        track_file="toy.toml",
        track_toml=toml,
        track_sha=sha,
        data_sha="d1",
        base_commit=base,
        branch=f"caddie/{name}",
        seed=2**62,
        caps=caps or Caps(gpu_s=36_000.0),
        planner="knobs",
        review="risky",
        slots=2,
        target_bpb=2.0,
        hardware_class="cpu-x",
    )


def draft(title: str = "an idea", source_id: int = 0, **changes: object) -> Draft:
    values: dict[str, object] = {
        "title": title,
        "hypothesis": "because",
        "edits": "<<<<",
        "planner": "knobs",
        "mode": "exploit",
        "kind": "knob",
        "source_id": source_id,
    }
    return Draft(**{**values, **changes})  # type: ignore[arg-type]


def add_base(tx: Tx, campaign: Campaign) -> Proposal:
    base = tx.add_proposal(
        campaign.id,
        draft("base", mode="base", kind="base"),
        baseline_id=None,
        state="promoted",
        commit="0" * 40,
    )
    tx.set_head(campaign.id, base.id)
    return base


def add_idea(tx: Tx, parent: Proposal, title: str = "an idea", *, source: Proposal | None = None) -> Proposal:
    source_id = (source or parent).id
    return tx.add_proposal(parent.campaign_id, draft(title, source_id), baseline_id=parent.id)


def promote(tx: Tx, proposal: Proposal) -> Proposal:
    for state in TO_PROMOTED:
        proposal = tx.move(proposal.id, state)  # type: ignore[arg-type]
    tx.set_head(proposal.campaign_id, proposal.id)
    return proposal


def measurement(run_id: int, bpb: float | None, **changes: object) -> Measurement:
    values: dict[str, object] = {
        "run_id": run_id,
        "trust": "measured",
        "judge_version": 1,
        "bpb": bpb,
        "nats": 1234.5,
        "bytes_scored": 1000,
        "tokens_scored": 300,
        "artifact_bytes": 140_000,
        "code_bytes": 9_000,
        "total_bytes": 149_000,
        "train_wall_s": 25.0,
        "train_cpu_s": 24.0,
        "score_wall_s": 5.0,
        "score_cpu_s": 4.5,
        "slot_s": 31.0,
        "peak_mb": 400.0,
        "steps": 300,
        "reported_bpb": bpb,
        "reported_bytes": 149_000,
        "artifact_sha": "a" * 64,
        "data_sha": "d1",
    }
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


def add_measured(
    tx: Tx,
    proposal: Proposal,
    seed: int,
    bpb: float | None,
    *,
    purpose: Purpose = "screen",
    rung: str = "full",
    script_sha: str = "s1",
    hardware_class: str = "cpu-x",
    walls: tuple[str, ...] = ("env",),
    trust: Trust = "measured",
    judge_version: int = 1,
    total_bytes: int = 149_000,
    findings: tuple[Finding, ...] = (),
    **more: object,
) -> Run:
    """A run from its start to its measurement; `more` of what was measured."""
    baseline = None if purpose == "report" else proposal.baseline_id
    run = tx.add_run(
        proposal.campaign_id,
        proposal.id,
        baseline,
        rung=rung,
        purpose=purpose,
        seed=seed,
        attempt=1,
        hardware_class=hardware_class,
        script_sha=script_sha,
    )
    outcome = "ok" if bpb is not None else "crashed"
    run = tx.update_run(run.id, state="done", outcome=outcome, walls=walls)
    changes: dict[str, object] = {"trust": trust, "judge_version": judge_version, "total_bytes": total_bytes}
    tx.add_measurement(measurement(run.id, bpb, findings=findings, **changes, **more))
    return run


def fill(store: Store, ideas: int = 3) -> None:
    """A campaign whose ideas have a run each."""
    with store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        for number in range(ideas):
            add_measured(tx, add_idea(tx, base), number, 2.0 + number)


def reserve(store: Store, campaign_id: int, gpu_s: float) -> int:
    with store.write() as tx:
        return budget.reserve(tx, campaign_id, Amount(gpu_s=gpu_s), "run")


def view(store: Store, name: str) -> list[dict[str, object]]:
    with store.read() as reads:
        return [dict(row) for row in reads.connection.exec_driver_sql(f"SELECT * FROM {name}").mappings()]
