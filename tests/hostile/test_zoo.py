"""A zoo of cheats: each gains if nothing catches it, and each is caught by the rule that should."""

import pickle
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import get_args

import pytest

from agent.job.folder import JobPaths
from agent.judge import gates
from agent.judge.rules.signs import findings
from agent.judge.task import CORE_BUSY, Strength
from agent.loop import Loop
from agent.runners.fake import Imagined, Knobs
from agent.steps.wanted import seeds_of
from agent.store import Scored
from sandbox.walls import why_not
from tests import zoo, zoo_judged, zoo_runs, zoo_scripts
from tests.e2e import world
from tests.judging import of_the_run
from tests.processes import linux
from tests.zoo import CHEATS, ODDITIES, Cheat, Oddity
from tests.zoo_runs import RUNS, RunCheat
from tests.zoo_scripts import ODD_SCRIPTS, SCRIPTS, OddScript, ScriptCheat

pytestmark = [linux, pytest.mark.skipif(bool(why_not()), reason="what a cheat can reach is held by walls")]


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda one: one.name)
def test_each_cheat_is_caught_by_its_rule(tmp_path: Path, cheat: Cheat) -> None:
    found = zoo_judged.judged(tmp_path / "job", cheat)
    if cheat.caught_by == "no_score":
        assert found.status == "failed" and found.nats is None and cheat.words in found.reason
        assert zoo_judged.careless(tmp_path / "careless", cheat) < zoo.honest_nats(cheat.corpus), "it gains"
        return
    assert found.status == "ok", found.reason
    if cheat.caught_by == "walls":
        assert found.nats == pytest.approx(zoo.honest_nats(cheat.corpus), rel=1e-6) and found.findings == ()
        log = JobPaths(tmp_path / "job").score_log.read_text()
        assert ("it ran" if cheat.name == "pickled_artifact" else "found 0 bytes") in log
        assert not (tmp_path / "job" / zoo_judged.CANARY).exists()
        return
    assert found.nats is not None
    assert found.nats < zoo.honest_nats(cheat.corpus)
    if cheat.caught_by == "holdout_gap":
        plain = zoo_judged.judged(tmp_path / "plain", zoo.PLAIN._replace(corpus=cheat.corpus))
        told = [(one.rule, one.severity) for one in zoo_judged.beside(found, plain)]
        assert told[0] == ("holdout_gap", cheat.words or "invalid")
        assert told[1:] == ([("holdout_ruined", "flag")] if "ruin" in cheat.name else [])
        assert found.findings == () and zoo_judged.beside(plain, plain) == ()
        return
    assert cheat.caught_by in zoo_judged.proven(found), found.findings


@pytest.mark.parametrize("name", ["text_on_disk", "text_in_packages"])
def test_what_only_walls_hold_off_would_gain_without_them(tmp_path: Path, name: str) -> None:
    """The audit can't see it: the answers agree. So the text must be out of reach."""
    cheat = next(one for one in CHEATS if one.name == name)
    found = zoo_judged.judged(tmp_path / "job", cheat, *zoo_judged.places(tmp_path / "job", cheat))
    assert found.nats is not None and found.nats < 0.9 * zoo.honest_nats(cheat.corpus)
    assert found.findings == ()


def test_a_program_in_an_artifact_runs_where_somebody_reads_it(tmp_path: Path) -> None:
    """And could answer whatever it likes, if that were the judge."""
    cheat = next(one for one in CHEATS if one.name == "pickled_artifact")
    task = zoo_judged.made_job(tmp_path / "job", cheat)
    pickle.loads(Path(task.artifact).read_bytes())
    assert (tmp_path / "job" / zoo_judged.CANARY).exists()


# ---------------------------------------------------------------- in training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo_runs.make_corpus(tmp_path_factory.mktemp("zoo") / "corpus")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> list[Scored]:
    """Honest runs with two seeds."""
    folder = tmp_path_factory.mktemp("baseline")
    return [zoo_runs.ran(folder / f"r{seed}", corpus, "", seed, seed) for seed in (1, 2)]


def at_usual_cost(runs: list[Scored], baseline: list[Scored]) -> list[Scored]:
    """As if they had worked as long as the baseline did: how busy this machine is, is not what is asked about."""
    usually = baseline[-1].measurement.train_cpu_s
    return [replace(one, measurement=replace(one.measurement, train_cpu_s=usually)) for one in runs]


def test_the_honest_one_breaks_no_rule(baseline: list[Scored]) -> None:
    assert gates.check(zoo_runs.TRACK, at_usual_cost(baseline[:1], baseline), baseline[1:]) is None
    assert not any(of_the_run(one.measurement) for one in baseline)


@pytest.mark.parametrize("cheat", RUNS, ids=lambda one: one.name)
def test_each_cheat_of_training_is_caught(
    tmp_path: Path, corpus: Path, baseline: list[Scored], cheat: RunCheat
) -> None:
    runs = [zoo_runs.ran(tmp_path / "r11", corpus, cheat.name, 1, 11)]
    found = runs[0].measurement
    if cheat.caught_by == "reported_differs":
        assert [(one.rule, one.severity) for one in of_the_run(found)] == [("reported_differs", "flag")]
        assert cheat.words in found.findings[0].text
        bytes_, bpb = (found.reported_bytes, found.total_bytes), (found.reported_bpb, found.bpb)
        said, true = bytes_ if cheat.name == "prints_a_size" else bpb
        assert said is not None and true is not None and said < true
        return
    usual = [one.measurement.bpb for one in baseline if one.measurement.bpb is not None]
    if cheat.caught_by in ("capped", "crashed"):
        lucky = zoo_runs.best_seed() if cheat.name.endswith("to_draw_again") else 1
        free = zoo_runs.ran(tmp_path / "free", corpus, cheat.name, lucky, 13, defended=False).measurement
        assert free.bpb is not None and free.bpb < min(usual), "it gains"
        assert runs[0].run.outcome == cheat.caught_by and cheat.words in runs[0].run.reason and found.bpb is None
        busy = any(one.rule == CORE_BUSY for one in found.findings)  # with real work of others: then nobody is to blame
        assert known(gates.check(zoo_runs.TRACK, runs, baseline)).decision == ("recheck" if busy else "crashed")
        return
    assert found.bpb is not None and found.bpb < max(usual), "it gains"
    if cheat.caught_by == "over_budget":
        assert known(gates.check(zoo_runs.TRACK, runs, baseline)).decision == "recheck"
        runs += [replace(one, run=replace(one.run, purpose="recheck", id=one.run.id + 1)) for one in runs]
    else:
        runs.append(zoo_runs.ran(tmp_path / "r12", corpus, cheat.name, 2, 12))
        runs = at_usual_cost(runs, baseline)
    broken = known(gates.check(zoo_runs.TRACK, runs, baseline))
    assert broken.decision == "invalid" and broken.words.startswith(f"{cheat.caught_by}: ")


def test_dying_draws_no_new_seed(tmp_path: Path) -> None:
    """Ideas that end themselves where luck is bad: each gets its baseline's seeds in order, and none after a death."""
    deaths = 0

    def luck(seed: int, crash: object) -> float:
        return random.Random(f"luck/{seed}/{crash}").gauss(0.0, 0.02)

    def dies(knobs: Knobs, seed: int) -> Imagined:
        drawn = luck(seed, knobs["crash"])
        worse = 0.05 if knobs["crash"] else 0.0  # so that the head stays, and all have its seeds
        return Imagined(2.0 + worse + drawn, 500, outcome="crashed" if knobs["crash"] and drawn > -0.005 else "ok")

    root = world.make_workspace(tmp_path / "work")
    ideas = [world.idea(f"dies {n}", ('"crash": 0', f'"crash": {n}')) for n in range(1, 6)]
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, world_of=dies)
    Loop(setting).run()
    with setting.store.read() as reads:
        tried = [one for one in reads.proposals(setting.campaign.id) if one.title.startswith("dies")]
        for idea in tried:
            runs = [run for run in reads.runs(setting.campaign.id, proposal_id=idea.id) if run.baseline_id is not None]
            assert idea.baseline_id is not None and runs
            assert [run.seed for run in runs] == seeds_of(setting, idea.baseline_id, len(runs))
            dead = [run for run in runs if run.outcome == "crashed"]
            assert dead in ([], runs[-1:]) and (idea.state == "crashed") == bool(dead)
            deaths += len(dead)
    assert len(tried) == 5 and 0 < deaths < 5, "with the seeds of this campaign both happens"
    assert fmean(one for seed in range(99) if (one := luck(seed, 1)) < -0.005) < -0.01, "who may draw again gains"


def known(broken: gates.Broken | None) -> gates.Broken:
    assert broken is not None
    return broken


# ---------------------------------------------------------------- in the script's text


@pytest.mark.parametrize("cheat", SCRIPTS, ids=lambda one: one.name)
def test_each_cheat_that_can_be_read_is_seen(cheat: ScriptCheat) -> None:
    found = zoo_scripts.looked_at(cheat)
    told = [one.text for one in found.failures if one.name == "illegal"] if cheat.blocked else found.risks
    assert any(cheat.words in text for text in told), (found.failures, found.risks)
    assert bool(found.failures) == cheat.blocked


@pytest.mark.parametrize("odd", ODD_SCRIPTS, ids=lambda one: one.name)
def test_no_honest_script_is_stopped(odd: OddScript) -> None:
    found = zoo_scripts.looked_at(odd)
    assert found.failures == ()
    assert [one.rule for one in findings(found.risks)] == [odd.flag] * bool(odd.flag)


def test_text_in_short_literals_stops_no_script() -> None:
    """A reviewer is told, so it may run, and must be caught by what it is worth. Much more of it is a sign."""
    text = "".join(zoo.texts("synth").val)
    cheat = ScriptCheat("split", "", "many_literals", "characters together", False, zoo_judged.split("TEXT", text))
    found = zoo_scripts.looked_at(cheat)
    assert not found.failures and any("adds a literal of" in one for one in found.risks)
    assert not any(cheat.words in one for one in found.risks)
    found = zoo_scripts.looked_at(cheat._replace(adds=zoo_judged.split("TEXT", text * 6)))
    assert not found.failures and any(cheat.words in one for one in found.risks)


# ---------------------------------------------------------------- honest, and odd


@pytest.mark.parametrize("strength", get_args(Strength))
@pytest.mark.parametrize("odd", ODDITIES, ids=lambda one: f"{one.name} {one.context}")
def test_nobody_honest_is_accused(tmp_path: Path, odd: Oddity, strength: Strength) -> None:
    """Each time by another secret; not even by a flag that a second process takes back."""
    secrets = set()
    for number in range(2):
        found = zoo_judged.judged_oddity(tmp_path / f"job{number}", odd, strength)
        assert (found.status, found.findings) == ("ok", ()), found.reason
        assert found.audit is not None and found.audit.strength == strength
        secrets.add(found.audit.secret)
    assert len(secrets) == 2
    if strength == "full":
        assert found.audit.uniform >= 500 and (found.audit.replayed > 0) == (odd.state == "chunk")
