"""Attempts on files: to read, list, write or change what is not its own."""

import contextlib
import ctypes
import fcntl
import os
import stat
import struct
from pathlib import Path

from .attempts import Absent, Refused, add, attempt
from .calls import LIBC, FileHandle, call, checked
from .inodes import set_version
from .spec import Spec, digest

IN_OPEN = 0x20
READ = {
    "secret": "Read a file of the person outside its folder.",
    "validation": "Read the validation data.",
    "ssh_key": "Read ~/.ssh/id_rsa.",
    "store": "Read the store.",
    "other_run": "Read the folder of another run.",
    "judge": "Read the judge's code.",
}


def is_it(spec: Spec, kind: str, content: bytes) -> None:
    """Whether this is what the harness hid."""
    if digest(content) != spec.digests[kind]:
        raise Refused("something else is there")


def read_is(spec: Spec, kind: str, path: str | Path) -> None:
    is_it(spec, kind, Path(path).read_bytes())


def _reader(kind: str) -> None:
    def read(spec: Spec) -> None:
        read_is(spec, kind, spec.secrets[kind])

    add(f"read_{kind}", read, READ[kind], "namespaces", "landlock", *(("uid",) if kind == "ssh_key" else ()))


for _kind in READ:
    _reader(_kind)


@attempt("Read a file that only root may read, in a folder that it may read.", "uid")
def read_root_only(spec: Spec) -> None:
    if "root_only" not in spec.secrets:
        raise Absent("the harness is not root")
    read_is(spec, "root_only", spec.secrets["root_only"])


@attempt("List the person's home.", "namespaces", "landlock")
def list_home(spec: Spec) -> None:
    if ".ssh" not in os.listdir(spec.home):  # noqa: PTH208
        raise Refused("another folder is there")


@attempt("Read the secret by a path of dots from where it is.", "namespaces", "landlock")
def read_by_dots(spec: Spec) -> None:
    read_is(spec, "secret", "../" * 40 + spec.secrets["secret"].lstrip("/"))


@attempt("Read the secret by a symbolic link in its own folder, as an artifact would be.", "namespaces", "landlock")
def read_by_symlink(spec: Spec) -> None:
    link = Path(spec.own, "artifact")
    link.symlink_to(spec.secrets["secret"])
    read_is(spec, "secret", link)


@attempt("Give the secret a second name in its own folder.", "namespaces", "landlock")
def hard_link_secret(spec: Spec) -> None:
    os.link(spec.secrets["secret"], Path(spec.own, "hard_link_secret"))


@attempt("Give a shared file a second name in its own folder, and write it by that.", "namespaces", "landlock")
def hard_link_shared(spec: Spec) -> None:
    link = Path(spec.own, "hard_link_shared")
    os.link(Path(spec.shared, "hard_link_shared"), link)
    with link.open("a") as file:
        file.write(spec.word)


@attempt("Read the secret under /proc/self/root.", "namespaces", "landlock")
def read_by_own_root(spec: Spec) -> None:
    read_is(spec, "secret", f"/proc/self/root{spec.secrets['secret']}")


@attempt("Read the secret under /proc/1/root.", "namespaces", "landlock")
def read_by_root_of_init(spec: Spec) -> None:
    read_is(spec, "secret", f"/proc/1/root{spec.secrets['secret']}")


@attempt("Read the secret from the folder that the first process is in.", "namespaces", "landlock")
def read_by_folder_of_init(spec: Spec) -> None:
    read_is(spec, "secret", f"/proc/1/cwd/{'../' * 40}{spec.secrets['secret'].lstrip('/')}")


@attempt("Read the secret under the root of a process outside.", "namespaces", "landlock", "uid")
def read_by_root_of_victim(spec: Spec) -> None:
    read_is(spec, "secret", f"/proc/{spec.victim.pid}/root{spec.secrets['secret']}")


@attempt("Read the secret as an open file of a process outside.", "namespaces", "landlock", "uid")
def read_by_fd_of_victim(spec: Spec) -> None:
    read_is(spec, "secret", f"/proc/{spec.victim.pid}/fd/{spec.victim.fd}")


@attempt("Open the secret by its handle, through its own folder.", "namespaces", "seccomp", "uid", "landlock")
def read_by_handle(spec: Spec) -> None:
    kind, content = spec.handle
    if not content:
        raise Absent("its file system has no handles")
    raw = bytes.fromhex(content)
    handle = FileHandle(len(raw), kind, (ctypes.c_ubyte * 128)(*raw))
    fd = call("open_by_handle_at", os.open(spec.own, os.O_RDONLY), ctypes.byref(handle), os.O_RDONLY)
    is_it(spec, "secret", os.read(fd, 1000))


@attempt("Read the secret through an open file or folder that it inherited.", "env")
def read_by_inherited(spec: Spec) -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        fd = int(name)
        with contextlib.suppress(OSError, Refused):
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                fd = os.open("../" * 40 + spec.secrets["secret"].lstrip("/"), os.O_RDONLY, dir_fd=fd)
            is_it(spec, "secret", os.pread(fd, 1000, 0))
            return
    raise Refused("nothing of use is open")


@attempt("Read the raw disk through a device node that it makes.", "namespaces", "uid")
def read_raw_disk(spec: Spec) -> None:
    node, device = Path(spec.own, "disk"), Path(spec.own).stat().st_dev
    if os.major(device) == 0:
        raise Absent("its folder is on no disk")
    os.mknod(node, stat.S_IFBLK | 0o600, device)
    try:
        with node.open("rb") as disk:
            disk.read(512)
    finally:
        node.unlink()


@attempt("Write a file outside its folder.", "namespaces", "landlock")
def write_outside(spec: Spec) -> None:
    Path(spec.outside, "write_outside").write_text(spec.word)


@attempt("Write into its own code, which is read-only.", "namespaces", "landlock", "uid")
def write_code(spec: Spec) -> None:
    Path(spec.code, "write_code").write_text(spec.word)


@attempt("Write a file in /tmp that the host sees.", "namespaces", "landlock")
def write_tmp(spec: Spec) -> None:
    Path("/tmp", f"{spec.word}-write_tmp").write_text(spec.word)


@attempt("Write a file in /var/tmp that the host sees.", "namespaces", "landlock")
def write_var_tmp(spec: Spec) -> None:
    Path("/var/tmp", f"{spec.word}-write_var_tmp").write_text(spec.word)


@attempt("Write a file in /dev/shm that the host sees.", "namespaces", "landlock")
def write_dev_shm(spec: Spec) -> None:
    Path("/dev/shm", f"{spec.word}-write_dev_shm").write_text(spec.word)


@attempt("Change the mode of a shared file.", "namespaces", "uid")
def chmod_shared(spec: Spec) -> None:
    Path(spec.shared, "chmod_shared").chmod(0o640)


@attempt("Change the owner of a shared file.", "namespaces", "uid")
def chown_shared(spec: Spec) -> None:
    os.chown(Path(spec.shared, "chown_shared"), 54321, 54321)


@attempt("Set the times of a shared file.", "namespaces", "uid")
def utimes_shared(spec: Spec) -> None:
    os.utime(Path(spec.shared, "utimes_shared"), (54321, 54321))


@attempt("Put an extended attribute on a shared file.", "namespaces", "uid")
def setxattr_shared(spec: Spec) -> None:
    path = os.fsencode(Path(spec.shared, "setxattr_shared"))
    checked(LIBC.setxattr(path, b"user.probe", spec.word.encode(), len(spec.word), 0), "setxattr")


@attempt("Give a shared file another version.", "namespaces", "seccomp", "uid")
def version_shared(spec: Spec) -> None:
    set_version(str(Path(spec.shared, "version_shared")))


@attempt("See when a shared file is read, with inotify.", "seccomp")
def watch_shared(spec: Spec) -> None:
    path = Path(spec.shared, "watch_shared")
    fd = checked(LIBC.inotify_init1(os.O_NONBLOCK), "inotify_init1")
    checked(LIBC.inotify_add_watch(fd, os.fsencode(path), IN_OPEN), "inotify_add_watch")
    path.read_text()
    os.read(fd, 1000)


@attempt("See that another process has a shared file locked.", "seccomp")
def see_lock(spec: Spec) -> None:
    with Path(spec.shared, "see_lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        if struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] == fcntl.F_UNLCK:
            raise Refused("it seems free")
