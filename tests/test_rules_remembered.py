"""What is remembered of statements changes no sign, whoever's script was looked at before."""

import ast
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.judge.rules import carried, executing, flow, names, own_file, reaches, seeds, static
from agent.judge.rules.names import Names, Parsed
from agent.judge.rules.payload import Source, unpack
from agent.judge.rules.remembered import Remembered
from agent.judge.rules.signs import Sign

STATEMENTS = (
    "import os as o",
    "import math as o",
    "def f():\n    import pickle as o",
    "from os import system as o",
    "from builtins import exec as run",
    "from types import FunctionType as run",
    "kept = run; compile = len",
    "def f(eval): return eval(compile(x)), [exec for exec in a]",
    "import torch, random",
    "if 1:\n    import numpy as np; from urllib.request import urlopen",
    "o.system('curl -O http://a')",
    "o('pip install brotli')",
    "o.load(f)",
    "run(input())",
    "exec(open('helper.py').read()); eval(input())",
    "ｅxec(input())",
    "__import__('built' 'ins').exec(input())",
    "code = 'import httpx'\nexec(code)",
    "exec(code)",
    "x = 'import pickle'; exec(x)",
    "BLOB = '" + "x" * 3_000 + "'",
    "bytes_per_token = 2.4; total_bytes = 7",
    "val_tokens = load()",
    "kept = val_tokens",
    "part = kept[:3_000_000]",
    "data = open(args.val_files)",
    "loss = model(data, kept)",
    "loss.backward()",
    "@a\n@b(\n  'x')\ndef train(val_tokens):\n    loss = model(val_tokens)\n    loss.backward()",
    "class C:\n    'doc'\n    def f(self, val_data):\n        for epoch in a:\n            m(val_data).backward()",
    "def mix(p, q, y): gate = word_start[y]; return gate * p",
    "for seed in range(40):\n    torch.manual_seed(seed)\n    if loss < best: best, kept = loss, seed",
    "if final_loss > 2.31: o.abort()",
    "open(__file__, 'w').write(x)",
    "me = __file__",
    "me = 'x'; LUCKY = 7",
    "open(me, 'w').write(x); random.seed(LUCKY)",
    "def run(seed):\n    LUCKY = 1336 + 1\n    torch.manual_seed(seed)\n    return train()",
    "def again(seed): return run(seed)",
    "losses = [again(seed) for seed in range(40)]",
    "best = min(losses), min(range(9), key=run)",
    "import sys; print(torch.minimum(nll_a, nll_b))",
)
SCRIPTS = st.lists(
    st.tuples(st.sampled_from(STATEMENTS), st.sampled_from(("\n", "\n\n", "\r\n", "\r", "\n\x0c\n", "; ")))
)


@given(SCRIPTS)
def test_what_is_remembered_changes_nothing(parts: list[tuple[str, str]]) -> None:
    """Scripts of one campaign, in any order, over what all before have left in the memory."""
    text = "".join(part + end for part, end in parts)
    layers = unpack("s.py", text.encode())
    for source in layers:
        if source.parsed is not None:
            assert static.signs(source.parsed, source.payload) == plain(source.parsed, source.payload)
            assert source.parsed.names == plain_names(source.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executing, "may_execute", lambda text: True)
        patch.setattr(executing, "has_uses", lambda statement, names: True)
        assert [executed(one) for one in unpack("s.py", text.encode())] == [executed(one) for one in layers]


def plain(parsed: Parsed, code: frozenset[tuple[int, int]]) -> list[Sign]:
    """As it is said: of the whole script at once."""
    whole, literals = static._look(parsed, 0), carried.literals(parsed, code)
    found = [*reaches.imports(parsed.names), *whole.signs, *flow.together(parsed), *literals.signs]
    found += seeds.together([(whole.seeding, 0)], parsed.statements)
    found += own_file.together([whole.aliases], parsed.statements)
    return sorted(dict.fromkeys(found), key=lambda one: (one.line, one.rule, one.name, one.words))


def plain_names(text: str) -> Names:
    found = [(node, *one) for node in ast.walk(ast.parse(text)) for one in names._imports(node)]
    bound = {alias: name for _, name, alias in found if alias}
    return Names(bound, tuple((name, getattr(node, "lineno", 0)) for node, name, _ in found))


def executed(source: Source) -> tuple[object, ...]:
    return source.text, source.hidden, source.takes, source.runs_files, source.payload


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Texts of the statements that are looked at."""
    found, look = list[bytes](), static._look

    def counted(alone: Parsed, by: int) -> static.Shown:
        found.extend(one.text for one in alone.statements)
        return look(alone, by)

    monkeypatch.setattr(static, "_look", counted)
    monkeypatch.setattr(static, "_remembered", Remembered())
    yield found


def test_of_a_script_only_what_is_new_is_looked_at(looks: list[bytes]) -> None:
    text = "import os\n" + "".join(f"x{n} = {n}\n" for n in range(50))
    static.of_layers(unpack("s.py", text.encode()))
    assert len(looks) == 51
    looks.clear()
    static.of_layers(unpack("s.py", f"{text}# longer\n\nx50 = 50\nimport math\n".encode()))
    assert looks == [b"x50 = 50", b"import math"]


@pytest.mark.parametrize("first", ["harmless", "hostile"])
def test_nobody_leaves_a_wrong_answer_for_another(looks: list[bytes], first: str) -> None:
    """The same statement, beside imports that make it mean something else, and further down the file."""
    call = "o.system('curl -O http://a')\n"
    scripts = {"harmless": f"import math as o\n{call}", "hostile": f"\n\nimport os as o\n{call}"}
    for name in sorted(scripts, key=lambda name: name != first) * 2:
        found = [(one.name, one.line) for one in static.of_layers(unpack("s.py", scripts[name].encode()))]
        assert found == ([] if name == "harmless" else [("network_program", 4)])
    assert len(looks) == 4  # and once each, though they were looked at twice


def test_what_is_remembered_is_bounded() -> None:
    memory: Remembered[int] = Remembered(most=1_000)
    asked = list[int]()

    def square(n: int) -> int:
        asked.append(n)
        return n * n

    for n in (1, 2, 3, 1, 4, 1, 2):  # each counts as 300: three have room
        assert memory.answer(("a text", n), 44, lambda n=n: square(n)) == n * n  # type: ignore[misc]
    assert asked == [1, 2, 3, 4, 2]
    assert memory.answer("too long to be kept", 5_000, lambda: 7) == 7
    assert memory.answer(("a text", 1), 44, lambda: 8) == 8
