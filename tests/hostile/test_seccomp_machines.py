"""The filter's program of every machine, run by an interpreter: each number is answered as the lists say."""

import struct

import pytest

from sandbox import bpf, seccomp, syscalls
from sandbox.seccomp import DENIED, MODES, OWNERS_AND_ATTRIBUTES, PRETENDED_ABSENT, SHARED_OBJECTS, TIMES, Kind
from sandbox.syscalls import MACHINES, NUMBERS
from tests.absent import package
from tests.filtering import KINDS, on_linux

pytestmark = on_linux


def interpret(program: bytes, nr: int, audit: int, *arguments: int) -> int:
    """What the kernel would do, by the manual of classic BPF."""
    data = struct.pack("=iIQ6Q", nr, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code, at, loaded = list(struct.iter_unpack("=HBBI", program)), 0, 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:
            loaded &= k
        elif operation == 0x05:
            at += k
        elif operation == 0x06:
            return k
        else:
            true = {0x15: loaded == k, 0x35: loaded >= k, 0x45: loaded & k != 0}[operation]
            at += yes if true else no


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_number_of_each_machine_is_answered_as_listed(name: str, kind: Kind) -> None:
    machine = MACHINES[name]
    program = seccomp.build(machine, kind, loopback=True, pinned=True)
    expected = dict.fromkeys(DENIED.split(), seccomp.NO) | dict.fromkeys(PRETENDED_ABSENT.split(), seccomp.ABSENT)
    expected |= dict.fromkeys(SHARED_OBJECTS.split(), seccomp.NO) | dict.fromkeys(TIMES.split(), seccomp.PRETEND)
    expected |= {"sched_setaffinity": seccomp.NO}
    if kind == "open":
        expected |= dict.fromkeys(MODES.split(), seccomp.PRETEND)
        expected |= dict.fromkeys(OWNERS_AND_ATTRIBUTES.split(), seccomp.NO)
        expected |= dict.fromkeys(("connect", "bind", "listen"), bpf.ret(bpf.NOTIFY))
    known = {syscalls.number(call, machine): call for call in NUMBERS}
    for nr in range(600):
        got = interpret(program, nr, machine.audit)
        if known.get(nr) in expected:
            assert got == expected[known[nr]][0].k, known[nr]
        elif nr not in known:
            assert got == (bpf.ALLOW if nr < syscalls.NEWER else seccomp.ABSENT[0].k), nr
    other = next(each for each in MACHINES.values() if each != machine)
    assert interpret(program, 1, other.audit) == bpf.KILL_PROCESS


def test_numbers_are_those_of_libseccomp() -> None:
    library = package("pyseccomp", "pip install -e '.[test]', apt-get install libseccomp2")
    arches = {"x86_64": library.Arch.X86_64, "aarch64": library.Arch.AARCH64}
    compared = 0
    for machine, column in MACHINES.items():
        for name, numbers in NUMBERS.items():
            found = library.resolve_syscall(arches[machine], name)
            if found >= 0:  # older libraries don't know the newest; numbers below 0 stand for "not on this machine"
                assert numbers[column.column] == found, (machine, name)
                compared += 1
            elif numbers[1 - column.column] != numbers[column.column]:
                assert numbers[column.column] is None, (machine, name)
    assert compared > 250


def test_a_program_is_made_once_and_fits() -> None:
    for kind in KINDS:
        first = seccomp.program(kind, loopback=True, pinned=True)
        assert seccomp.program(kind, loopback=True, pinned=True) is first
        assert len(first) % 8 == 0 and len(first) < 8 * bpf.MOST


def test_a_machine_without_numbers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "this_machine", lambda: None)
    with pytest.raises(OSError, match="x86_64, aarch64"):
        seccomp.program.__wrapped__("boxed", loopback=True, pinned=True)


def test_few_instructions_are_run_before_a_call_is_allowed() -> None:
    """The kernel runs the program on calls whose answer depends on their arguments, and on all before 5.11."""
    for machine in MACHINES.values():
        program = seccomp.build(machine, "open", loopback=True, pinned=True)
        code = list(struct.iter_unpack("=HBBI", program))
        depth = [0] * len(code)
        for at in reversed(range(len(code))):
            operation, yes, no, k = code[at]
            nexts = [] if operation == 6 else [at + 1 + k] if operation == 5 else [at + 1 + yes, at + 1 + no]
            depth[at] = 1 + max((depth[one] for one in nexts), default=0)
        assert depth[0] <= 32
