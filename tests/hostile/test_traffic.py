"""What a tree of processes sends elsewhere: real sockets, between two network namespaces."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.job.folder import JobResult
from agent.judge.measure import measure
from agent.judge.task import Measured
from sandbox import Confined, Limits, NoWalls, Policy, landlock, traffic, walls
from sandbox.limits import Network
from sandbox.seen import seen
from tests.judging import toy
from tests.measuring import RUN
from tests.measuring import make_job as make_measured

ROOT = Path(__file__).parents[2]
NEW_NETWORK = ["unshare", *(() if os.getuid() == 0 else ("--map-root-user",)), "--net", "--"]
CALL = "import socket, time, os\ntalk = socket.create_connection(('192.0.2.2', 7000))\ntalk.recv(5)\n"


def works() -> bool:
    if shutil.which("ip") is None or shutil.which("unshare") is None or not traffic.works():
        return False
    cable = ["ip", "link", "add", "here", "type", "veth", "peer", "name", "there"]
    return subprocess.run([*NEW_NETWORK, *cable], capture_output=True).returncode == 0


cabled = pytest.mark.skipif(not works(), reason="no network namespaces with a cable between them here")


class Ended(NamedTuple):
    cause: str
    rc: int | None
    wall_s: float
    network: Network
    beside: str
    """What an innocent process said meanwhile."""


def outside(what: str, **asked: Any) -> str:
    """What came of a candidate in a world of two machines."""
    words = [sys.executable, "-m", "tests.outside", json.dumps({"what": what, **asked})]
    done = subprocess.run([*NEW_NETWORK, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(code: str, **asked: Any) -> Ended:
    first, _, beside = outside("confined", code=code, **asked).partition("\n")
    said = json.loads(first)
    return Ended(said["cause"], said["rc"], said["wall_s"], Network(**said["network"]), beside)


UNANSWERED = "import socket\ntalk = socket.socket()\ntalk.connect(('192.0.2.77', 7000))"
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can make it a user of its own")


@cabled
@pytest.mark.parametrize("uid", [False, pytest.param(True, marks=AS_ROOT)])
def test_one_byte_ends_the_run(uid: bool) -> None:
    found = ended(CALL + "talk.send(b'x')\ntime.sleep(30)", uid=uid)
    assert found.cause == "network" and found.rc is None and found.wall_s < 4, "its limit is 5 s"
    # At least hello and x, and the packets of a handshake.
    assert 6 + 5 * traffic.HEADERS <= found.network.own < 2000
    assert found.network.machine_after - found.network.machine_before >= found.network.own
    assert found.network.unclaimed == 0


@cabled
def test_what_a_short_run_sent_is_found_after_its_end() -> None:
    """It ends before the second look; its last packets are still to be acknowledged."""
    found = ended("import time\ntime.sleep(0.02)\n" + CALL + "talk.sendall(bytes(5_000_000))", uid=os.getuid() == 0)
    assert found.network.own + found.network.unclaimed > 1_000_000, found
    assert found.cause == ("network" if found.network.own else "exited")


@cabled
def test_what_is_seen_at_the_end_counts() -> None:
    """It ends by itself between two looks, and leaves one behind that is still calling."""
    calling = "while ' 02 ' not in open('/proc/net/tcp').read():\n  time.sleep(0.001)\nos._exit(0)"
    code = "import os, time\nif os.fork() == 0:\n  " + UNANSWERED.replace("\n", "\n  ") + "\n" + calling
    found = ended(code)
    assert found.cause == "network" and found.network.own, found  # on a busy machine a usual look may be first


GRANDCHILD = "import os\nif os.fork():\n  os.wait()\nos.setsid()\n" + CALL + "time.sleep(30)"
MAPPED = CALL.replace("192.0.2.2", "::ffff:192.0.2.2") + "time.sleep(30)"
DATAGRAM = (
    CALL.replace("create_connection((", "socket(type=2)\ntalk.connect((").replace("recv(5)", "send(b'x')")
    + "time.sleep(30)"
)
# What this thread has open is not among the open files of its process.
THREAD = (
    "import ctypes, threading\n"
    "def call():\n  assert ctypes.CDLL(None).unshare(0x400) == 0\n"  # CLONE_FILES
    "  import socket, time\n  talk = socket.create_connection(('192.0.2.2', 7000))\n  time.sleep(30)\n"
    "threading.Thread(target=call).start()"
)
CALLED = (
    "import socket, time\nserver = socket.create_server(('192.0.2.1', 22))\n"
    "talk, _ = server.accept()\ntalk.recv(9)\ntime.sleep(30)"
)


@cabled
@pytest.mark.parametrize("code", [GRANDCHILD, UNANSWERED, MAPPED, DATAGRAM, THREAD, CALLED])
def test_other_ways_out(code: str) -> None:
    found = ended(code)
    assert found.cause == "network" and found.network.own >= traffic.HEADERS, found


@cabled
def test_loopback_is_not_the_network() -> None:
    code = (
        "import socket, time\n"
        "for address in ('127.0.0.1', '127.3.2.1', '192.0.2.1', '::1', '::ffff:127.0.0.1'):\n"
        "  server = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)\n"
        "  server.bind((address, 0))\n  server.listen()\n"
        "  talk = socket.create_connection(server.getsockname()[:2])\n  talk.send(bytes(1000))\n  time.sleep(0.15)\n"
    )
    found = ended(code)
    assert found.cause == "exited" and found.rc == 0, found
    assert found.network.own == found.network.unclaimed == 0


@cabled
def test_another_process_is_not_the_run() -> None:
    """The machine's own talk, such as with whoever commands it."""
    code = CALL + "print('on', flush=True)\nwhile True:\n  talk.send(bytes(100))\n  time.sleep(0.01)"
    found = ended("import time\ntime.sleep(0.6)", innocent=code)
    assert found.cause == "exited" and found.network.own == found.network.unclaimed == 0, found
    assert found.network.machine_after > found.network.machine_before


@cabled
def test_what_ended_between_two_looks_is_kept_as_unclaimed() -> None:
    """Nobody saw whose it was: it accuses nobody, and it is not forgotten."""
    code = "talk = socket.create_connection(('192.0.2.2', 7000))\n  talk.send(bytes(999))\n  time.sleep(0.005)\n  "
    reset = "talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))\n  talk.close()\n"
    beside = "import socket, time\nprint('on', flush=True)\nwhile True:\n  " + code + reset + "  time.sleep(0.05)"
    found = ended("import time\ntime.sleep(1)", innocent=beside)
    assert found.cause == "exited" and found.network.own == 0, found
    assert found.network.unclaimed > 999


@cabled
def test_whom_others_call_is_not_unclaimed() -> None:
    """As a person who looks in by ssh for a moment."""
    code = (
        "import socket\nserver = socket.create_server(('192.0.2.1', 22))\nprint('on', flush=True)\n"
        "while True:\n  server.accept()[0].recv(99)\n  print('visit', flush=True)"
    )
    found = ended("import time\ntime.sleep(0.6)", innocent=code)
    assert found.beside.count("visit") > 3
    assert found.network.unclaimed == found.network.own == 0, found


@cabled
def test_its_run_is_invalid(tmp_path: Path) -> None:
    found = JobResult.from_json(outside("job", code=CALL + "time.sleep(30)"))
    assert found.outcome == "capped" and found.reason.startswith("train: it talked to the network: "), found
    made = measure(toy(""), RUN, make_measured(tmp_path), found, "d1")
    network, no_score = (next(one for one in made.findings if one.rule == rule) for rule in ("network", "no_score"))
    assert network.severity == "invalid" and made.bpb is None
    assert "it talked to the network: " in network.text and no_score.text == found.reason


@cabled
def test_evidence_is_kept_of_an_honest_run(tmp_path: Path) -> None:
    found = JobResult.from_json(outside("job", code="import time\ntime.sleep(0.3)"))
    assert found.outcome == "ok", found
    made = measure(toy(""), RUN, make_measured(tmp_path), found, "d1")
    assert [(one.rule, one.severity) for one in made.findings[:1]] == [("network", "note")]
    assert "none of the machine's" in made.findings[0].text
    (phase,) = found.phases
    unseen = replace(phase, exit=replace(phase.exit, network=Network(0, 81, 100, 300)))
    (flag, *_) = measure(toy(""), RUN, make_measured(tmp_path), replace(found, phases=(unseen,)), "d1").findings
    assert flag.severity == "flag" and "sent 81 of the machine's 200 bytes" in flag.text


@cabled
@pytest.mark.parametrize(("how", "words"), [("calls", "talked to the network"), ("plain", "")])
def test_so_is_what_talks_while_it_is_scored(how: str, words: str) -> None:
    found = Measured.from_json(outside("scoring", how=how))
    severe = [(one.rule, one.text) for one in found.findings if one.severity == "invalid"]
    if words:
        assert found.status == "failed" and severe == [("network", found.reason)] and words in found.reason
    else:
        assert found.status == "ok" and severe == []


@pytest.mark.parametrize(("abi", "level"), [(landlock.abi(), "landlock"), (0, "pod")])
def test_it_is_counted_at_every_level_without_a_network_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abi: int, level: str
) -> None:
    """Behind the real walls of that level, where there is nothing to count."""
    monkeypatch.setattr(walls, "_box", lambda open_to_all: None)
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    (tmp_path / "out").mkdir()
    # Not of a user of its own: it may not get to a folder of tests.
    policy = Policy(str(tmp_path / "out"), (), seen(()).programs, minimum="pod")
    stack = replace(walls.stack(policy), uid=None)
    if abi >= walls.OLDEST_LANDLOCK or level == "pod":
        assert stack.level == level
    code = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "talk = socket.create_connection(server.getsockname())\ntalk.send(bytes(999))"
    )
    ended = Confined(
        (sys.executable, "-I", "-S", "-c", code),
        cwd=tmp_path / "out",
        env={},
        limits=Limits(10, None, 400, 20, 2, 20),
        log=tmp_path / "log",
        folder=tmp_path / "out",
        policy=policy,
        walls=stack,
    )
    assert "traffic" in ended.walls and ended.wait().ok, (tmp_path / "log").read_text()
    found = ended.wait().network
    assert found is not None and found.own == 0
    monkeypatch.setattr(traffic, "works", lambda: False)
    if level == "pod":
        with pytest.raises(NoWalls):
            walls.stack(policy)
    else:
        assert "traffic" not in walls.stack(policy).names
