"""Several runners as one: jobs are found where they were placed, a backend that fails rests, classes never mix."""

import json
import re
import shutil
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from agent import opening, reach
from agent.cli.run import _shown, _silently
from agent.errors import BudgetExceeded, CaddieError, InfraError, UserError
from agent.job.folder import JobPaths, JobState
from agent.judge.task import Auditing
from agent.loop import Loop
from agent.runners import ended
from agent.runners.fake import FakeRunner, imagine
from agent.runners.fleet import ALONE_S, Fleet, NotPlacedError, placed
from agent.runners.local import LocalRunner
from agent.runners.order import Order, place
from agent.runners.rented.runner import RentingRunner
from agent.runners.rests import PAUSE_S
from agent.runners.runpod.rental import PodRental
from agent.runners.runpod.settings import Settings
from agent.states import FINAL
from agent.steps.launch import full_disk
from agent.store import Store, open_store
from agent.track import load, parse
from sandbox import Level
from tests.e2e import world


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


IDEAS = [world.idea(f"wider {n}", ('"width": 4', f'"width": {n}')) for n in (2, 6, 8)] + [
    world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": {n / 100}')) for n in (2, 5, 20, 40)
]


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


class Penniless(FakeRunner):
    """Rents, and has no money left once there is work."""

    rents = True
    broke = False

    def __init__(self, slots: int, name: str) -> None:
        super().__init__(slots, name=name)
        self._names = self.slots

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.broke:
            raise BudgetExceeded("the cap of 5.00 $ a day")
        return self._names

    @slots.setter
    def slots(self, names: tuple[str, ...]) -> None:
        self._names = names

    def poll(self, folder: Path) -> JobState:
        self.broke = True
        return super().poll(folder)


def test_where_one_has_no_money_left_the_others_go_on(tmp_path: Path) -> None:
    rented, lab = Penniless(1, "rented"), FakeRunner(1, name="lab")
    both = Fleet({"rented": rented, "lab": lab})
    assert both.slots == ("rented/0", "lab/0")
    rented.broke = True
    assert both.slots == ("lab/0",)
    with pytest.raises(BudgetExceeded, match="a day"):
        _ = Fleet({"rented": rented}).slots


def test_a_campaign_whose_machines_can_not_be_paid_any_more_is_over(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:2])
    setting = world.open_campaign(root, slots=1, usd=5.0, make_runner=lambda slots: Penniless(1, "rented"))
    ending = Loop(setting).run()
    assert ending.state == "finished" and "no machine can be rented any more: the cap of 5.00 $" in ending.reason
    with setting.store.read() as reads:
        assert all(one.state in FINAL for one in reads.proposals(setting.campaign.id))
        assert reads.runs(setting.campaign.id, states={"queued", "running"}) == []


def test_no_money_for_machines_is_no_end_while_another_backend_has_a_run(tmp_path: Path) -> None:
    """The other one has no slot to offer for a moment: its link is broken."""

    class Away(FakeRunner):
        away = False

        def submit(self, order: Order, folder: Path, slot: str) -> None:
            super().submit(order, folder, slot)
            self.away = True

        @property
        def slots(self) -> tuple[str, ...]:  # type: ignore[override]
            return () if self.away else self._names

        @slots.setter
        def slots(self, names: tuple[str, ...]) -> None:
            self._names = names

    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:2])
    rented, lab = Penniless(1, "rented"), Away(1, 1.0, name="lab")
    rented.broke = True
    setting = world.open_campaign(
        root, slots=2, usd=5.0, make_runner=lambda slots: Fleet({"rented": rented, "lab": lab})
    )
    ending = Loop(setting).run()
    assert "no machine can be rented any more" in ending.reason
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
    assert runs and all((run.state, run.outcome) == ("done", "ok") for run in runs), "what ran came home first"


class Holding(FakeRunner):
    """What it holds can be given back, unless that fails."""

    error: Exception | None = None
    refused: str | Exception = ""
    closed = False

    def poll(self, folder: Path) -> JobState:
        if self.refused:
            raise self.refused if isinstance(self.refused, Exception) else UserError(self.refused)
        return super().poll(folder)

    def close(self) -> None:
        if self.error is not None:
            raise self.error
        self.closed = True


@pytest.mark.parametrize("error", [UserError("the key is refused"), InfraError("no route to host")])
def test_one_that_can_give_nothing_back_keeps_no_other_from_it(error: CaddieError) -> None:
    one, other = (Holding(1, 0.0, imagine) for _ in range(2))
    one.error = error
    fleet = Fleet({"one": one, "other": other})
    with pytest.raises(type(error), match=str(error)):
        fleet.close()
    assert other.closed


@pytest.mark.parametrize("fault", [UserError("the cluster refuses the key"), RuntimeError("a fault of ours")])
def test_what_could_not_be_given_back_is_said_beside_what_ended_a_campaign(tmp_path: Path, fault: Exception) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:1])
    one = Holding(1, name="one")
    one.error, one.refused = InfraError("machines of one/0 did not end yet"), fault
    setting = world.open_campaign(root, make_runner=lambda slots: Fleet({"one": one}))
    with pytest.raises(type(fault)) as found:
        Loop(setting).run()
    said = "".join(traceback.format_exception_only(found.value))
    assert str(fault).splitlines()[0] in said and "did not end yet" in said
    with setting.store.read() as reads:
        assert reads.campaigns()[0].state == "running"


@pytest.mark.parametrize("as_json", [True, False])
def test_what_could_not_be_given_back_takes_nothing_from_a_good_end_but_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:1])
    one = Holding(1, name="one")
    one.error = InfraError("machines of one/0 did not end yet")
    setting = world.open_campaign(root, make_runner=lambda slots: Fleet({"one": one}))
    with setting.store.read() as reads:
        campaign = reads.campaigns()[0]
    with pytest.raises(typer.Exit) as ended:
        (_silently if as_json else _shown)(setting)
    assert ended.value.exit_code == 6
    with open_store(root / "runs.db").read() as reads:
        assert reads.campaigns()[0].state == "finished"
        assert reads.events(campaign.id)[-1].text == str(one.error)
    said = capsys.readouterr()
    assert said.err == f"{one.error}\n"
    if as_json:
        assert json.loads(said.out)["state"] == "finished"
    else:
        assert f"{campaign.name} finished: " in said.out


def test_what_could_not_be_given_back_keeps_no_changed_track_from_its_campaign(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:1])
    world.open_campaign(root).store.close()
    track = root / "agent.toml"
    track.write_text(track.read_text().replace("alpha = 0.004", "alpha = 0.01"))
    one, said = Holding(1), list[str]()
    one.error = InfraError("machines of one/0 did not end yet")
    setting = world.open_campaign(root, say=said.append, make_runner=lambda slots: one)
    assert setting.campaign.name == "toy-2" and str(one.error) in said
    with setting.store.read() as reads:
        assert [campaign.state for campaign in reads.campaigns()] == ["finished", "running"]


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
