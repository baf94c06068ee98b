"""Socket addresses that a candidate wrote, read with care: which one is meant, and whether it is inside.

Takes bytes and the socket that they are for; gives a checked address to use instead, or the error that the kernel
would have given.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

_SO_PROTOCOL, _SO_DOMAIN = 38, 39
AF_NETLINK, _NETLINK_ROUTE = 16, 0
_LISTENS = "0A"
_INTERNET = (socket.AF_INET, socket.AF_INET6)


class Address(NamedTuple):
    """A name that a socket may get or reach."""

    host: str
    port: int


def internet(copy: socket.socket) -> int:
    """The family of a TCP socket.

    Raises:
        OSError: it is another kind of socket; none of those gets an address here.
    """
    family = _option(copy, _SO_DOMAIN)
    tcp = _option(copy, socket.SO_TYPE) == socket.SOCK_STREAM and _option(copy, _SO_PROTOCOL) == socket.IPPROTO_TCP
    if family not in _INTERNET or not tcp:
        raise OSError(errno.EPERM, "only TCP sockets may have addresses")
    return family


def is_unix(copy: socket.socket) -> bool:
    """Whether it is a stream of the unix family; a datagram could be sent to any name without asking us."""
    return _option(copy, _SO_DOMAIN) == socket.AF_UNIX and _option(copy, socket.SO_TYPE) == socket.SOCK_STREAM


def unix_name(raw: bytes) -> bytes:
    """A path or an abstract name, as the candidate wrote it."""
    if len(raw) < 3:
        raise OSError(errno.EINVAL, "an address without a name")
    if int.from_bytes(raw[:2], "little") != socket.AF_UNIX:
        raise OSError(errno.EINVAL, "an address of another family than the socket's")
    name = raw[2:]
    return name if name[0] == 0 else name.split(b"\0")[0]


def is_netlink(copy: socket.socket) -> bool:
    return _option(copy, _SO_DOMAIN) == AF_NETLINK


def _option(copy: socket.socket, which: int) -> int:
    return copy.getsockopt(socket.SOL_SOCKET, which)


def parse(raw: bytes, family: int) -> Address:
    """An internet address as the kernel takes it."""
    shortest = 16 if family == socket.AF_INET else 24
    if len(raw) < 2:
        raise OSError(errno.EINVAL, f"an address of {len(raw)} bytes")
    if int.from_bytes(raw[:2], "little") != family:  # also AF_UNSPEC, which would take an address away
        raise OSError(errno.EAFNOSUPPORT, "an address of another family than the socket's")
    if len(raw) < shortest:
        raise OSError(errno.EINVAL, f"an address of {len(raw)} bytes")
    host = ipaddress.ip_address(raw[4:8] if family == socket.AF_INET else raw[8:24])
    return Address(str(host), int.from_bytes(raw[2:4], "big"))


def inside(to: Address, copy: socket.socket, family: int) -> Address | None:
    """The loopback address that is meant, "any" included; None if it is outside."""
    host = ipaddress.ip_address(to.host)
    if family == socket.AF_INET6 and host.is_unspecified:
        both = not copy.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return Address("::ffff:127.0.0.1" if both else "::1", to.port)
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    four = mapped or host
    if four.is_unspecified:
        four = ipaddress.ip_address("127.0.0.1")
    if not four.is_loopback:
        return None
    return Address(f"::ffff:{four}" if mapped else str(four), to.port)


def plain(address: Address) -> Address:
    """The same for a socket of either family."""
    return Address(address.host.removeprefix("::ffff:"), address.port)


def listeners(at: Address) -> set[int]:
    """The inodes of all sockets of this machine that a connection to this address may end at."""
    host = ipaddress.ip_address(at.host)
    rows: set[int] = set()
    for table, version in (("/proc/net/tcp", 4), ("/proc/net/tcp6", 6)):
        if version < host.version:
            continue
        same = ipaddress.ip_address(f"::ffff:{host}") if version > host.version else host
        wanted = {f"{_words(same.packed)}:{at.port:04X}", f"{_words(bytes(len(same.packed)))}:{at.port:04X}"}
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            lines = map(str.split, Path(table).read_text("ascii").splitlines()[1:])
            rows |= {int(words[9]) for words in lines if words[1] in wanted and words[3] == _LISTENS}
    return rows


def _words(packed: bytes) -> str:
    """An address as the kernel's tables show it: each four bytes as a number of this machine's order."""
    return "".join(f"{int.from_bytes(packed[at : at + 4], sys.byteorder):08X}" for at in range(0, len(packed), 4))


def netlink_name(copy: socket.socket, raw: bytes) -> tuple[int, int]:
    """What asks the kernel for its interfaces is bound first; to listen to all that happens to them is denied."""
    if _option(copy, _SO_PROTOCOL) != _NETLINK_ROUTE or len(raw) < 12:
        raise OSError(errno.EPERM, "not an address of a netlink socket for routes")
    family, _, port, groups = struct.unpack("=HHII", raw[:12])
    if family != AF_NETLINK or groups:
        raise OSError(errno.EPERM, "only the kernel's answers may be read")
    return port, 0
