"""A tiny assembler for the programs that the kernel runs on each system call (classic BPF, as seccomp has it).

Takes blocks put together by `branch` and `load`; gives the bytes of a `struct sock_filter` array. Every path
through a block ends in a `ret`, so any block may stand wherever another one may.
"""

import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

Test = Literal["==", ">=", "&"]

# Results, from linux/seccomp.h.
ALLOW = 0x7FFF0000
NOTIFY = 0x7FC00000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

# Where `struct seccomp_data` has its parts.
NUMBER, ARCH, _ARGS = 0, 4, 16

_LOAD, _AND, _JUMP, _RET = 0x20, 0x54, 0x05, 0x06
_TESTS: dict[Test, int] = {"==": 0x15, ">=": 0x35, "&": 0x45}
_FAR = 255  # the longest conditional jump
MOST = 4096  # instructions that the kernel takes


class Instruction(NamedTuple):
    code: int
    yes: int
    no: int
    k: int


Block = tuple[Instruction, ...]


def ret(result: int) -> Block:
    return (Instruction(_RET, 0, 0, result),)


def fail(errno: int) -> Block:
    """The call does nothing and gives this error; 0 makes it look like a success."""
    return ret(_ERRNO | errno)


def load(offset: int, then: Block) -> Block:
    return (Instruction(_LOAD, 0, 0, offset), *then)


def mask(bits: int, then: Block) -> Block:
    """What was loaded, with only these bits left."""
    return (Instruction(_AND, 0, 0, bits), *then)


def low(argument: int) -> int:
    """Where the lower half of an argument is (the machines we know are little-endian)."""
    return _ARGS + 8 * argument


def high(argument: int) -> int:
    return low(argument) + 4


def branch(test: Test, k: int, yes: Block, no: Block) -> Block:
    """Tests what was loaded last; `no` follows at once, `yes` after it."""
    if len(no) <= _FAR:
        return (Instruction(_TESTS[test], len(no), 0, k), *no, *yes)
    jump = Instruction(_JUMP, 0, 0, len(no))
    return (Instruction(_TESTS[test], 0, 1, k), jump, *no, *yes)


def among(values: Sequence[int], yes: Block, no: Block) -> Block:
    """Whether what was loaded last is one of these: a few tests that share one `yes` and one `no`."""
    if not values:
        return no
    tail = (*no, *yes)
    tests: Block = ()
    for at, value in enumerate(values):
        left = len(values) - at - 1
        tests += (Instruction(_TESTS["=="], left + len(no), 0, value),)
    if max(one.yes for one in tests) > _FAR:
        raise ValueError(f"{len(no)} instructions are too many to jump over; put the longer block last")
    return (*tests, *tail)


def lookup(cases: dict[int, Block], default: Block) -> Block:
    """The block of the number that was loaded last, found by halving: of n cases about log2(n) are tested."""
    return _halve(sorted(cases.items()), default)


def _halve(cases: Sequence[tuple[int, Block]], default: Block) -> Block:
    if len(cases) == 1:
        value, block = cases[0]
        return branch("==", value, block, default)
    middle = len(cases) // 2
    return branch(">=", cases[middle][0], _halve(cases[middle:], default), _halve(cases[:middle], default))


def assemble(block: Block) -> bytes:
    """The program as the kernel takes it, and as bubblewrap takes it by --seccomp."""
    if len(block) > MOST:
        raise ValueError(f"{len(block)} instructions; the kernel takes {MOST}")
    return b"".join(struct.pack("=HBBI", *one) for one in block)
