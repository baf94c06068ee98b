"""Links to a real sshd: whom they trust, when they are given up, and that they come again."""

import asyncio
import os
import signal
import stat
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runners.ssh.link import Link, Refused, Thread, Unreachable
from agent.runners.ssh.pins import Pins
from tests import sshd


def said(thread: Thread, link: Link, *words: str) -> str:
    return thread.wait(link.run(*words), 60).out.decode()


def test_one_connection_for_all_and_every_word_as_it_is(tmp_path: Path, server: sshd.Sshd, thread: Thread) -> None:
    link = Link(server.host(tmp_path), Pins(tmp_path / "pins"))

    async def many() -> list[bytes]:
        return [done.out for done in await asyncio.gather(*(link.run("echo", f"{n} $HOME; 'x'") for n in range(20)))]

    assert thread.wait(many(), 60) == [f"{n} $HOME; 'x'\n".encode() for n in range(20)]
    assert thread.wait(link.run("cat", stdin=b"\0\xff" * 100_000), 60).out == b"\0\xff" * 100_000
    assert thread.wait(link.run("sh", "-c", "echo no >&2; exit 3"), 60)[::2] == (3, "no\n")
    assert link.connections == 1


def test_a_machine_with_another_key_is_refused_until_a_person_says_so(
    tmp_path: Path, server: sshd.Sshd, thread: Thread
) -> None:
    pins = Pins(tmp_path / "pins")
    assert said(thread, Link(server.host(tmp_path), pins), "echo", "a") == "a\n"
    server.stop()
    server.start(new_key=True)
    with pytest.raises(Refused, match=f"has another host key than at first.* remove {pins.file('lab/box')}"):
        said(thread, Link(server.host(tmp_path), pins), "echo", "a")
    assert said(thread, Link(replace(server.host(tmp_path), name="pod/2"), pins), "echo", "b") == "b\n"
    assert stat.S_IMODE(pins.file("pod/2").stat().st_mode) == 0o600
    pins.file("lab/box").unlink()
    assert said(thread, Link(server.host(tmp_path), pins), "echo", "c") == "c\n"


def test_a_pin_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "pins")
    pins.file("a").parent.mkdir()
    pins.file("a").symlink_to(tmp_path / "elsewhere")
    assert not pins.holds("a", "ssh-ed25519 AAAA")
    assert not (tmp_path / "elsewhere").exists()


def test_who_is_not_let_in_has_to_act(tmp_path: Path, server: sshd.Sshd, thread: Thread) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    host = server.host(tmp_path)
    with pytest.raises(Refused, match="does not let"):
        said(thread, Link(replace(host, key=tmp_path / "other"), Pins(tmp_path / "pins")), "true")
    with pytest.raises(Refused, match="can't be used"):
        said(thread, Link(replace(host, key=tmp_path / "none"), Pins(tmp_path / "pins")), "true")
    assert "Accepted" not in (server.folder / "log").read_text()


def test_a_session_that_is_killed_and_a_machine_that_was_away(
    tmp_path: Path, server: sshd.Sshd, thread: Thread
) -> None:
    link = Link(server.host(tmp_path), Pins(tmp_path / "pins"))
    assert said(thread, link, "echo", "a") == "a\n"
    running = thread.start(link.run("sleep", "60"))
    server.cut()
    with pytest.raises(Unreachable):
        running.result(20)
    assert said(thread, link, "echo", "b") == "b\n" and link.connections == 2
    server.stop()
    for _ in range(2):  # the second try is put off
        with pytest.raises(Unreachable):
            said(thread, link, "echo", "c")
    server.start()

    async def patiently() -> bytes:
        while True:
            try:
                return (await link.run("echo", "d")).out
            except Unreachable:
                await asyncio.sleep(0.1)

    assert thread.wait(patiently(), 30) == b"d\n"


def test_a_half_open_link_is_noticed(tmp_path: Path, server: sshd.Sshd, thread: Thread) -> None:
    link = Link(server.host(tmp_path, keepalive_s=0.5), Pins(tmp_path / "pins"))
    assert said(thread, link, "echo", "a") == "a\n"
    stopped = server.sessions()
    running = thread.start(link.run("sleep", "60"))
    server.cut(signal.SIGSTOP)
    with pytest.raises(Unreachable):
        running.result(20)
    assert said(thread, link, "echo", "b") == "b\n"
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)


def test_a_flood_is_cut_off(tmp_path: Path, server: sshd.Sshd, thread: Thread) -> None:
    link = Link(server.host(tmp_path), Pins(tmp_path / "pins"))
    with pytest.raises(Unreachable, match="more than it may"):
        thread.wait(link.run("cat", "/dev/zero"), 120)


def test_a_task_that_did_not_hear_that_it_ends_keeps_nobody() -> None:
    thread, told, ended = Thread("test"), list[str](), list[str]()
    begun = threading.Event()

    async def deaf() -> None:
        begun.set()
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.append("told")
                if len(told) > 1:
                    raise

    async def last() -> None:
        ended.append("last")

    thread.start(deaf())
    assert begun.wait(5)
    thread.close(last())
    assert told == ["told", "told"] and ended == ["last"] and not thread.loop.is_running()
