"""Which machines have to have the same packages, and which reasons a machine is remembered by."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from agent import track as tracks
from agent.admission.seen import Record, to_json
from agent.machines.records import Limits
from agent.machines.renting import want
from agent.runners.rented.spot import spot_check
from agent.runners.runpod.settings import Settings
from agent.runners.ssh.link import Done
from agent.runners.ssh.machines import Machines
from agent.store import Store
from tests.admitting import ENVIRONMENT, machine
from tests.renting import PLACED, opened, renter
from tests.runpod import StandIn
from tests.zoo_runs import TOML

NEWER = replace(ENVIRONMENT, packages={"torch": "2.9.0"}, sha256="f" * 64)
ONE, OTHER = Settings(), Settings(image="another/image:1")


class Says:
    """All that is asked on a machine is answered by this record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def on(self, name: str, what: object, within_s: float) -> Done:
        return Done(0, to_json(self._record).encode(), "")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return opened(tmp_path)[0]


def checked(stand: StandIn, store: Store, record: Record, settings: Settings = ONE, backend: str = "runpod") -> str:
    one = replace(renter(stand, store, Limits()), backend=backend)
    rented = want(one, 1, PLACED, 3600.0, facts={"system": settings.system})
    return spot_check(one, 1, tracks.parse(TOML, "toy.toml"), rented, cast(Machines, Says(record)), frozenset())


def test_another_provider_or_image_has_other_packages(stand: StandIn, store: Store) -> None:
    assert checked(stand, store, machine(0, name="a")) == ""
    newer = machine(0, name="b", environment=NEWER)
    assert "not that of the others: numpy missing for 2.1.0, torch 2.9.0" in checked(stand, store, newer)
    assert checked(stand, store, replace(newer, seconds=1.0), OTHER) == ""
    assert checked(stand, store, machine(0, name="c", environment=NEWER), backend="modal") == ""
    assert checked(stand, store, machine(0, name="d")) == ""


def test_what_other_settings_do_away_with_is_not_held_against_a_machine(stand: StandIn, store: Store) -> None:
    assert checked(stand, store, machine(0, name="a")) == ""
    good = machine(0, name="b")
    assert good.disk is not None and good.walls is not None and good.step is not None
    for setting in (
        replace(good, environment=NEWER),
        replace(good, disk=replace(good.disk, free_mb=1.0)),
        replace(good, walls=replace(good.walls, level="base")),
    ):
        assert checked(stand, store, setting) != ""
    assert checked(stand, store, good) == ""
    assert "got through" in checked(stand, store, replace(good, walls=replace(good.walls, unknown=("vsock",))))
    assert "got through" in checked(stand, store, good)
