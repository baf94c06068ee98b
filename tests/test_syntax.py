"""Parsing: no text twice, no statement that is known, and the same hashes as of the whole tree."""

import ast
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.loop import Loop
from agent.script import syntax
from agent.script.syntax import NotParsed
from tests.e2e import world

LONG = (Path(__file__).parent.parent / "trainer" / "train_gpt.py").read_text("utf-8")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "_scripts", OrderedDict())
    monkeypatch.setattr(syntax, "_statements", type(syntax._statements)())


def counting(monkeypatch: pytest.MonkeyPatch, name: str) -> Counter[object]:
    """How often a function of `ast` is called, by its first argument."""
    real: Callable[..., Any] = getattr(ast, name)
    calls: Counter[object] = Counter()

    def counted(first: Any, *args: Any, **more: Any) -> Any:
        calls[first.decode() if isinstance(first, bytes) else first] += 1
        return real(first, *args, **more)

    monkeypatch.setattr(ast, name, counted)
    return calls


@pytest.mark.parametrize("planner", ["scripted:.ideas.jsonl", "knobs"])
def test_a_campaign_parses_no_text_twice_for_one_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planner: str
) -> None:
    root = world.make_workspace(tmp_path / "work")
    ideas = [
        world.idea("wider", ('"width": 4', '"width": 8')),
        world.idea("free", ('"crash": 0', '"crash": 0, "unused": 1'), ("print(KNOBS)", "print(eval('KNOBS'))")),
        world.idea("no Python", ("def main() -> None:", "def main( -> None:")),
        world.idea("a better rate", ('"rate": 0.10', '"rate": 0.20')),
    ]
    world.write_ideas(root, ideas)
    parses = counting(monkeypatch, "parse")
    setting = world.open_campaign(root, planner=planner, budget_hours=0.3)
    Loop(setting).run()
    with setting.store.read() as reads:
        ran = [idea for idea in reads.proposals(setting.campaign.id) if idea.commit]
    ours = {text: n for text, n in parses.items() if "KNOBS = " in str(text)}  # libraries parse what is theirs
    assert len(ran) > 3
    assert len(ours) > 3
    # Once to see what it changes, once to look for signs of a broken rule. What can't be parsed is not remembered.
    assert max(n for text, n in ours.items() if "main( ->" not in text) <= 2


def test_of_a_long_script_only_what_is_new_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    before = syntax.read("train.py", LONG)
    dumps = counting(monkeypatch, "dump")
    after = syntax.read("train.py", LONG + "\nimport fcntl\n")
    assert dumps.total() == 1
    assert len(after.statements) == len(before.statements) + 1
    assert syntax.risks(LONG, LONG + "\nimport fcntl\n") == ["adds import fcntl"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "MOST_CHARACTERS", 3 * len("x = 1000"))
    for n in range(1000, 1010):
        syntax.read("train.py", f"x = {n}")
    assert list(syntax._scripts) == ["x = 1007", "x = 1008", "x = 1009"]
    assert len(syntax._statements) == 3
    monkeypatch.setattr(syntax, "MOST_SCRIPTS", 2)
    syntax.read("train.py", "x = 1008")  # had again, so it stays longer
    syntax.read("train.py", "x")
    assert list(syntax._scripts) == ["x = 1008", "x"]
    syntax.read("train.py", "x" * 100)  # too long to be remembered beside others, and read all the same
    assert list(syntax._scripts) == ["x" * 100]
    assert len(syntax._statements) == 1  # those of forgotten scripts are gone


PARTS = (
    "x = 1",
    "x = 2",
    "é = 'ü'",
    "'a docstring'",
    "f()",
    "@a\n@b(\n1)\nclass C:\n  'doc'\n  def f(self):\n    '''d\r\n\x0c\x85\u2028'''",
    "@a\nclass C:\n  def f(self):\n    '''d\r\n\x0c\x85\u2028'''\n    x = u'1'",
    "x = '''\r\n'''",
    "x = '''\r\u2028'''; y = '''\n'''",
    "if 1: x; y",
    "if 1:\n  x\nelse:\n  'doc'",
    "async def f(): 'doc'",
    "match x:\n  case 1: 'doc'",
    "@a\ndef f():\n  pass",
    "@b\ndef f():\n  pass",
    "# a comment \x0c\u2028",
    "x = (1,\n  2)",
    "x = 1 \\\n + 1",
    "\x0cx = 1",
)


@given(st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from((";", "\n", "\r", "\r\n", "\n\x0c\n", " ; ")))))
def test_a_hash_is_of_the_whole_tree(parts: list[tuple[str, str]]) -> None:
    text = "".join(part + end for part, end in parts)
    try:
        tree = ast.parse(text)
    except SyntaxError:
        with pytest.raises(NotParsed):
            syntax.digest("train.py", text)
        return
    assert syntax.digest("train.py", text) == hashlib.sha256(plain(tree).encode()).hexdigest()


@pytest.mark.parametrize("text", ["", "'doc'", "# no statement", LONG])
def test_hashes_stay_what_stores_hold(text: str) -> None:
    assert syntax.digest("train.py", text) == hashlib.sha256(plain(ast.parse(text)).encode()).hexdigest()


def plain(tree: ast.Module) -> str:
    """The normal form as it was first written: of the whole tree at once."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body:
                kept = [one for one in body if not (isinstance(one, ast.Expr) and _is_text(one.value))]
                setattr(node, name, kept or [ast.Pass()])
        if isinstance(node, ast.Constant):
            node.kind = None
    return ast.dump(tree)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_whoever_comes_next_needs_not_parse_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse

    def counted(text: str, **more: str) -> ast.Module:
        parsed.append(text)
        return parse(text, **more)

    monkeypatch.setattr(ast, "parse", counted)
    text = "never_seen_before = 1\n"
    syntax.read("a.py", text)
    first, second = syntax.tree_of(text), syntax.tree_of(text)
    assert parsed == [text, text] and first is not second  # a tree is given away once: its owner may change it
    syntax.read("a.py", "another = 1\n")
    syntax.read("a.py", "a_third = 1\n")
    assert list(syntax._trees) == ["a_third = 1\n"]  # one, at most
    syntax.read("a.py", long := f"x = '{'y' * syntax.KEPT}'\n")
    assert not syntax._trees and syntax.tree_of(long).body
