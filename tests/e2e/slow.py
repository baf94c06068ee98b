"""A campaign from the command line whose runs take so long that it can be met while one is under way."""

from pathlib import Path

from agent import budget
from agent.states import FINAL
from agent.store import open_store
from tests.e2e import world
from tests.e2e.real import REAL_SCRIPT, REAL_TRACK
from tests.e2e.terminal import nothing_runs

# Each experiment takes 8 steps of what its knob says; seconds enough to be met by a signal.
SCRIPT = REAL_SCRIPT.replace("time.sleep(0.1)", "time.sleep(KNOBS['rate'])").replace('"rate": 0.10', '"rate": 0.01')
SLOW = world.idea("slow", ('"rate": 0.01', '"rate": 0.40'), script=SCRIPT)


def make(folder: Path, *ideas: dict[str, object]) -> Path:
    # Runs of one idea may be slow, and no script here says how big it is.
    track = REAL_TRACK.replace("artifact_bytes = 1250", "headroom = 100")
    root = world.make_workspace(folder, script=SCRIPT, track=track)
    world.write_ideas(root, list(ideas))
    return root


def titles(root: Path) -> dict[str, str]:
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        found = {p.title: p.state for p in reads.proposals(reads.campaigns()[-1].id)}
    store.close()
    return found


def running(root: Path, title: str) -> bool:
    """Whether a run of this idea is under way, its script included."""
    if not (root / "runs.db").exists():
        return False
    store = open_store(root / "runs.db", create=False)
    try:
        with store.read() as reads:
            campaigns = reads.campaigns()
            runs = reads.runs(campaigns[-1].id, states={"running"}) if campaigns else []
            names = {run.id: reads.proposal(run.proposal_id).title for run in runs}
    finally:
        store.close()
    jobs = root / ".caddie/toy-1/jobs"
    return any(name == title and (jobs / f"r{run}/out/executions").exists() for run, name in names.items())


def settled(root: Path, state: str) -> list[str]:
    """The states of all runs, after a look at the ledger and at what is left over."""
    nothing_runs(root)
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        campaign = reads.campaigns()[-1]
        assert campaign.state == state, campaign
        assert budget.audit(reads, campaign.id) == []
        runs = reads.runs(campaign.id)
        assert {run.state for run in runs} <= {"done", "cancelled"}
        assert reads.balance(campaign.id).reserved.gpu_s == 0 or state == "stopped"
        if state == "finished":
            assert budget.open_entries(reads, campaign.id) == []
            assert {p.state for p in reads.proposals(campaign.id)} <= FINAL
    store.close()
    return [run.state for run in runs]
