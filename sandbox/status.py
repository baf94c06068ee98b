"""What the kernel says of one process in /proc/PID/status, by the name of a field.

Takes a process id; gives values, none if there is no such process, field or number. The first line holds the name that
the process gave itself, which may be anything but the end of a line, other ends of lines and whole fields too: it is
never looked at, and only what the kernel ends a line with ends one.
"""

from sandbox import tree


def field(pid: int, name: bytes) -> bytes | None:
    """Of a process, or of a thread by its own number."""
    try:
        text = tree.read(f"/proc/{pid}/status")
    except OSError:
        return None
    return parse(text, name)


def parse(text: bytes, name: bytes) -> bytes | None:
    for line in text.split(b"\n")[1:]:
        found, colon, value = line.partition(b":")
        if colon and found == name:
            return value.strip(b" \t")
    return None


def number(pid: int, name: bytes, base: int = 10) -> int | None:
    """The first word of it."""
    try:
        return int((field(pid, name) or b"").split()[0], base)
    except (ValueError, IndexError):
        return None


def catches(pid: int, signal: int) -> bool:
    """Whether it has a handler for that signal; what has none is ended by most."""
    caught = number(pid, b"SigCgt", 16)
    return caught is not None and bool(caught >> (signal - 1) & 1)


def page_tables(pid: int) -> int:
    """Bytes that the kernel needs to know where a process' memory is: much, of a process that has touched a little of
    very much, and no part of its resident memory."""
    return (number(pid, b"VmPTE") or 0) * 1024
