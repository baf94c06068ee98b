"""kill -9 at any instant loses nothing.

A controller is a forked process that is killed around every durable step that it takes, or at random moments; the
next one goes on. In the end nothing may differ from a campaign that was left alone.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from agent import budget, review
from agent.loop import Loop
from agent.records import ProposalState
from agent.runners.fake import FakeRunner, Imagined, Knobs
from agent.runners.local import LocalRunner
from agent.runners.order import Order
from agent.setting import Setting
from agent.states import FINAL
from agent.steps.wanted import seed_of
from agent.store import Store, Tx
from agent.worktree.process import Commands
from tests.e2e import world
from tests.e2e.real import REAL_SCRIPT, REAL_TRACK
from tests.person import photograph
from tests.processes import left_over

IDEAS = [
    world.idea("too big", ('"width": 4', '"width": 12')),
    world.idea("wider", ('"width": 4', '"width": 8'), rung="short"),
    world.idea("crashes", ('"crash": 0', '"crash": 1')),
    {"title": "does not apply", "edits": "train.py\n<<<<<<< SEARCH\nnot there\n=======\nx\n>>>>>>> REPLACE\n"},
    world.idea("nothing", ('"crash": 0,', '"crash": 0,\n    "unused": 1,')),
    world.idea("better rate", ('"rate": 0.10', '"rate": 0.20')),
    world.idea("a comment", ("def main", "# a comment\ndef main")),
    world.idea("fewer bits", ('"bits": 8', '"bits": 4'), rung="short"),
    world.idea("more of nothing", ('"crash": 0,', '"crash": 0,\n    "more": 1,')),
]


class Instants:
    """Counts the durable steps of a process, and kills it at one of them.

    Also the first time ever that a proposal enters a state, right after that is durable; `met` remembers which.
    """

    def __init__(self, at: int, met: Path) -> None:
        self._left = at
        self._met = met
        self._entered: list[str] = []

    def meet(self) -> None:
        new = set(self._entered) - set(self._met.read_text().split())
        self._entered.clear()
        if new:
            with self._met.open("a") as file:
                file.write(" ".join(new) + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def pass_one(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Around every transaction, every git process and every submit, in this process only."""
        write, move, add, raw, submit = Store.write, Tx.move, Tx.add_proposal, Commands.raw, FakeRunner.submit

        def noting(tx: Tx, proposal_id: int, state: Any, *args: Any, **options: Any) -> Any:
            self._entered.append(state)
            return move(tx, proposal_id, state, *args, **options)

        def adding(tx: Tx, *args: Any, **options: Any) -> Any:
            found = add(tx, *args, **options)
            self._entered.append(found.state)
            return found

        @contextmanager
        def killing_write(store: Store) -> Iterator[Tx]:
            with write(store) as tx:
                yield tx
                self.pass_one()
            self.meet()
            self.pass_one()

        def killing(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **options: Any) -> Any:
                self.pass_one()
                result = function(*args, **options)
                self.pass_one()
                return result

            return wrapped

        Tx.move = noting  # type: ignore[method-assign]
        Tx.add_proposal = adding  # type: ignore[method-assign]
        Store.write = killing_write  # type: ignore[method-assign]
        Commands.raw = killing(raw)  # type: ignore[method-assign]
        FakeRunner.submit = killing(submit)  # type: ignore[method-assign]


def life(work: Callable[[], None], kill_after_s: float | None = None) -> bool:
    """Runs `work` in a process of its own; True if it came to its end, False if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.waitstatus_to_exitcode(status) == 0, "a controller failed, see its traceback above"
    return True


def picture(setting: Setting) -> dict[str, object]:
    """What must not depend on how often the controller died."""
    with setting.store.read() as reads:
        campaign = setting.campaign.id
        proposals = reads.proposals(campaign)
        scored = reads.scored(campaign)
        assert budget.audit(reads, campaign) == []
        assert budget.open_entries(reads, campaign) == []
        assert {p.state for p in proposals} <= FINAL
        return {
            "states": [(p.id, p.title, p.state, p.baseline_id, p.ast_hash, p.diff) for p in proposals],
            "runs": [(s.run.proposal_id, s.run.purpose, s.run.seed, s.measurement.bpb) for s in scored],
            "all runs are done": [r.state for r in reads.runs(campaign) if r.state != "done"],
            "cost": round(reads.balance(campaign).settled.gpu_s, 3),
            "lineage": [p.title for p in reads.lineage(reads.head(campaign).id)],
            "verdicts": [[v.words for v in reads.verdicts(p.id)] for p in proposals],
            "trunk": world.git(setting.repo.root, "show", "caddie/toy-1:train.py"),
        }


@pytest.mark.long
def test_killed_at_every_durable_step(tmp_path: Path) -> None:
    """Each life is killed a few steps further on; so every step of every state is the end of some life."""
    calm_root, root = (world.make_workspace(tmp_path / name, track=world.TRIALS) for name in ("calm", "killed"))
    for place in (calm_root, root):
        world.write_ideas(place, IDEAS)
    calm, before = world.open_campaign(calm_root), photograph(root)
    Loop(calm).run()

    met = tmp_path / "states"
    met.touch()

    def work(at: int) -> None:
        Instants(at, met).install()
        Loop(world.open_campaign(root)).run()

    lives = 0
    # Opening a campaign again takes some steps of its own, so a life that may take fewer would not get anywhere.
    while not life(partial(work, 14 + 7 * lives % 32)):
        lives += 1
        assert lives < 500
    assert lives >= 50 and photograph(root) == before
    on_the_way = {"approved", "queued", "running", "measured", "confirming", "auditing", "accepted", "promoted"}
    assert set(met.read_text().split()) >= on_the_way
    setting = reopened(root)
    assert picture(setting) == picture(calm)
    with setting.store.read() as reads:  # of the base, of what passed, of the new head, and of what did not
        trials = reads.runs(setting.campaign.id, purposes={"trial"})
        assert [reads.proposal(run.proposal_id).title for run in trials] == [
            "base",
            "wider",
            "better rate",
            "fewer bits",
        ]
    assert world.git(root, "worktree", "list").count("\n") == 1
    assert not list(root.glob(".caddie/toy-1/worktrees/*"))


class Losing(FakeRunner):
    """Every fourth run is lost before it began."""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        if order.run_id % 4:
            super().submit(order, folder, slot)


def lucky(knobs: Knobs, seed: int) -> Imagined:
    """Wide looks much better at the base's seeds and not at all at its own; a low rate does not hear of seeds."""
    if knobs["rate"] == 0.05:
        return Imagined(1.7, 100)
    good = knobs["width"] == 8 and seed in {seed_of(7, 1, n) for n in range(4)}
    return Imagined(bpb=2.0 - 0.2 * good + (seed % 97) / 97 * 0.01, artifact_bytes=100)


def person(setting: Setting) -> None:
    """Approves what is wider, declines what is lower, and leaves the rest."""
    with setting.store.read() as reads:
        waiting = reads.proposals(setting.campaign.id, {"awaiting_review"})
    for idea in waiting:
        if idea.title in ("wider", "lower"):
            answer = review.approve if idea.title == "wider" else review.reject
            with setting.store.write() as tx:
                answer(tx, [idea], "ann")


WIDER, RATE = world.idea("wider", ('"width": 4', '"width": 8')), world.idea("rate", ('"rate": 0.10', '"rate": 0.20'))
LOWER, OTHER = world.idea("lower", ('"width": 4', '"width": 2')), world.idea("other", ('"width": 4', '"width": 6'))
SAME, BROKEN = world.idea("same", ('"rate": 0.10', '"rate": 0.05')), world.idea("broken", ("main()", "main("))
# What each campaign is for, its ideas and its options.
WAYS: dict[str, tuple[list[dict[str, object]], dict[str, Any]]] = {
    "ends of all kinds": ([*IDEAS, BROKEN], {}),
    "a replay": ([WIDER, RATE], {"slots": 2}),
    "lost runs": ([WIDER, OTHER, RATE], {"make_runner": Losing}),
    "luck": ([WIDER, SAME], {"world_of": lucky}),
    "a person": ([WIDER, LOWER, RATE], {"review": "all", "target_bpb": 1.95}),
    "little money": ([WIDER], {"budget_hours": 0.06}),
}


@pytest.mark.long
def test_killed_at_the_first_time_of_every_state(tmp_path: Path) -> None:
    """Whatever kind of campaign it takes to come there."""
    met = tmp_path / "states"
    met.touch()
    for name, (ideas, options) in WAYS.items():
        root = world.make_workspace(tmp_path / name)
        world.write_ideas(root, ideas)
        before = photograph(root)

        def work(root: Path = root, options: dict[str, Any] = options) -> None:
            Instants(0, met).install()
            setting = world.open_campaign(root, **options)
            Loop(setting, lambda: person(setting)).run()

        for _ in range(len(get_args(ProposalState)) + 1):
            if life(work):
                break
        else:
            pytest.fail(f"{name}: died more often than there are states")
        assert photograph(root) == before
        picture(reopened(root))
    assert set(met.read_text().split()) == set(get_args(ProposalState))


def reopened(root: Path) -> Setting:
    """A finished campaign, to look at."""
    from dataclasses import replace

    from agent.store import open_store

    other = world.open_campaign(root, name="other", base="HEAD")
    with open_store(root / "runs.db").read() as reads:
        campaign = reads.campaign("toy-1")
    assert campaign is not None and campaign.state == "finished", campaign
    return replace(other, campaign=campaign)


@pytest.mark.long
def test_killed_at_random_moments_with_real_runs(tmp_path: Path) -> None:
    """Running experiments are adopted, not started again; nothing is paid twice; no process is left behind."""
    root = world.make_workspace(tmp_path / "killed", script=REAL_SCRIPT, track=REAL_TRACK)
    changes = [('"width": 4', f'"width": {width}') for width in (6, 2, 3)]
    changes += [('"crash": 0,', f'"crash": 0,\n    "n{n}": 1,') for n in range(12)]
    world.write_ideas(root, [world.idea(str(change), change, script=REAL_SCRIPT) for change in changes])
    draw, before = random.Random(11), photograph(root)
    kills = 0

    def work() -> None:
        Loop(world.open_campaign(root, slots=2, make_runner=LocalRunner)).run()

    # On a busy machine a short life would not get anywhere, so lives become longer.
    while not life(work, kill_after_s=0.03 + draw.random() * 0.25 * (1 + max(0, kills - 50) / 10)):
        kills += 1
    assert kills >= 50, "it was over before it could be killed often enough"
    assert photograph(root) == before
    setting = reopened(root)
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
        assert {run.state for run in runs} == {"done"}
        settled = reads.balance(setting.campaign.id).settled.gpu_s
        used = sum(s.measurement.slot_s for s in reads.scored(setting.campaign.id))
    assert settled == pytest.approx(used)
    folders = sorted(setting.jobs.glob("r*"))
    assert len(folders) == len(runs)
    assert all((folder / "out/executions").read_text() == "once\n" for folder in folders)
    assert left_over(root) == []
    assert world.git(root, "worktree", "list").count("\n") == 1


@pytest.mark.long
def test_what_a_killed_controller_left_running_is_settled_when_the_track_has_changed(tmp_path: Path) -> None:
    script = REAL_SCRIPT.replace("range(8)", "range(300)")
    root = world.make_workspace(tmp_path / "killed", script=script, track=REAL_TRACK)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 6'), script=script)])

    def work() -> None:
        Loop(world.open_campaign(root, slots=2, make_runner=LocalRunner)).run()

    assert not life(work, kill_after_s=4.0)
    assert left_over(root) != []
    (root / "agent.toml").write_text(REAL_TRACK.replace("alpha = 0.004", "alpha = 0.01"))
    setting = world.open_campaign(root, slots=2, make_runner=LocalRunner)
    assert setting.campaign.name == "toy-2"
    assert left_over(root) == []
    with setting.store.read() as reads:
        old = reads.campaign("toy-1")
        assert old is not None and old.state == "finished"
        assert {run.state for run in reads.runs(old.id)} == {"cancelled"}
        assert {p.state for p in reads.proposals(old.id)} <= FINAL
        assert budget.open_entries(reads, old.id) == []
        assert budget.audit(reads, old.id) == []
        assert 1 < reads.balance(old.id).settled.gpu_s < 60
