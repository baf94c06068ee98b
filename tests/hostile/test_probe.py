"""The probe of the sandbox: without walls it gets through, and what is said to be denied did not arrive."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import proving, tree
from sandbox.canaries import HELD, plant
from sandbox.limits import Exit
from sandbox.probe import running
from sandbox.probe.attempts import ATTEMPTS, BOMBS, FIND, LEAVE, Absent, Attempt, Refused
from sandbox.probe.spec import Spec, to_json
from sandbox.proving import Errand, ProbeError, Proof, Result, bare, compare, prove
from sandbox.table import confined
from sandbox.targets import Listeners
from tests.processes import linux

pytestmark = linux

ROOT = os.getuid() == 0
OTHER_USER = 54_321
# What a machine may lack or deny to everybody. Whatever else is denied bare is a fault of the probe.
OF_THE_MACHINE = {
    *("socket_vsock", "socket_audit", "socket_diag", "socket_generic", "socket_netfilter", "socket_packet"),
    *("socket_icmp", "socket_alg", "socket_xdp", "socket_bluetooth", "socket_can", "socket_rds", "socket_tipc"),
    *("tcp6", "tcp4_in_6", "udp6", "tcp_multipath"),  # no IPv6, no multipath
    *("route_option", "device_option"),  # no IPv6, no other device
    *("unshare_user", "clone_user", "clone3_user", "unshare_by_32_bit", "unshare_by_x32", "setns", "mount", "chroot"),
    *("pivot_root", "fsopen", "open_tree", "bpf", "perf_event_open", "userfaultfd", "io_uring", "quotactl"),
    *("add_key", "request_key", "keyctl", "key", "type_into_terminal", "personality"),
    *("init_module", "finit_module", "kexec_load", "swapon", "acct", "set_clock", "iopl", "syslog", "read_kmsg"),
    *("read_page_flags", "read_blocks_of_disk", "extents", "write_hint", "names", "version_shared"),
    *("open_sysrq", "open_sys", "write_proc_sys", "set_domain_name", "leave_task_group"),
    *("rise_to_real_time", "rise", "raise_limits", "set_oom_score", "leave_core", "set_affinity"),
    *("ptrace", "read_memory", "write_memory", "read_proc_mem", "take_fd"),  # ptrace_scope
    *("read_by_root_of_init", "read_by_folder_of_init", "read_environ_of_init", "read_raw_disk"),
    *("setxattr_shared", "cache_drop_cachestat", "cache_drop_nowait", "cache_load_nowait", "queue"),
    *("bomb_memory_secret", "bomb_disk_ruled"),  # an older kernel
}
OF_USERS = {"read_root_only", "setuid_program", "read_by_handle", "chown_shared", "hard_link_shared"}


def behind(*options: str) -> Callable[[Errand], Exit]:
    """Limits, behind bubblewrap, with all folders of programs to read."""

    def run(errand: Errand) -> Exit:
        programs = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/alternatives") if Path(path).exists()]
        python = {sys.prefix, sys.base_prefix}
        reads = [
            part for path in (*programs, *python, *errand.readable) for part in ("--ro-bind", str(path), str(path))
        ]
        folder = str(errand.folder)
        argv = ("bwrap", *options, *reads, "--bind", folder, folder, "--chdir", folder, "--", *errand.argv)
        return confined(replace(errand, argv=argv))

    return run


PRIVATE = ("--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--new-session", "--die-with-parent")
EMPTY = ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")
bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap")


def names(results: dict[str, Result], got: str) -> set[str]:
    return {name for name, result in results.items() if result.got == got}


@pytest.fixture(scope="module")
def without() -> dict[str, Result]:
    return prove(bare)


def test_without_a_box_all_get_through_but_what_the_machine_denies(without: dict[str, Result]) -> None:
    allowed = names(without, "allowed")
    assert {*ATTEMPTS, *FIND, *(f"bomb_{name}" for name in BOMBS)} == set(without)
    assert {
        name: without[name] for name in set(without) - allowed - OF_THE_MACHINE - (set() if ROOT else OF_USERS)
    } == {}
    assert len(allowed) >= 80
    assert all(result.why for result in without.values() if result.got != "allowed")


def test_limits_stop_bombs_and_nothing_that_only_walls_stop(without: dict[str, Result]) -> None:
    results = prove(confined)
    stopped = names(without, "allowed") - names(results, "allowed")
    filtered = {f"bomb_{name}" for name, bomb in BOMBS.items() if bomb.walls == {"seccomp"}}
    bombs = {f"bomb_{name}" for name in BOMBS} - filtered
    assert stopped - filtered == bombs | {"read_own_environ", "read_by_inherited", "lock"}
    causes = {name.removeprefix("bomb_"): results[name].why for name in bombs}
    disk = ("disk", "disk_one_file", "disk_nameless", "inodes")
    assert [causes[name] for name in disk] == ["disk"] * 4
    assert [causes[name] for name in ("memory", "memory_of_many", "log", "wall", "cpu")] == [
        *("memory", "memory", "log", "wall", "cpu")
    ]
    assert (causes["processes"], causes["threads"], causes["disk_sparse"]) == ("processes", "processes", "EFBIG")


@bubblewrap
def test_namespaces_stop_what_they_are_said_to_stop(without: dict[str, Result]) -> None:
    results = compare(without, prove(behind(*PRIVATE, "--disable-userns", *EMPTY), bombs=False))
    said = {name for name, one in (ATTEMPTS | FIND).items() if "namespaces" in one.walls}
    assert said & names(results, "allowed") == set()
    assert len(said & names(results, "denied")) >= 60
    # sendto says that it was sent; the host knows better.
    assert results["udp4"] == Result("denied", "nothing of it was seen outside")
    # They are not what stops these, or the table would say more of them than is true.
    assert {"unix_path", "unix_from_pair", "cache_load_fault"} <= names(results, "allowed")
    if ROOT:  # outside it is the owner of /proc/sys, whatever it may do inside
        assert results["write_proc_sys"].got == "allowed"


@pytest.mark.skipif(not ROOT, reason="only root can run as another user")
def test_another_user_stops_what_it_is_said_to_stop(without: dict[str, Result]) -> None:
    another = ("setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups")

    def runs(python: str) -> bool:
        with contextlib.suppress(OSError):
            ended = subprocess.run([*another, python, "-c", ""], stderr=subprocess.DEVNULL)
            return ended.returncode == 0
        return False

    pythons = [path for path in (sys.executable, "/usr/bin/python3") if runs(path)]
    if not pythons:
        pytest.skip("no Python that another user may run")

    def run(errand: Errand) -> Exit:
        return bare(replace(errand, argv=(*another, pythons[0], *errand.argv[1:])))

    results = compare(without, prove(run, bombs=False))
    said = {name for name, one in (ATTEMPTS | FIND).items() if "uid" in one.walls}
    assert said & names(results, "allowed") == set()
    assert len(said & names(results, "denied")) >= 25
    assert {"read_secret", "tcp4", "unshare_user", "left_in_tmp"} <= names(results, "allowed")


@bubblewrap
def test_attempts_that_this_machine_denies_can_get_through_elsewhere() -> None:
    """The first process of a box that keeps its launcher's environment gives it away."""

    def leaky(errand: Errand) -> Exit:
        folder = str(errand.folder)
        box = ("bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--dev", "/dev", "--clearenv")
        argv = (*box, "--bind", folder, folder, "--", *errand.argv)
        return bare(replace(errand, argv=argv))

    results = prove(leaky, bombs=False)
    assert results["read_own_environ"].got == "denied"
    assert {"read_environ_of_init", "read_by_root_of_init"} <= names(results, "allowed")


def test_nothing_is_left_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    monkeypatch.setattr(proving, "plant", lambda root, word: (words.append(word), plant(root, word))[1])
    monkeypatch.setattr(proving.secrets, "randbelow", lambda below: 777_666_554)
    ear, cpus = signal.getsignal(proving.EAR), os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path must be short
        prove(bare, bombs=False, within=Path(short))
        assert list(Path(short).iterdir()) == []
    assert [path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).glob(f"*{words[0]}*")] == []
    assert words[0] not in proving.DOMAIN.read_text()
    assert all("777666555" not in Path("/proc/sysvipc", kind).read_text() for kind in ("shm", "msg", "sem"))
    assert (signal.getsignal(proving.EAR), os.sched_getaffinity(0)) == (ear, cpus)
    assert proving.VARIABLE not in os.environ
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if words[0].encode() in _read(path)] == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_box_that_only_says_that_it_has_ended_a_run_is_found_out(tmp_path: Path) -> None:
    """Its wall clock ends the first process, and a process that it started goes on."""

    def run(errand: Errand) -> Exit:
        process = subprocess.Popen(errand.argv, cwd=errand.folder, stdout=subprocess.DEVNULL)
        started.append(process)
        errand.log.touch()
        while not (errand.folder / "beats").exists():
            time.sleep(0.01)
        return Exit(None, signal.SIGKILL, "wall", 0.8, 0.1, 10.0)

    started: list[subprocess.Popen[bytes]] = []
    proof = Proof(run, plant(tmp_path, "caddie-word"))
    try:
        assert proof.bomb("wall") == Result("allowed")
    finally:
        started[0].kill()
        started[0].wait()


def test_a_box_in_which_the_probe_does_not_run_proves_nothing() -> None:
    with pytest.raises(ProbeError, match="No such file"):
        prove(lambda errand: bare(replace(errand, argv=(sys.executable, "-I", "/is/not"))))


def test_a_message_that_does_not_arrive_and_one_that_does(tmp_path: Path) -> None:
    listeners = Listeners(tmp_path, "word")
    for content in (b"word udp4", b"other udp6", b"word", b"\xff\xfe word"):
        with socket.socket(type=socket.SOCK_DGRAM) as one:
            one.sendto(content, ("127.0.0.1", listeners.ports["udp4"]))
    with socket.create_connection(("127.0.0.1", listeners.ports["tcp4"])) as one:
        one.send(b"word tcp4")
    assert listeners.arrived() == {"udp4", "tcp4"}
    listeners.close()


def test_how_one_attempt_ends_is_its_own_result(tmp_path: Path) -> None:
    def refuse(spec: Spec) -> None:
        raise Refused("not there")

    def lack(spec: Spec) -> None:
        raise Absent("no such thing")

    def split(spec: Spec) -> None:
        if os.fork() == 0:
            raise Refused("said by a child")
        os.wait()

    tries = {
        "split": split,
        "killed": lambda spec: os.kill(os.getpid(), signal.SIGSYS),
        "hanging": lambda spec: time.sleep(60),
        "ended": lambda spec: os._exit(3),
        "refused": refuse,
        "absent": lack,
        "broken": lambda spec: 1 // 0,
        "missing": lambda spec: os.close(-1),
        "through": lambda spec: None,
    }
    started = time.monotonic()
    before = set(tree.children(os.getpid()))
    said = dict(running.each([Attempt(name, "", "", frozenset(), do) for name, do in tries.items()], spec_in(tmp_path)))
    assert time.monotonic() - started < 10
    assert said.pop("broken")["got"] == "denied"
    assert said == {
        "killed": {"got": "denied", "why": "ended by SIGSYS"},
        "hanging": {"got": "denied", "why": "no answer within 2.5 s"},
        "ended": {"got": "denied", "why": "ended with 3"},
        "refused": {"got": "denied", "why": "not there"},
        "absent": {"got": "absent", "why": "no such thing"},
        "missing": {"got": "denied", "why": "EBADF"},
        "through": {"got": "allowed", "why": ""},
        "split": {"got": "allowed", "why": ""},
    }
    assert set(tree.children(os.getpid())) <= before  # none is left


def spec_in(folder: Path) -> Spec:
    """Of a machine on which nothing can be reached."""
    return Spec(
        word="word",
        own=str(folder),
        code=str(folder),
        shared=str(folder),
        outside=str(folder),
        home=str(folder),
        secrets=dict.fromkeys(HELD, "/is/not"),
        digests={},
        handle=(0, ""),
        ports={},
        launcher=1,
        launcher_signal=0,
        variable="NONE",
        core=None,
        key=1,
        limits={},
    )


@pytest.mark.parametrize("path", ["probe", "probe/__main__.py"])
def test_it_runs_alone_with_the_standard_library(path: str, tmp_path: Path) -> None:
    shutil.copytree(Path(running.__file__).parent, tmp_path / "copy" / "probe")
    (tmp_path / "spec.json").write_text(to_json(spec_in(tmp_path)))
    argv = [sys.executable, "-I", "-S", tmp_path / "copy" / path, tmp_path / "spec.json", "find"]
    said = json.loads(subprocess.run(argv, env={}, check=True, capture_output=True, cwd="/").stdout)
    assert list(said) == list(FIND)
    assert said["shm"] == {"got": "denied", "why": "ENOENT"}


def test_what_is_absent_is_decided_without_a_box() -> None:
    off, on, none = Result("denied", "EPERM"), Result("allowed"), Result("absent", "one core")
    without = {
        "stopped": on,
        "lacking": Result("denied", "ENOSYS"),
        "leaking": Result("denied", "EACCES"),
        "none": none,
    }
    boxed = {"stopped": off, "lacking": off, "leaking": on, "none": none, "unknown": off, "hidden": none}
    assert compare(without, boxed) == {
        "stopped": off,
        "lacking": Result("absent", "ENOSYS"),
        "leaking": on,
        "none": none,
        "unknown": off,
        "hidden": Result("denied", "one core"),
    }


def test_every_attempt_says_what_it_tries_and_which_walls_stop_it() -> None:
    walls = {"namespaces", "seccomp", "landlock", "uid", "rlimits", "watchdog", "env"}
    attempts = [*ATTEMPTS.values(), *FIND.values(), *BOMBS.values()]
    assert len(attempts) >= 100
    assert all(one.tries.endswith(".") and one.walls <= walls for one in attempts)
    assert list(LEAVE) == list(FIND)
    assert len({one.tries for one in attempts}) == len(attempts)
