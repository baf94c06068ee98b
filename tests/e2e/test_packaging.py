"""A finished campaign becomes the folder of a submission, by commands that a person types, and is judged well."""

import json
from pathlib import Path

import pytest

from agent.loop import Loop
from tests.commanding import console
from tests.e2e import world

SCRIPT = world.SCRIPT + "# shorter ones can hold no training\n" * 4
WIDER = [world.idea(f"width {width}", ('"width": 4', f'"width": {width}'), script=SCRIPT) for width in (6, 8)]


def test_the_head_of_a_finished_campaign_is_packaged_and_the_folder_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = world.make_workspace(tmp_path / "work", SCRIPT)
    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    Loop(setting).run()
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        assert head.title.startswith("width")
        for run in reads.runs(setting.campaign.id, states={"done"}):  # no process ran that could have written any
            (setting.job(run.id) / "train.log").write_text("step:300/300 train_loss:2.1 train_time:9000ms\n")
    setting.store.close()
    (root / "trainer").mkdir()
    agent = console(root / "trainer", monkeypatch, capfd, tmp_path)
    me = ("--author", "A Person", "--github-id", "person")
    refused = agent("package", f"p{head.id}", *me)
    assert refused.code == 1 and f"p{head.id} is not packaged: claim" in refused.out
    nobody = agent("package", f"p{head.id}", "--non-record", "--json")
    assert nobody.code == 1 and json.loads(nobody.out)["refused"] == ["author"]
    base = agent("package", "p1", *me, "--against", "9.0,9.1,9.2", "--out", "base")
    assert base.code == 0, base.out + base.err
    made = agent("package", f"p{head.id}", *me, "--against", "p1", "--rule", "frontier", "--out", "sent")
    assert made.code == 0, made.out + made.err
    folder = root / "trainer" / "sent"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("train_seed")}
    own = {"README.md", "requirements.txt", "submission.json", "train_gpt.py"}
    assert names == own | {"agent.toml", "notes.txt"}  # the track does not pack, so all of the commit counts
    assert len(list(folder.glob("train_seed*.log"))) >= 3
    assert (folder / "train_gpt.py").read_text() == setting.repo.files(str(head.commit), ["train.py"])["train.py"]
    judged = agent("judge", "sent", "--json")
    found = json.loads(judged.out)
    assert judged.code == 0 and found["problems"] == [], found["problems"]
    mean = json.loads((folder / "submission.json").read_text())["val_bpb"]
    assert found["table"]["mean"] == pytest.approx(mean) and len(found["scores"]) >= 3
    again = agent("package", f"p{head.id}", *me, "--non-record", "--out", "sent")
    assert again.code == 2 and "is there already, and nothing is overwritten" in again.err
