"""A zoo of cheats: each gains if nothing catches it, and each is caught by the rule that should."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from agent.judge import gates
from agent.judge.task import Strength
from agent.runners.job import JobPaths
from agent.store import Scored
from sandbox.walls import why_not
from tests import zoo, zoo_runs, zoo_scripts
from tests.processes import linux
from tests.zoo import CHEATS, ODDITIES, Cheat, Oddity
from tests.zoo_runs import RUNS, RunCheat
from tests.zoo_scripts import SCRIPTS, ScriptCheat

pytestmark = [linux, pytest.mark.skipif(bool(why_not()), reason="what a cheat can reach is held by walls")]


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda one: one.name)
def test_each_cheat_is_caught_by_its_rule(tmp_path: Path, cheat: Cheat) -> None:
    found = zoo.judged(tmp_path / "job", cheat)
    if cheat.caught_by == "no_score":
        assert found.status == "failed" and found.nats is None and cheat.words in found.reason
        return
    assert found.status == "ok", found.reason
    if cheat.caught_by == "walls":
        assert found.nats == pytest.approx(zoo.honest_nats(cheat.corpus), rel=1e-6) and found.findings == ()
        log = JobPaths(tmp_path / "job").score_log.read_text()
        assert ("it ran" if cheat.name == "pickled_artifact" else "found 0 bytes") in log
        assert not (tmp_path / "job" / zoo.CANARY).exists()
        return
    assert found.nats is not None
    assert found.nats < zoo.honest_nats(cheat.corpus) or cheat.name == "nan_distribution"
    if cheat.caught_by == "holdout_gap":
        plain = zoo.judged(tmp_path / "plain", zoo.PLAIN)
        assert [(one.rule, one.severity) for one in zoo.gap(found, plain)] == [("holdout_gap", "invalid")]
        assert found.findings == () and zoo.gap(plain, plain) == ()
        return
    assert cheat.caught_by in zoo.proven(found), found.findings


@pytest.mark.parametrize("name", ["text_on_disk", "text_in_packages"])
def test_what_only_walls_hold_off_would_gain_without_them(tmp_path: Path, name: str) -> None:
    """The audit can't see it: the answers agree. So the text must be out of reach."""
    cheat = next(one for one in CHEATS if one.name == name)
    found = zoo.judged(tmp_path / "job", cheat, *zoo.places(tmp_path / "job", cheat))
    assert found.nats is not None and found.nats < 0.9 * zoo.honest_nats(cheat.corpus)
    assert found.findings == ()


# ---------------------------------------------------------------- in training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo_runs.make_corpus(tmp_path_factory.mktemp("zoo") / "corpus")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> list[Scored]:
    """Honest runs with two seeds."""
    folder = tmp_path_factory.mktemp("baseline")
    return [zoo_runs.ran(folder / f"r{seed}", corpus, "", seed, seed) for seed in (1, 2)]


def test_the_honest_one_breaks_no_rule(baseline: list[Scored]) -> None:
    assert gates.check(zoo_runs.TRACK, baseline[:1], baseline[1:]) is None
    assert all(one.measurement.findings == () for one in baseline)


@pytest.mark.parametrize("cheat", RUNS, ids=lambda one: one.name)
def test_each_cheat_of_training_is_caught(
    tmp_path: Path, corpus: Path, baseline: list[Scored], cheat: RunCheat
) -> None:
    runs = [zoo_runs.ran(tmp_path / "r11", corpus, cheat.name, 1, 11)]
    found = runs[0].measurement
    if cheat.caught_by == "reported_differs":
        assert [(one.rule, one.severity) for one in found.findings] == [("reported_differs", "flag")]
        assert cheat.words in found.findings[0].text
        bytes_, bpb = (found.reported_bytes, found.total_bytes), (found.reported_bpb, found.bpb)
        said, true = bytes_ if cheat.name == "prints_a_size" else bpb
        assert said is not None and true is not None and said < true
        return
    if cheat.caught_by in ("capped", "crashed"):
        assert runs[0].run.outcome == cheat.caught_by and cheat.words in runs[0].run.reason and found.bpb is None
        assert known(gates.check(zoo_runs.TRACK, runs, baseline)).decision in ("crashed", "recheck")
        return
    usual = [one.measurement.bpb for one in baseline if one.measurement.bpb is not None]
    assert found.bpb is not None
    if cheat.caught_by == "over_budget":
        assert found.bpb < max(usual), "it gains"
        assert known(gates.check(zoo_runs.TRACK, runs, baseline)).decision == "recheck"
        runs += [replace(one, run=replace(one.run, purpose="recheck", id=one.run.id + 1)) for one in runs]
    else:
        runs.append(zoo_runs.ran(tmp_path / "r12", corpus, cheat.name, 2, 12))
        usually = baseline[0].measurement.train_cpu_s  # a busy machine is not what is asked about
        runs = [replace(one, measurement=replace(one.measurement, train_cpu_s=usually)) for one in runs]
    broken = known(gates.check(zoo_runs.TRACK, runs, baseline))
    assert broken.decision == "invalid" and broken.words.startswith(f"{cheat.caught_by}: ")


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


# ---------------------------------------------------------------- honest, and odd


@pytest.mark.parametrize("strength", get_args(Strength))
@pytest.mark.parametrize("odd", ODDITIES, ids=lambda one: f"{one.name} {one.context}")
def test_nobody_honest_is_accused(tmp_path: Path, odd: Oddity, strength: Strength) -> None:
    """Each time by another secret; not even by a flag that a second process takes back."""
    secrets = set()
    for number in range(2):
        found = zoo.judged_oddity(tmp_path / f"job{number}", odd, strength)
        assert (found.status, found.findings) == ("ok", ()), found.reason
        assert found.audit is not None and found.audit.strength == strength
        secrets.add(found.audit.secret)
    assert len(secrets) == 2
    if strength == "full":
        assert found.audit.uniform >= 500 and (found.audit.replayed > 0) == (odd.state == "chunk")
