"""A desk without a campaign that runs: a repository, a store with a base as its head, and a track with a dry run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent import track as tracks
from agent.llm import Call
from agent.planner.edits import make_edits
from agent.rebase import Basis, basis
from agent.records import Proposal
from agent.store import open_store
from agent.tools import Check, Desk, Toolbox, check
from agent.worktree import Repository
from tests.e2e import world
from tests.filling import add_campaign, draft

SCRIPT = '''"""A script that trains in no time."""

KNOBS = {
    "width": 4,
    "rate": 0.10,
    "bits": 8,
}


def main() -> None:
    loss = 6.0
    print("model_params:", KNOBS["width"] * 1000, sep="")
    for step in range(1, 6):
        # here
        loss -= KNOBS["rate"]
        print(f"step:{step}/5 train_loss:{loss:.4f} train_time:1ms")
    print(f"compute shape:[] steps:5 cost_ms:{5 * KNOBS['width']:.1f}")
    with open("final_model.bin", "wb") as file:
        file.write(b"x" * KNOBS["width"] * 100)


main()
'''
TRACK = (
    world.TRACK.replace("train_wall_s = 20", "train_wall_s = 20\ndisk_mb = 4\nlog_mb = 1\nprocesses = 12")
    .replace("memory_mb = 500", "memory_mb = 250")
    .replace("artifact_bytes = 1250", "artifact_bytes = 2000")
)
CHECK = '\n[compute]\nbudget_ms = 1000\ncost = { step = 1.0 }\n\n[check]\nwall_s = 3\nenv = { SHORT = "1" }\n'


@contextmanager
def open_desk(root: Path, script: str = SCRIPT, track: str = TRACK + CHECK) -> Iterator[tuple[Desk, Proposal]]:
    """The desk, and the campaign's base."""
    world.make_workspace(root, script, track)
    repo = Repository(root)
    store = open_store(root / "runs.db")
    try:
        with store.write() as tx:
            campaign = add_campaign(tx, toml=track, base=repo.head())
            base = draft("base", mode="base", kind="base")
            found = tx.add_proposal(campaign.id, base, baseline_id=None, state="promoted", commit=repo.head())
            tx.set_head(campaign.id, found.id)
        yield Desk(store, repo, tracks.parse(track, "agent.toml"), campaign, root, root / "corpus"), found
    finally:
        store.close()


def basis_of(desk: Desk, source: Proposal) -> Basis:
    with desk.store.read() as reads:
        return basis(desk.repo, reads, source, reads.head(desk.campaign.id), desk.track.script.editable)


def edit(*changes: tuple[str, str], script: str = SCRIPT, path: str = "train.py") -> str:
    after = script
    for old, new in changes:
        assert old in after, old
        after = after.replace(old, new)
    return make_edits(path, script, after)


def tried(desk: Desk, source: Proposal, *changes: tuple[str, str]) -> Check:
    return check(desk, basis_of(desk, source), edit(*changes))


def ask(box: Toolbox, tool: str, /, **arguments: object) -> str:
    """What a tool answers to a call that is in order."""
    result = box.run(Call("c1", tool, arguments))
    assert (result.call_id, result.failed) == ("c1", False), result.text
    return result.text


def refused(box: Toolbox, name: str, arguments: object) -> str:
    result = box.run(Call("c1", name, arguments))  # type: ignore[arg-type]
    assert result.failed, result.text
    return result.text
