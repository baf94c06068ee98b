"""Several runners as one: jobs are found where they were placed, a backend that fails rests, classes never mix."""

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent import opening, reach
from agent.errors import InfraError, UserError
from agent.job.folder import JobPaths
from agent.judge.task import Auditing
from agent.loop import Loop
from agent.runners import ended
from agent.runners.fake import FakeRunner
from agent.runners.fleet import ALONE_S, Fleet, NotPlacedError, placed
from agent.runners.local import LocalRunner
from agent.runners.order import Order, place
from agent.runners.rented.runner import RentingRunner
from agent.runners.rests import PAUSE_S
from agent.runners.runpod.rental import PodRental
from agent.runners.runpod.settings import Settings
from agent.steps.launch import full_disk
from agent.store import Store
from agent.track import load, parse
from sandbox import Level
from tests.e2e import world
from tests.fleets import IDEAS, Holding


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Flaky(FakeRunner):
    """Takes no job while it is broken, and can't say how those fare that it has."""

    broken = False
    sounder = False
    refuses = range(0)
    asked = 0

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        self.asked += 1
        if self.broken or self.asked in self.refuses:
            raise InfraError("no route to host")
        super().submit(order, folder, slot)

    def poll(self, folder: Path):  # type: ignore[no-untyped-def]
        if self.broken:
            raise InfraError("no route to host")
        return super().poll(folder)

    def level(self, policy: object) -> Level:
        return "landlock" if self.sounder else "namespaces"


@pytest.fixture
def job(tmp_path: Path) -> Callable[[int], tuple[Order, Path]]:
    def make(number: int) -> tuple[Order, Path]:
        folder = tmp_path / f"r{number}"
        track = parse(world.TRACK, "toy")
        found = Order(number, world.TRACK, track.limits.model_dump_json(), "decide", 1, "namespaces", Auditing(), 50.0)

        def fill(code: Path) -> None:
            (code / "train.py").write_text(world.SCRIPT)

        place(folder, found, fill)
        return found, folder

    return make


def fleet(clock: Clock) -> tuple[Fleet, Flaky, FakeRunner]:
    lab, rented = Flaky(2, name="lab"), FakeRunner(1, name="rented", usd_per_hour=2.5)
    return Fleet({"lab": lab, "rented": rented}, clock), lab, rented


def test_it_is_all_of_them_by_slot() -> None:
    both, lab, _ = fleet(Clock())
    assert both.slots == ("lab/0", "lab/1", "rented/0")
    assert [both.hardware_class(slot) for slot in both.slots] == ["lab", "lab", "rented"]
    assert [both.price(slot) for slot in both.slots] == [0.0, 0.0, 2.5]
    policy = reach.asked(parse(world.TRACK, "toy"), Path("/"))
    assert both.level(policy) == "namespaces"
    lab.sounder = True
    assert both.level(policy) == "landlock"  # the weakest: a run may be placed there
    with pytest.raises(InfraError, match="no runner 'labs'"):
        both.price("labs/0")


def test_a_later_controller_finds_a_job_where_it_was_placed(job: Callable[[int], tuple[Order, Path]]) -> None:
    order, folder = job(7)
    both, lab, rented = fleet(Clock())
    assert (both.poll(folder), both.loss(folder).ran, placed(folder)) == ("lost", False, None)
    both.submit(order, folder, "rented/0")
    later = Fleet({"lab": lab, "rented": rented}, Clock())
    assert later.poll(folder) == "done" and later.collect(folder).run_id == 7
    assert ended(later, [folder]) == {folder}
    with pytest.raises(InfraError, match="was handed to rented, and can't be handed to lab too"):
        later.submit(order, folder, "lab/0")
    JobPaths(folder).placed.write_text('{"runner": "nowhere", "slot": "nowhere/0"}')  # a candidate may write anything
    assert Fleet({"lab": lab}, Clock()).poll(folder) == "lost"


def test_a_backend_that_fails_rests_longer_each_time_and_the_others_go_on(
    job: Callable[[int], tuple[Order, Path]],
) -> None:
    clock = Clock()
    both, lab, _ = fleet(clock)
    order, folder = job(1)
    both.submit(order, folder, "lab/0")
    lab.broken = True
    for failures, number in enumerate((2, 3, 4)):
        order, other = job(number)
        with pytest.raises(NotPlacedError, match="no route to host"):
            both.submit(order, other, "lab/1")
        assert both.slots == ("rented/0",) and list(both.resting()) == ["lab"]
        clock.now += PAUSE_S * 2**failures - 1
        assert both.slots == ("rented/0",)
        clock.now += 1
        assert both.slots == ("lab/0", "lab/1", "rented/0")
    assert both.poll(folder) == "running"  # nobody knows, so it is not lost
    lab.broken = False
    clock.now += 1e6
    order, other = job(5)
    both.submit(order, other, "lab/1")
    assert both.poll(folder) == "done" and both.resting() == {}
    lab.broken = True
    order, other = job(6)
    with pytest.raises(NotPlacedError):
        both.submit(order, other, "lab/1")
    clock.now += PAUSE_S  # it had recovered meanwhile, so it is believed again
    assert "lab/1" in both.slots


def classes_of(store: Store, campaign_id: int) -> dict[tuple[int, int | None], set[str]]:
    """The classes of the runs of each test."""
    found: dict[tuple[int, int | None], set[str]] = {}
    with store.read() as reads:
        for run in reads.runs(campaign_id, states={"done"}):
            if run.purpose != "report":
                found.setdefault((run.proposal_id, run.baseline_id), set()).add(run.hardware_class)
    return found


def test_a_campaign_on_two_classes_of_machine_never_mixes_them(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS)
    both = Fleet({"a": FakeRunner(1, name="a"), "b": FakeRunner(1, name="b")})
    setting = world.open_campaign(root, slots=2, make_runner=lambda slots: both)
    assert setting.campaign.hardware_class == "a"
    Loop(setting).run()
    tests = classes_of(setting.store, setting.campaign.id)
    assert all(len(found) == 1 for found in tests.values())
    assert {name for found in tests.values() for name in found} == {"a", "b"}  # and neither is idle
    with setting.store.read() as reads:
        ideas = reads.proposals(setting.campaign.id)[1:]
        words = [verdict.words for idea in ideas for verdict in reads.verdicts(idea.id)]
    assert words and not any("not compared" in one for one in words)


def test_what_no_machine_took_costs_the_idea_nothing(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:2])
    lab, clock = Flaky(1, name="lab"), Clock()
    lab.refuses = range(4, 9)  # more often than a lost run is tried again
    setting = world.open_campaign(root, make_runner=lambda slots: Fleet({"lab": lab}, clock))

    def show() -> None:
        clock.now += 1e6

    Loop(setting, show).run()
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
        away = [run for run in runs if run.state == "cancelled"]
        assert len(away) == 5 and all("no route to host" in run.reason for run in away)
        ideas = reads.proposals(setting.campaign.id)[1:]
        assert not {"crashed", "lost", "queued"} & {idea.state for idea in ideas}
        assert reads.balance(setting.campaign.id).reserved.gpu_s == 0
        seeds = {run.seed for run in away}
        assert all(any(run.seed == seed and run.state == "done" for run in runs) for seed in seeds)


def test_who_can_not_tell_its_machines_apart_is_said_where_machines_make_a_score() -> None:
    local = LocalRunner(1)
    blind = Fleet({"local": local, "lab": FakeRunner(1, name="lab")})
    (timed, _), toy = load("golf-1xh100", Path.cwd()), parse(world.TRACK, "toy")
    assert opening.alike(timed, local) == opening.alike(timed, Fleet({"local": local})) == ()
    assert opening.alike(toy, blind) == ()
    (note,) = opening.alike(timed, blind)
    assert "can't tell its machines apart" in note


def test_one_that_a_person_must_mend_leaves_the_others_their_runs(job: Callable[[int], tuple[Order, Path]]) -> None:
    clock = Clock()
    lab, rented = Holding(1, name="lab"), FakeRunner(1, name="rented")
    both = Fleet({"lab": lab, "rented": rented}, clock)
    (one, there), (other, elsewhere) = job(1), job(2)
    both.submit(one, there, "lab/0")
    both.submit(other, elsewhere, "rented/0")
    lab.refused = "the login node has another host key"
    assert ended(both, [there, elsewhere]) == {elsewhere} and both.poll(there) == "running"
    assert both.slots == ("rented/0",)
    assert ended(both, [there]) == set()  # nothing else is under way, and it could be
    clock.now += ALONE_S
    with pytest.raises(UserError, match="another host key"):
        ended(both, [there])
    assert ended(both, [there, elsewhere]) == {elsewhere} and ended(both, [there]) == set()
    rented.slots = ()
    with pytest.raises(UserError, match="another host key"):  # nor can it be
        ended(both, [there])
    rented.slots = ("rented/0",)
    lab.refused = ""
    assert ended(both, [there]) == {there}
    clock.now += ALONE_S
    assert both.slots == ("lab/0", "rented/0")
    lab.refused = "the login node has another host key"
    with pytest.raises(UserError, match="another host key"):
        alone = Fleet({"lab": lab}, clock)
        assert alone.poll(there) == "running"
        _ = alone.slots


def test_what_waits_for_a_slot_that_is_not_there_any_more_has_cost_nothing(
    tmp_path: Path, job: Callable[[int], tuple[Order, Path]]
) -> None:
    """As after most_pods was lowered."""
    track, lab = parse(world.TRACK, "toy"), FakeRunner(1, name="lab")
    pods = PodRental("runpod", Settings(), tmp_path, {})
    both = Fleet({"runpod": RentingRunner("runpod", pods, tmp_path, track, 2), "lab": lab})
    folders = []
    for number, slot in enumerate(("runpod/3", "runpod/0", "lab/0")):
        order, folder = job(number)
        JobPaths(folder).placed.write_text(f'{{"runner": "{slot.partition("/")[0]}", "slot": "{slot}"}}')
        (folder / "slot").write_text(slot)
        if slot == "lab/0":
            both.submit(order, folder, slot)
        folders.append(folder)
    assert ended(both, folders) == {folders[0], folders[2]}
    loss = both.loss(folders[0])
    assert (loss.ran, loss.slot_s, loss.machine) == (False, 0.0, True) and "not there any more" in loss.reason
    assert [both.poll(folder) for folder in folders] == ["lost", "running", "done"]


class Elsewhere(FakeRunner):
    """Of its runs only what came of them is written here."""

    def far(self, slot: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("limits", "kind", "refused"),
    [
        ("disk_mb = {much}", Elsewhere, False),  # one of them has room, and after it is known how big an artifact is
        ("disk_mb = {much}", FakeRunner, True),
        ("disk_mb = {too_much}", Elsewhere, True),
        ("artifact_bytes = 1250\ndisk_mb = {too_much}", Elsewhere, False),
        ("artifact_bytes = {much}000000", Elsewhere, True),
    ],
)
def test_of_runs_elsewhere_the_disk_must_hold_what_comes_here(
    tmp_path: Path, limits: str, kind: type[FakeRunner], refused: bool
) -> None:
    free = shutil.disk_usage(tmp_path).free // 1_000_000
    lines = limits.format(much=free * 2 // 3, too_much=2 * free)
    root = world.make_workspace(tmp_path / "work", track=world.TRACK.replace("artifact_bytes = 1250", lines))
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root, make_runner=lambda slots: Fleet({"one": kind(4, name="one")}))
    ending = Loop(setting).run()
    assert (ending.failed, "the disk has " in ending.reason) == (refused, refused), ending
    assert refused == (ending.state == "stopped") == ("4 runs at once" in ending.reason)


def test_of_runs_elsewhere_that_have_no_artifact_only_logs_come_here(tmp_path: Path) -> None:
    made = re.compile("^(score|artifact|artifact_bytes) = .*\n", re.MULTILINE)
    track = made.sub("", world.TRACK).replace('"measured"', '"reported"')
    track = track.replace("[limits]", f"[limits]\ndisk_mb = {2 * shutil.disk_usage(tmp_path).free // 1_000_000}")
    root = world.make_workspace(tmp_path / "work", track=track)
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root, make_runner=lambda slots: Fleet({"one": Elsewhere(8, name="one")}))
    assert full_disk(setting) is None
    with closing(setting.store):
        assert "8 runs at once" in (full_disk(replace(setting, runner=FakeRunner(8))) or "")
