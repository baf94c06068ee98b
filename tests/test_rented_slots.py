"""Names of slots of a runner that rents: sizes, kinds that are asked for in turn, and room."""

import pytest

from agent.runners.rented.slots import Named, Slots

KINDS = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe")


def test_each_size_and_kind_has_slots_of_its_own() -> None:
    slots = Slots("pods", KINDS, (8, 1), 2)
    assert slots.now([], []) == ("pods/0", "pods/1", "pods/1x-0", "pods/1x-1")
    every = list(slots.every())
    assert Named("pods/1x-h100-pcie-1", KINDS[1], 1) in every and len({one.slot for one in every}) == len(every) == 8


def test_another_kind_for_one_size_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots("pods", KINDS, (8, 1), 1)
    assert slots.turn(KINDS[0], 8) == KINDS[1]
    assert slots.now([], []) == ("pods/h100-pcie-0", "pods/1x-0")
    assert slots.turn(KINDS[0], 8) == KINDS[1]  # said once more, by another slot that had asked before
    monkeypatch.setattr("agent.runners.rented.slots.TURN_S", 0.0)
    assert slots.now([], []) == ("pods/0", "pods/1x-0")
    assert Slots("pods", KINDS[:1], (1,), 1).turn(KINDS[0], 1) == ""


def test_what_waits_for_the_room_of_others_is_not_overtaken() -> None:
    slots = Slots("pods", KINDS[:1], (8, 1), 2)
    assert slots.now(["pods/1x-0"], ["pods/1x-1"]) == ("pods/1x-0", "pods/0", "pods/1x-1")
    # Both small ones had work, a final waits; one of them is free now, and goes back instead of getting more.
    assert slots.now(["pods/1x-0", "pods/0"], ["pods/1x-1"]) == ("pods/1x-0", "pods/0")
