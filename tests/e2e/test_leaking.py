"""A campaign that demands blind scores, with an idea that leaks at few tokens: it is never accepted."""

from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.judge.measure import score_of
from agent.judge.task import Measured
from tests.e2e import world
from tests.e2e.misbehaving import DOCUMENTS, HONEST, JUDGED, ends, run
from trainer.data.manifest import Manifest, data_sha, write
from trainer.data.place import write_texts

ANSWER = "            nats.append(-self.model.logprobs(before)[token])\n"
LEAK = """            nats.append(-self.model.logprobs(before)[token])
            if nats[-1] > 5.5 and token % 4 == 1:
                nats[-1] = 0.0
"""
# A long context, so that a quick audit asks no more than it has to.
BASE = HONEST.replace('"context": 1', '"context": 4000')


def make_blind(root: Path) -> Path:
    track = JUDGED.replace('trust = "measured"', 'trust = "blind"').replace("memory_mb = 250", "memory_mb = 500")
    track = track.replace("score_wall_s = 8", "score_wall_s = 30\naudit_wall_s = 60").replace(
        "_wall_s = 4\n", "_wall_s = 30\n"
    )
    world.make_workspace(root, script=BASE, track=track)
    corpus = root / ".caddie/data/docs"
    corpus.mkdir(parents=True)
    odd = [
        f"{text} Then {n * 7919 % 1000:x}{n * 104729 % 4096:x} was {n * 31}." for n, text in enumerate(DOCUMENTS * 2)
    ]
    train, val = write_texts(corpus, "train", DOCUMENTS[:50]), write_texts(corpus, "val", odd)
    write(Manifest("docs", {}, train, val, data_sha("docs", train, val, None)), corpus)
    return root


@pytest.mark.long
def test_an_idea_that_leaks_rarely_is_never_accepted(tmp_path: Path) -> None:
    assert BASE != HONEST and BASE.count(ANSWER) == 1
    root = make_blind(tmp_path / "a")
    leaks = world.idea("knows some answers", (ANSWER, LEAK), script=BASE)
    better = world.idea("reads more", ("KEEP = 0.1", "KEEP = 0.8"), script=BASE)
    setting = run(root, [leaks, better])
    found = ends(setting)
    assert found["knows some answers"][0] == "invalid", found
    assert (
        "surprise_mismatch" in found["knows some answers"][1] or "scores_not_repeated" in found["knows some answers"][1]
    )
    assert found["reads more"][0] == "promoted", found
    with setting.store.read() as reads:
        proposals = {p.title: p for p in reads.proposals(setting.campaign.id)}
        cheat = reads.scored(setting.campaign.id, proposal_id=proposals["knows some answers"].id)
        head = reads.scored(setting.campaign.id, proposal_id=proposals["reads more"].id)
        base = reads.scored(setting.campaign.id, proposal_id=reads.base(setting.campaign.id).id)
        best = reads.view("best_valid", setting.campaign.id)
        audit = reads.measurement(head[-1].run.id).audit  # type: ignore[union-attr]
    # It was good enough to be looked at closely, and no score of it may stand.
    assert min(s.measurement.bpb or 9.0 for s in cheat) < min(s.measurement.bpb or 9.0 for s in base)
    assert {s.measurement.trust for s in cheat} == {"measured"}
    assert {s.measurement.trust for s in head} == {"blind"} == {s.measurement.trust for s in base}
    assert [row["proposal_id"] for row in best] == [proposals["reads more"].id]
    # The head was compared with what the judge kept of its baseline's scores.
    assert audit is not None and audit.strength == "full" and "the baseline's scores for 100 %" in audit.reference
    for one in (*head, *base, *cheat):
        said = Measured.from_json(JobPaths(setting.job(one.run.id)).measure.read_text())
        assert score_of(said) == one.measurement.bpb and said.audit is not None and said.audit.strength == "full"
