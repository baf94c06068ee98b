"""Pack a training script into the file that runs and is counted: minified, compressed, self-extracting.

Takes the source; gives the bytes of a Python file that does the same. The same source gives the same bytes.
Run alone: `python -m trainer.pack train_gpt.py packed.py`.

Minifying never touches what other code can see: names of attributes, of arguments and of the module stay, and
so do annotations of decorated functions (Triton kernels and custom operators read them) and of class bodies.
A traceback shows lines of the minified text, which is also what `inspect.getsource` finds; the readable file
is the one that was packed.
"""

import ast
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agent.errors import EditError, UserError

NAME = "train_gpt.py, minified"
_PRESET = 9 | 1 << 31  # lzma.PRESET_EXTREME
# What a string literal can't hold as it is. A zero byte is not allowed in source at all.
_ESCAPES = {
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    0: "\\x00",
}


class Form(NamedTuple):
    """One way to compress, and what undoes it: statements that turn the bytes `s` into text."""

    imports: str
    extract: str
    compress: Callable[[bytes], bytes]


def pack(source: str) -> bytes:
    """The smallest self-extracting form of a script. EditError if it is no Python."""
    text = minify(source)
    return min((_wrap(form, text.encode()) for form in _forms()), key=len)


def minify(source: str) -> str:
    """The same program with short local names, and without comments, docstrings and most annotations."""
    import python_minifier

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise EditError(f"the script is no Python: {error}") from error
    _drop_annotations(tree)
    plain = ast.unparse(tree)
    keep = python_minifier.RemoveAnnotationsOptions(
        remove_variable_annotations=False,
        remove_return_annotations=False,
        remove_argument_annotations=False,
        remove_class_attribute_annotations=False,
    )
    try:
        return python_minifier.minify(
            plain, remove_literal_statements=True, remove_annotations=keep, hoist_literals=False
        )
    except python_minifier.UnstableMinification:
        return plain  # larger, and right


def _drop_annotations(tree: ast.Module) -> None:
    """Annotations of functions that nothing decorates: nobody reads them at run time."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.decorator_list:
            continue
        node.returns = None
        arguments = node.args
        extra = [item for item in (arguments.vararg, arguments.kwarg) if item is not None]
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra):
            argument.annotation = None


def _forms() -> tuple[Form, ...]:
    import brotli

    raw = "lzma.decompress(s,3,None,[{'id':33,'dict_size':1<<20}])"
    return (
        Form("zlib", "zlib.decompress(s)", lambda data: zlib.compress(data, 9)),
        Form("lzma", raw, _lzma),
        Form("brotli", "brotli.decompress(s)", lambda data: bytes(brotli.compress(data, quality=11, lgwin=24))),
    )


def _lzma(data: bytes) -> bytes:
    import lzma

    chain = {"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": 1 << 20, "lc": 3, "lp": 0, "pb": 0}
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[chain])


def _wrap(form: Form, text: bytes) -> bytes:
    """A file in Latin-1, so that the compressed bytes can stand in a string almost as they are."""
    literal = form.compress(text).decode("latin-1").translate(_ESCAPES)
    return (
        "#coding:latin1\n"
        f"import {form.imports},sys,linecache as n\n"
        f's="{literal}".encode("latin1")\n'
        f"s={form.extract}.decode()\n"
        f'n.cache["{NAME}"]=len(s),None,s.splitlines(1),"{NAME}"\n'
        'sys.excepthook=lambda*a:__import__("traceback").print_exception(*a)\n'
        f'exec(compile(s,"{NAME}","exec"))\n'
    ).encode("latin-1")


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print("usage: python -m trainer.pack SCRIPT PACKED", file=sys.stderr)
        return UserError.exit_code
    source, target = map(Path, argv)
    try:
        packed = pack(source.read_text("utf-8"))
        target.write_bytes(packed)
    except (OSError, UnicodeDecodeError, EditError) as error:
        print(f"{source}: {error}", file=sys.stderr)
        return UserError.exit_code
    print(f"{source}: {source.stat().st_size} bytes, packed {len(packed)} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
