"""What the doorman allows, asked by real processes behind a real filter."""

import errno
import os
import sys
from pathlib import Path

import pytest

from sandbox import doorman, landlock
from tests.processes import until
from tests.visiting import MEET, said, visitor

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not doorman.works(), reason="no doorman can work here"
)


@pytest.mark.parametrize(
    ("family", "host", "to", "found"),
    [
        ("socket.AF_INET", "127.0.0.1", None, "127.0.0.1"),
        ("socket.AF_INET", "127.8.9.10", None, "127.8.9.10"),
        ("socket.AF_INET", "0.0.0.0", None, "127.0.0.1"),
        ("socket.AF_INET", "127.0.0.1", "0.0.0.0", "127.0.0.1"),
        ("socket.AF_INET", "0.0.0.0", "127.0.1.1", "127.0.0.1"),
        ("socket.AF_INET6", "::1", None, "::1"),
        ("socket.AF_INET6", "::", "::1", "::ffff:127.0.0.1"),
        ("socket.AF_INET6", "::", None, "::ffff:127.0.0.1"),
        ("socket.AF_INET6", "::ffff:127.0.0.1", None, "::ffff:127.0.0.1"),
        ("socket.AF_INET6", "::ffff:0.0.0.0", "::", "::ffff:127.0.0.1"),
    ],
)
def test_two_sockets_meet_on_loopback(family: str, host: str, to: str | None, found: str) -> None:
    values = {"FAMILY": family, "HOST": repr(host), "TO": repr(to)}
    code = MEET
    for name, value in values.items():
        code = code.replace(name, value)
    assert said(code)[:2] == [found, "hello"]


def test_any_address_of_version_6_alone_is_its_loopback() -> None:
    code = (
        "one = socket.socket(socket.AF_INET6)\none.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
        "one.bind(('::', 0))\nprint(json.dumps(one.getsockname()[0]))"
    )
    assert said(code) == "::1"


def test_a_listener_without_a_name_gets_one_on_loopback() -> None:
    code = "one = socket.socket({})\none.listen()\nprint(json.dumps(one.getsockname()[:2]))"
    for family, host in (("socket.AF_INET", "127.0.0.1"), ("socket.AF_INET6", "::ffff:127.0.0.1")):
        found = said(code.format(family))
        assert found[0] == host and found[1] > 0


def test_a_socket_that_does_not_wait_is_not_made_to() -> None:
    code = """
server = socket.socket(); server.listen()
client = socket.socket(); client.setblocking(False)
import select
first = tried(client.connect, server.getsockname())
select.select([], [client], [], 5)
print(json.dumps([first, client.getsockopt(1, 4), client.getblocking(), os.get_blocking(client.fileno())]))"""
    first, *rest = said(code)
    assert first in (0, errno.EINPROGRESS) and rest == [0, False, False]


def test_threads_and_children_are_answered_too() -> None:
    code = """
import threading
server = socket.socket(); server.listen(64)
def visit():
    with socket.socket() as one:
        one.connect(server.getsockname())
threads = [threading.Thread(target=visit) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
if os.fork() == 0:
    visit(); os._exit(0)
child = os.waitstatus_to_exitcode(os.wait()[1])
server.settimeout(5)
print(json.dumps([child, len([server.accept() for _ in range(9)])]))"""
    assert said(code) == [0, 9]


def test_interfaces_can_be_listed() -> None:
    code = """
netlink = socket.socket(16, 3, 0)
print(json.dumps(['lo' in [name for _, name in socket.if_nameindex()], tried(netlink.bind, (0, 0)),
                  tried(socket.socket(16, 3, 0).bind, (0, 1)), tried(netlink.connect, (0, 0))]))"""
    assert said(code) == [True, 0, errno.EPERM, errno.EPERM]


@pytest.mark.parametrize("name", ["'/nowhere/at/all'", "'plain'", "'\\0abstract'"])
def test_unix_sockets_lead_to_the_candidates_own(name: str) -> None:
    code = f"""
server = socket.socket(1); server.bind({name}); server.listen()
client = socket.socket(1); client.connect({name})
met, _ = server.accept()
client = socket.socket(1); client.connect(server.getsockname())
met, _ = server.accept()
socket.send_fds(client, [b'file'], [1])
print(json.dumps([socket.recv_fds(met, 9, 1)[0].decode(), os.path.exists({name}) if {name}[0] else False]))"""
    assert said(code) == ["file", False]


@pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
def test_landlock_does_not_keep_the_doorman_from_its_work(tmp_path: Path) -> None:
    rules = landlock.ruleset([Path("/")], [tmp_path])
    meet = MEET.replace("FAMILY", "2").replace("HOST", "'127.0.0.1'").replace("TO", "None")
    unix = "one = socket.socket(1); one.bind('x'); one.listen(); socket.socket(1).connect('x')\n"
    denied = f"assert tried(open, {str(tmp_path.parent / 'x')!r}, 'w') == errno.EACCES\n"
    assert said(unix + denied + meet, rules=rules)[1] == "hello"
    os.close(rules)


LOAD = """
from torch.utils.data import DataLoader
import torch
print([int(each.sum()) for each in DataLoader(torch.arange(8), batch_size=4, num_workers=2)])
"""


@pytest.mark.slow
def test_processes_that_load_data_hand_it_over() -> None:
    assert said(LOAD) == [6, 22]


ALL_REDUCE = """
import os, torch, torch.distributed as group
group.init_process_group("gloo")
sum = torch.ones(3) * (1 + group.get_rank())
group.all_reduce(sum)
os.write(1, f"{group.get_rank()} {sum.tolist()}".encode() + bytes([10]))  # at once: two processes share the pipe
group.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_with_two_processes(tmp_path: Path) -> None:
    (tmp_path / "all_reduce.py").write_text(ALL_REDUCE)
    code = f"""
os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                          "--local-addr", "127.0.0.1", {str(tmp_path / "all_reduce.py")!r}])"""
    with visitor(code) as one:
        out, err = one.process.communicate(timeout=120)
        assert one.process.returncode == 0, err.decode()[-3000:]
        assert sorted(out.splitlines()) == [b"0 [3.0, 3.0, 3.0]", b"1 [3.0, 3.0, 3.0]"]
        until(lambda: not one.doorman.alive(), within_s=2)
