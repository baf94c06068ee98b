"""What a fleet holds is given back at the end; what can't be is said, and keeps nothing else from its end."""

import json
import traceback
from pathlib import Path

import pytest
import typer

from agent.cli.run import _shown, _silently
from agent.errors import CaddieError, InfraError, UserError
from agent.loop import Loop
from agent.runners.fake import imagine
from agent.runners.fleet import Fleet
from agent.store import open_store
from tests.e2e import world
from tests.fleets import IDEAS, Holding


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
