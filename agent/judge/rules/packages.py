"""Signs that a script reads the packages that it runs with, as text: what it learns there counts for nothing.

Takes a parsed script; gives `Sign`s. A process that scores can read what it imports, documentation strings included,
and on a track of documentation prose that is training data. No wall can tell reading from importing: a person looks.
"""

import ast
from collections.abc import Iterator

from agent.judge.rules.names import Parsed
from agent.judge.rules.signs import Sign

_READS = (
    "inspect.getsource", "inspect.getsourcelines", "inspect.getsourcefile", "inspect.getdoc", "inspect.getcomments",
    "pydoc", "pydoc_data", "pkgutil", "linecache", "importlib.resources", "importlib.metadata.files",
    "importlib.metadata.distribution", "importlib.metadata.distributions", "importlib.util.find_spec", "runpy",
    "site.getsitepackages", "site.getusersitepackages", "sysconfig.get_path", "sysconfig.get_paths", "modulefinder",
)  # fmt: skip
_SAY_WHERE = frozenset(("__doc__", "__file__", "__path__", "__spec__"))
_PLACES = ("site-packages", "dist-packages", "lib/python", "share/doc", "share/dict", "share/man", "pydoc_data")


def signs(parsed: Parsed) -> Iterator[Sign]:
    own = {name.split(".")[0] for name, _ in parsed.names.imported} | parsed.names.bound.keys()
    for node in parsed.nodes:
        what = ""
        if isinstance(node, ast.Call):
            name = parsed.names.dotted(node.func)
            what = name if any(name == one or name.startswith(f"{one}.") for one in _READS) else ""
        elif isinstance(node, ast.Attribute) and node.attr in _SAY_WHERE:
            what = ast.unparse(node)[:60] if _root(node) in own else ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            what = next((one for one in _PLACES if one in node.value[:300]), "")
        if what:
            words = f"it looks into the packages that it runs with ({what}): text from there is in no artifact"
            yield Sign(22, "flag", "reads_packages", words, getattr(node, "lineno", 0))


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
