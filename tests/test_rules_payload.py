"""Scripts that carry their source compressed: unpacked as data, whatever is in them."""

import base64
import bz2
import gzip
import lzma
import random
import time
import tracemalloc
import zlib
from pathlib import Path

import brotli
import pytest

from agent.judge.rules import static
from agent.judge.rules.payload import MOST_BYTES, MOST_DEPTH, MOST_LAYERS, unpack
from trainer import pack

SOURCE = "import requests\nvalue = 1\n"
DATA = SOURCE.encode()
B64 = base64.b64encode(zlib.compress(DATA))
B85 = base64.b85encode(lzma.compress(DATA)).decode()


def layers(text: str | bytes) -> list[str]:
    return [one.text for one in unpack("s.py", text if isinstance(text, bytes) else text.encode())]


def test_our_own_packer_is_understood() -> None:
    script = (Path(__file__).parents[1] / "trainer" / "train_gpt.py").read_text("utf-8")
    packed = pack.pack(script)
    outer, inner = unpack("train_gpt.py", packed)
    assert inner.text.startswith("from __future__") and len(inner.text) > 20_000 and outer.hidden == inner.hidden == ()
    assert static.of_layers((outer, inner)) == []


@pytest.mark.parametrize("form", range(3))
def test_each_form_of_our_packer(form: int) -> None:
    wrapped = pack._wrap(pack._forms()[form], DATA)
    assert layers(wrapped)[1] == SOURCE
    assert [one.name for one in static.of_layers(unpack("s.py", wrapped))] == ["network_import"]


@pytest.mark.parametrize(
    "text",
    [
        f"import lzma as L,base64 as B\nexec(L.decompress(B.b85decode({B85!r})))",
        f"from lzma import decompress as d\nfrom base64 import b85decode\ns={B85!r}\nexec(d(b85decode(s)).decode())",
        f"exec(__import__('lzma').decompress(__import__('base64').b85decode('{B85}')))",
        f"import zlib,base64 as b\nexec(compile(zlib.decompress(b.b64decode({B64!r})),'x','exec'))",
        f"import bz2\nexec(bz2.decompress({bz2.compress(DATA)!r}))",
        f"import gzip\nexec(gzip.decompress({gzip.compress(DATA)!r}))",
        f"import brotli\nexec(brotli.decompress({brotli.compress(DATA)!r}))",
        f"import zlib\nexec(zlib.decompress(bytes.fromhex('{zlib.compress(DATA).hex()}'), wbits=15))",
        f"import zlib\nexec(zlib.decompress({zlib.compress(DATA)[:9]!r} + {zlib.compress(DATA)[9:]!r}))",
        f"if True:\n    exec({SOURCE!r})",
    ],
)
def test_the_usual_wrappers(text: str) -> None:
    assert layers(text)[1:] == [SOURCE]
    assert (22, "invalid") in [(one.rule, one.severity) for one in static.of_layers(unpack("s", text.encode()))]


def test_a_wrapper_in_a_wrapper() -> None:
    once = f"import zlib\nexec(zlib.decompress({zlib.compress(DATA)!r}))"
    twice = f"import zlib\nexec(zlib.decompress({zlib.compress(once.encode())!r}))"
    assert layers(twice) == [twice, once, SOURCE]
    endless = SOURCE
    for _ in range(8):
        endless = f"exec({endless!r})"
    assert len(layers(endless)) == 4


@pytest.mark.parametrize(
    "text",
    [
        f"exec('pass')\nexec({SOURCE!r})",
        f"def f():\n    exec('pass')\n    exec({SOURCE!r})",
        "exec('exec(\"pass\")')\nexec('import requests')",
        "eval(' \\t__import__(\"requests\")')",
        "from builtins import eval as e\ne('__import__(\"requests\")')",
    ],
)
def test_all_that_it_executes_is_looked_at(text: str) -> None:
    found = static.of_layers(unpack("s.py", text.encode()))
    assert [(one.severity, one.name) for one in found] == [("invalid", "network_import")]


def test_each_payload_is_looked_at_once() -> None:
    assert layers("exec('a = 1')\nexec('b = 2')\nexec('a = 1')")[1:] == ["a = 1", "b = 2"]


def test_what_is_too_much_to_be_read_is_hidden_code() -> None:
    deep = "a = 1"
    for _ in range(MOST_DEPTH):
        deep = f"exec({deep!r})"
    many = "".join(f"exec('a = {n}')\n" for n in range(MOST_LAYERS))
    wide = f"exec({'a' * 600!r})\nexec({'b' * 600!r})\n"
    for text, most, read in ((deep, 10_000, MOST_DEPTH), (many, 10_000, MOST_LAYERS), (wide, len(wide) + 1_000, 2)):
        found = unpack("s.py", text.encode(), most)
        assert len(found) == read and [len(one.hidden) for one in found if one.hidden] == [1]
    assert [one.hidden for one in unpack("s.py", wide.encode(), len(wide) + 1_200)] == [(), (), ()]


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        (b"# coding: utf-7\nx = 1  # +AAo-import requests\n", True),
        (b"\r# coding: utf-7\rx = 1  # +AAo-import requests\n", True),
        (b"exec(b'# coding: utf-7\\n# +AAo-import requests')", True),
        (b"# coding: mine\nx = 1\n", True),
        (b"x = 1\n# coding: utf-7\n", False),
        (b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", False),
        ("\ufeff# coding: utf-8\nx = '\xe9'\n".encode(), False),
    ],
)
def test_in_a_coding_that_is_not_known_a_comment_may_be_code(text: bytes, hides: bool) -> None:
    found = static.of_layers(unpack("s.py", text))
    assert [(one.severity, one.name) for one in found] == [("invalid", "hidden_code")] * hides


def test_a_payload_that_can_not_be_written_as_bytes_ends_nothing() -> None:
    assert len(unpack("s.py", b"exec('\\ud800')")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "exec(input())",
        "import base64\nexec(base64.b85decode(open('x').read() + ''))",
        "import zlib\nexec(zlib.decompress(b'nothing'))",
        "import zlib\ns = f()\nexec(s)",
        "import codecs\nexec(codecs.decode('vzcbeg erdhrfgf', 'rot13'))",
        "s = 'a'\ns = g(s)\nexec(s)",
    ],
)
def test_what_can_not_be_read_is_hidden(text: str) -> None:
    (only,) = unpack("s.py", text.encode())
    assert only.hidden and "only known when it runs" in only.hidden[0].words


def test_a_literal_beside_the_payload_is_no_part_of_it() -> None:
    """A wrapper may have one long literal, its source; not a second one."""
    noise = base64.b85encode(bytes(range(256)) * 200).decode()
    source = f"# {random.Random(1).randbytes(18_000).hex()}\nvalue = 1\n"
    blob = base64.b85encode(zlib.compress(source.encode(), 1)).decode()
    assert len(blob) > 20_000
    text = f"import zlib,base64\ns={blob!r}\nexec(zlib.decompress(base64.b85decode(s)))"
    assert static.of_layers(unpack("s", text.encode())) == []
    more = static.of_layers(unpack("s", f"{text}\nextra = {noise!r}\n".encode()))
    assert [(one.rule, one.severity) for one in more] == [(1, "invalid")]


def test_a_file_that_is_executed_is_named() -> None:
    (only,) = unpack("s.py", b"exec(open('train_gpt_human.py').read())")
    assert only.runs_files == ("train_gpt_human.py",) and only.hidden == ()


@pytest.mark.parametrize("how", ["zlib", "lzma", "bz2", "brotli", "gzip"])
def test_bombs_are_not_unpacked(how: str) -> None:
    zeros = bytes(3 * MOST_BYTES)
    packed = {
        "zlib": zlib.compress, "lzma": lzma.compress, "bz2": bz2.compress, "gzip": gzip.compress,
        "brotli": lambda data: brotli.compress(data, quality=1),
    }[how](zeros)  # fmt: skip
    (only,) = unpack("s.py", f"import {how}\nexec({how}.decompress({packed!r}))".encode())
    assert only.hidden


def test_what_is_no_python_says_so() -> None:
    assert unpack("s.py", b"\x00\xff")[0].why.startswith("it is no Python")
    assert unpack("s.py", b"x" * (MOST_BYTES + 1))[0].parsed is None
    assert [one.why != "" for one in unpack("s.py", b"exec('def f(')")] == [False, True]


# ------------------------------------------------------------ what a short script could make of itself

_BIG = MOST_BYTES - 100_000
_TOO_BIG = bz2.compress(bytes(MOST_BYTES + 1))
_WORK = {
    "many values": f"import zlib\nz = zlib.decompress({zlib.compress(bytes(_BIG))!r})\n"
    + "".join(f"a{n} = z + b'1'\n" for n in range(5_000)),
    "many calls": f"import bz2 as b\nd = {bz2.compress(bytes(_BIG))!r}\n" + "x = b.decompress(d)\n" * 5_000,
    "calls that fail": f"import bz2 as b\nd = {_TOO_BIG!r}\n" + "x = b.decompress(d)\n" * 5_000,
    "places of literals": "a0 = ''\n" + "".join(f"a{n + 1} = a{n} + ''\n" for n in range(8_000)),
}


@pytest.mark.parametrize("work", _WORK)
def test_a_short_script_makes_nobody_work_long_or_hold_much(work: str) -> None:
    script = _WORK[work].encode()
    assert len(script) < static.LONGEST
    unpack("warm.py", script[:1_000])
    tracemalloc.start()
    began = time.process_time()
    unpack("s.py", script)
    took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 15 and peak < 150e6  # where memory is counted everything takes several times as long


def test_what_is_worked_out_is_never_given_back() -> None:
    """A value that is small again, or a name that is bound anew, makes no room for more."""
    spent = f"import zlib\nz = zlib.decompress({zlib.compress(bytes(_BIG))!r})\n" + "z = z + b''\n" * 10
    assert unpack("s.py", f"exec({SOURCE!r})\n{spent}".encode())[0].hidden == ()
    late = unpack("s.py", f"{spent}exec('1' + '1')\n".encode())
    assert len(late) == 1 and "only known when it runs" in late[0].hidden[0].words
