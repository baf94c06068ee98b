"""Decoders that scripts unpack their source with, each with a bound on what it gives.

Takes bytes, a bound and the options of the call; gives bytes, or ValueError for what can't be decoded or is longer.
"""

import base64
import binascii
import lzma
import zlib
from collections.abc import Callable, Mapping

Decoder = Callable[[bytes, int, Mapping[str, object]], bytes]


def _zlib(data: bytes, most: int, options: Mapping[str, object]) -> bytes:
    bits = options.get("wbits", options.get("second", zlib.MAX_WBITS))
    work = zlib.decompressobj(bits if isinstance(bits, int) else zlib.MAX_WBITS)
    return _whole(work.decompress(data, most + 1), most)


def _gzip(data: bytes, most: int, _: Mapping[str, object]) -> bytes:
    return _whole(zlib.decompressobj(31).decompress(data, most + 1), most)


def _bz2(data: bytes, most: int, _: Mapping[str, object]) -> bytes:
    import bz2

    return _whole(bz2.BZ2Decompressor().decompress(data, most + 1), most)


def _lzma(data: bytes, most: int, options: Mapping[str, object]) -> bytes:
    form = options.get("format", options.get("second", lzma.FORMAT_AUTO))
    filters = options.get("filters", options.get("fourth"))
    if form == lzma.FORMAT_RAW and _filters_fit(filters):
        work = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, filters)  # type: ignore[arg-type]
    else:
        work = lzma.LZMADecompressor(form if isinstance(form, int) else lzma.FORMAT_AUTO, 1 << 28)
    return _whole(work.decompress(data, most + 1), most)


def _filters_fit(filters: object) -> bool:
    """A chain without a memory of its own to ask for."""
    if not isinstance(filters, list) or not 0 < len(filters) <= 4:
        return False
    return all(isinstance(one, dict) and _size(one.get("dict_size", 0)) <= 1 << 27 for one in filters)


def _size(value: object) -> int:
    return value if type(value) is int and value >= 0 else 1 << 62


def _brotli(data: bytes, most: int, _: Mapping[str, object]) -> bytes:
    import brotli

    work, parts, size = brotli.Decompressor(), [], 0
    feed = data
    while not work.is_finished():
        part = work.process(feed, output_buffer_limit=1 << 16)
        parts.append(part)
        size += len(part)
        if size > most:
            raise ValueError("too long")
        if not part and work.can_accept_more_data():
            raise ValueError("cut off")
        feed = b""
    return b"".join(parts)


def _zstd(data: bytes, most: int, _: Mapping[str, object]) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            return _whole(reader.read(most + 1), most)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _base(decode: Callable[[bytes], bytes]) -> Decoder:
    def decoded(data: bytes, most: int, _: Mapping[str, object]) -> bytes:
        try:
            return _whole(decode(data), most)
        except binascii.Error as error:
            raise ValueError(str(error)) from error

    return decoded


def _whole(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise ValueError("too long")
    return data


DECODERS: Mapping[str, Decoder] = {
    "zlib.decompress": _zlib,
    "gzip.decompress": _gzip,
    "bz2.decompress": _bz2,
    "lzma.decompress": _lzma,
    "brotli.decompress": _brotli,
    "zstandard.decompress": _zstd,
    "base64.b85decode": _base(base64.b85decode),
    "base64.a85decode": _base(base64.a85decode),
    "base64.b64decode": _base(base64.b64decode),
    "base64.decodebytes": _base(base64.decodebytes),
    "base64.b32decode": _base(base64.b32decode),
    "binascii.unhexlify": _base(binascii.unhexlify),
    "binascii.a2b_base64": _base(binascii.a2b_base64),
    "bytes.fromhex": _base(lambda data: bytes.fromhex(data.decode("ascii"))),
    "bytes": lambda data, most, _: _whole(data, most),
}
