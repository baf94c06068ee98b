"""Walls are tried as training gets them, too: it may have sockets, and only a doorman keeps them inside."""

import socket

import pytest

from sandbox import desk, doorman, landlock, table
from sandbox.addresses import internet, parse
from sandbox.proving import Result, prove
from sandbox.table import Tried, behind
from sandbox.walls import OLDEST_LANDLOCK, Stack
from tests.processes import linux

pytestmark = [
    linux,
    pytest.mark.slow,
    pytest.mark.skipif(landlock.abi() < OLDEST_LANDLOCK or not doorman.works(), reason="no such walls here"),
]
WALLS = Stack("landlock", ("landlock", "seccomp", "doorman"))
TCP = ("tcp4", "tcp_fast_open", "listen_everywhere")


def test_a_doorman_that_does_not_hold_is_found_out_by_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def lets_out(self: desk.Desk, copy: socket.socket, raw: bytes) -> None:
        copy.connect(parse(raw, internet(copy)))

    def of(trains: bool) -> list[str]:
        found = prove(behind(WALLS, trains=trains), bombs=False, sessions=False)
        return [found[name].got for name in TCP]

    assert of(True) == ["denied", "denied", "allowed"]
    monkeypatch.setattr(desk.Desk, "_connect", lets_out)
    assert of(True) == ["allowed", "denied", "allowed"]
    assert of(False) == ["denied", "denied", "denied"]


def test_what_gets_out_either_way_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    through, not_through = Result("allowed"), Result("denied", "EPERM")
    bare_results = {"tcp4": through, "tcp6": through, "see_lock": through, "access_time": through, "lock": not_through}
    answers = iter(
        (
            bare_results,
            {
                "tcp4": not_through,
                "tcp6": through,
                "see_lock": not_through,
                "access_time": through,
                "lock": not_through,
            },
            {"tcp4": through, "tcp6": through, "see_lock": through},
        )
    )
    monkeypatch.setattr(table, "prove", lambda *_, **__: next(answers))
    assert table.tried(WALLS, "landlock") == Tried(7, ("access_time", "see_lock"), ("tcp6", "tcp4"))
