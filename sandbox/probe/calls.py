"""Raw system calls, for what Python has no function for.

Takes a name and arguments; gives the result, or OSError. Numbers are those of x86_64 and aarch64.
"""

import ctypes
import errno
import os
import platform

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

NEWNS, NEWUTS, NEWUSER = 0x00020000, 0x04000000, 0x10000000

_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "cachestat": (451, 451),
    "clone": (56, 220),
    "clone3": (435, 435),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "iopl": (172, None),
    "ioprio_get": (252, 31),
    "ioprio_set": (251, 30),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "memfd_secret": (447, 447),
    "mincore": (27, 232),
    "mount": (165, 40),
    "mq_open": (240, 180),
    "mq_timedreceive": (243, 183),
    "mq_timedsend": (242, 182),
    "mq_unlink": (241, 181),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "request_key": (249, 218),
    "sendmmsg": (307, 269),
    "setdomainname": (171, 162),
    "setns": (308, 268),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine())


def number(name: str) -> int:
    found = None if _COLUMN is None else _NUMBERS[name][_COLUMN]
    if found is None:
        raise OSError(errno.ENOSYS, f"no {name} on {platform.machine()}")
    return found


def call(name: str, *arguments: object) -> int:
    """Integers are passed as longs, bytes and ctypes objects as addresses."""
    return checked(LIBC.syscall(number(name), *(_passed(one) for one in arguments)), name)


def checked(result: int, name: str) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return int(result)


def _passed(one: object) -> object:
    return ctypes.c_long(one) if isinstance(one, int) else one


class IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class FileHandle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint), ("kind", ctypes.c_int), ("handle", ctypes.c_ubyte * 128))
