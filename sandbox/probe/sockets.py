"""Attempts on the network and on sockets: to reach a listener of the host, or to be reached from it.

What is sent names the attempt; the harness looks at what arrived.
"""

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .attempts import Refused, Try, add, attempt
from .calls import LIBC, IoVec, call, checked
from .spec import Spec

LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"
MSG_FASTOPEN, TCP_FASTOPEN_CONNECT, IPPROTO_MPTCP = 0x20000000, 30, 262
ROUTE_OF_SEGMENTS = 4
COME_WITHIN_S = 0.8
RACE_S = 0.5


SENT: set[str] = set()  # attempts that succeed if their message arrives


def sends(tries: str, *walls: str) -> Callable[[Try], Try]:
    def register(do: Try) -> Try:
        SENT.add(do.__name__)
        return attempt(tries, *walls)(do)

    return register


def message(spec: Spec, name: str) -> bytes:
    return f"{spec.word} {name}".encode()


def _connect(family: int, kind: int, address: object, content: bytes, protocol: int = 0) -> None:
    with socket.socket(family, kind, protocol) as one:
        one.settimeout(1.0)
        one.connect(address)  # type: ignore[arg-type]  # a pair or a path, as the family wants
        one.send(content)


@sends("Connect to a TCP listener of the host (IPv4).", "namespaces")
def tcp4(spec: Spec) -> None:
    _connect(socket.AF_INET, socket.SOCK_STREAM, (LOOPBACK, spec.ports["tcp4"]), message(spec, "tcp4"))


@sends("Connect to a TCP listener of the host (IPv6).", "namespaces")
def tcp6(spec: Spec) -> None:
    _connect(socket.AF_INET6, socket.SOCK_STREAM, (LOOPBACK6, spec.ports["tcp6"]), message(spec, "tcp6"))


@sends("Connect to a TCP listener of the host by an IPv4 address inside IPv6.", "namespaces")
def tcp4_in_6(spec: Spec) -> None:
    address = (f"::ffff:{LOOPBACK}", spec.ports["tcp4"])
    _connect(socket.AF_INET6, socket.SOCK_STREAM, address, message(spec, "tcp4_in_6"))


@sends("Connect to a TCP listener of the host by multipath TCP.", "namespaces", "seccomp")
def tcp_multipath(spec: Spec) -> None:
    address = (LOOPBACK, spec.ports["tcp4"])
    _connect(socket.AF_INET, socket.SOCK_STREAM, address, message(spec, "tcp_multipath"), IPPROTO_MPTCP)


@sends("Connect to a TCP listener without connect: sendto with MSG_FASTOPEN.", "namespaces")
def tcp_fast_open(spec: Spec) -> None:
    with socket.socket() as one:
        one.sendto(message(spec, "tcp_fast_open"), MSG_FASTOPEN, (LOOPBACK, spec.ports["tcp4"]))


@sends("Connect to a TCP listener without connect: sendmsg with MSG_FASTOPEN.", "namespaces")
def tcp_fast_open_sendmsg(spec: Spec) -> None:
    with socket.socket() as one:
        address = (LOOPBACK, spec.ports["tcp4"])
        one.sendmsg([message(spec, "tcp_fast_open_sendmsg")], [], MSG_FASTOPEN, address)


@sends("Connect to a TCP listener with the first byte: TCP_FASTOPEN_CONNECT.", "namespaces")
def tcp_fast_open_option(spec: Spec) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        one.connect((LOOPBACK, spec.ports["tcp4"]))
        one.send(message(spec, "tcp_fast_open_option"))


@sends("Send a UDP datagram to the host by sendto.", "namespaces")
def udp4(spec: Spec) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.sendto(message(spec, "udp4"), (LOOPBACK, spec.ports["udp4"]))


@sends("Send a UDP datagram to the host by sendmsg.", "namespaces")
def udp4_sendmsg(spec: Spec) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.sendmsg([message(spec, "udp4_sendmsg")], [], 0, (LOOPBACK, spec.ports["udp4"]))


@sends("Send a UDP datagram to the host by connect and send.", "namespaces")
def udp4_connected(spec: Spec) -> None:
    _connect(socket.AF_INET, socket.SOCK_DGRAM, (LOOPBACK, spec.ports["udp4"]), message(spec, "udp4_connected"))


@sends("Send a UDP datagram to the host (IPv6).", "namespaces")
def udp6(spec: Spec) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.sendto(message(spec, "udp6"), (LOOPBACK6, spec.ports["udp6"]))


def _be_reached(spec: Spec, name: str, one: socket.socket) -> None:
    """Tell the process outside which port to knock at, and see whether it comes."""
    one.listen()
    aside, file = Path(spec.own, f"{name}.tmp"), Path(spec.own, f"knock-{name}")
    aside.write_text(str(one.getsockname()[1]))
    aside.rename(file)
    one.settimeout(COME_WITHIN_S)
    try:
        guest, _ = one.accept()
        if guest.recv(100) != spec.word.encode():
            raise Refused("somebody else came")
    except TimeoutError:
        raise Refused("nobody came") from None


@attempt("Listen on all addresses, and be reached from the host.", "namespaces")
def listen_everywhere(spec: Spec) -> None:
    with socket.socket() as one:
        one.bind(("0.0.0.0", 0))
        _be_reached(spec, "listen_everywhere", one)


@attempt("Listen without bind, and be reached from the host.", "namespaces")
def listen_without_bind(spec: Spec) -> None:
    with socket.socket() as one:
        _be_reached(spec, "listen_without_bind", one)


@attempt("Receive a UDP datagram from the host.", "namespaces")
def receive_udp(spec: Spec) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        Path(spec.own, "udp.tmp").write_text(str(one.getsockname()[1]))
        Path(spec.own, "udp.tmp").rename(Path(spec.own, "knock-receive_udp"))
        one.settimeout(COME_WITHIN_S)
        try:
            content = one.recv(100)
        except TimeoutError:
            raise Refused("nothing came") from None
        if content != spec.word.encode():
            raise Refused("something else came")


@sends("Connect to a unix socket of the host in a folder that it may read.")
def unix_path(spec: Spec) -> None:
    path = str(Path(spec.shared, "stream.sock"))
    _connect(socket.AF_UNIX, socket.SOCK_STREAM, path, message(spec, "unix_path"))


@sends("Send a datagram to a unix socket of the host by sendto.")
def unix_datagram(spec: Spec) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(message(spec, "unix_datagram"), str(Path(spec.shared, "datagram.sock")))


@sends("Send a datagram to a unix socket of the host from one end of a socket pair.")
def unix_from_pair(spec: Spec) -> None:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(message(spec, "unix_from_pair"), str(Path(spec.shared, "datagram.sock")))


@sends("The same by sendmsg.")
def unix_from_pair_sendmsg(spec: Spec) -> None:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = str(Path(spec.shared, "datagram.sock"))
    one.sendmsg([message(spec, "unix_from_pair_sendmsg")], [], 0, address)


@sends("The same by sendmmsg.")
def unix_from_pair_sendmmsg(spec: Spec) -> None:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    content = message(spec, "unix_from_pair_sendmmsg")
    address = struct.pack("=H108s", socket.AF_UNIX, os.fsencode(Path(spec.shared, "datagram.sock")))
    vector = IoVec(ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value, len(content))
    name = ctypes.create_string_buffer(address)
    header = (ctypes.c_uint64 * 8)(ctypes.addressof(name), len(address), ctypes.addressof(vector), 1)
    call("sendmmsg", one.fileno(), header, 1, 0)


@sends("Connect to a unix socket of its own, and change the address while it is being looked at.")
def unix_raced(spec: Spec) -> None:
    own, theirs = str(Path(spec.own, "raced.sock")), str(Path(spec.shared, "raced.sock"))
    addresses = [struct.pack("=H108s", socket.AF_UNIX, os.fsencode(path)) for path in (own, theirs)]
    place, until = ctypes.create_string_buffer(addresses[0]), time.monotonic() + RACE_S

    def change() -> None:
        while time.monotonic() < until:
            for address in addresses:
                ctypes.memmove(place, address, len(address))

    with socket.socket(socket.AF_UNIX) as here:
        here.bind(own)
        here.listen(4096)
        threading.Thread(target=change, daemon=True).start()
        while time.monotonic() < until:
            with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
                one.setblocking(False)
                checked(LIBC.connect(one.fileno(), place, len(addresses[0])), "connect")
                one.send(message(spec, "unix_raced"))


@sends("Connect to an abstract unix socket of the host.", "namespaces", "landlock")
def unix_abstract(spec: Spec) -> None:
    _connect(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{spec.word}", message(spec, "unix_abstract"))


@sends("Send a datagram to an abstract unix socket of the host.", "namespaces", "landlock")
def unix_abstract_datagram(spec: Spec) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(message(spec, "unix_abstract_datagram"), f"\0{spec.word}-datagram")


def _needs_another_device() -> str:
    """Where there is none but loopback, no packet can leave."""
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    if not names:
        raise Refused("no packet has where to go")
    return names[0]


@attempt("Send packets to a loopback address by way of another machine (IPV6_RTHDR).", "namespaces", "seccomp")
def route_option(spec: Spec) -> None:
    way = bytes((0, 4, ROUTE_OF_SEGMENTS, 1, 1, 0, 0, 0)) + bytes(16) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    with socket.socket(socket.AF_INET6) as one:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, way)  # set, and not connected
    _needs_another_device()


@attempt("Send packets to a loopback address by another device (SO_BINDTODEVICE).", "namespaces", "seccomp")
def device_option(spec: Spec) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _needs_another_device().encode())


FAMILIES = {
    "socket_vsock": ("Make a socket to the machine below (AF_VSOCK).", 40, socket.SOCK_STREAM, 0),
    "socket_uevent": ("Make a netlink socket for the kernel's device events.", 16, socket.SOCK_RAW, 15),
    "socket_audit": ("Make a netlink socket for the audit.", 16, socket.SOCK_RAW, 9),
    "socket_diag": ("Make a netlink socket that lists sockets.", 16, socket.SOCK_RAW, 4),
    "socket_generic": ("Make a generic netlink socket.", 16, socket.SOCK_RAW, 16),
    "socket_netfilter": ("Make a netlink socket for netfilter.", 16, socket.SOCK_RAW, 12),
    "socket_packet": ("Make a socket that sees whole packets (AF_PACKET).", 17, socket.SOCK_RAW, 0),
    "socket_icmp": ("Make a raw ICMP socket.", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "socket_alg": ("Make a socket to the kernel's ciphers (AF_ALG).", 38, socket.SOCK_SEQPACKET, 0),
    "socket_xdp": ("Make an AF_XDP socket.", 44, socket.SOCK_RAW, 0),
    "socket_bluetooth": ("Make a Bluetooth socket.", 31, socket.SOCK_RAW, 1),
    "socket_can": ("Make a CAN socket.", 29, socket.SOCK_RAW, 1),
    "socket_rds": ("Make an RDS socket.", 21, socket.SOCK_SEQPACKET, 0),
    "socket_tipc": ("Make a TIPC socket.", 30, socket.SOCK_RDM, 0),
}
RAW = ("socket_packet", "socket_icmp", "socket_xdp")


def _maker(name: str) -> None:
    tries, family, kind, protocol = FAMILIES[name]

    def make(spec: Spec) -> None:
        socket.socket(family, kind, protocol).close()  # made, and used for nothing

    # Raw sockets need a right that other walls take.
    add(name, make, tries, "seccomp", *(("namespaces", "uid") if name in RAW else ()))


for _name in FAMILIES:
    _maker(_name)
