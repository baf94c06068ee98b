"""Signs in hostile text: it is looked at within seconds, hides nothing by its length or depth, and is never run."""

import ast
import os
import time
import zlib
from pathlib import Path

import pytest

from agent.judge.rules import static
from agent.judge.rules.payload import unpack
from tests.signs import told


def test_any_text_is_looked_at_within_seconds() -> None:
    deep = "x = " + "-" * 5_000 + "1"
    nested = "\n".join(" " * n + "for seed in a:" for n in range(90)) + "\n" + " " * 90 + "b()\n"
    traps = [
        deep,
        nested + (" " * 90 + "torch.manual_seed(seed)\n") * 2_000,
        "x = " + "(" * 90 + "1" + ")" * 90,
        "min(" * 80 + "loss, loss" + ")" * 80,
        "gate = " + "a[" * 80 + "y" + "]" * 80,
        "a.b" * 20_000,
        "val_x = val_x\n" * 4_000,
        "if loss > 1: exit()\n" * 2_000,
        "import os\n" * 8_000,
        "def f():\n" + " a()  # b\n" * 39_000,
        "def f():\n" + " (a, #\n )\n" * 38_000,
        "x = exec" + ".exec" * 3_000,
        "".join(f"def f{n}(a):\n return f{n + 1}(a)\n" for n in range(9_000)) + "min(b, key=f0)\n",
        "".join(f"def f{n}(a):\n random.seed(a); fit(f0(a))\n" for n in range(5_000)) + "min(b, key=f0)\n" * 5_000,
        "me = __file__\n" * 6_000 + "open(me, 'w')\n" * 9_000,
        "LUCKY = 7\n" * 6_000 + "random.seed(LUCKY)\n" * 9_000,
        "def f():\n" + " x = 1\n" * 50_000,
        "".join(f"{' ' * n}def f{n}(a, seed=b):\n" for n in range(90)) + " " * 90 + "seed = a; " * 9_000 + "pass\n",
        "exec(a" + "".join(f"[b for b in c{n}" for n in range(60)) + "]" * 60 + ")",
        "x = " + "[exec for b in " * 60 + "c" + "]" * 60,
        "__import__(" + "'a' + " * 900 + "'b')",
        "def f():\n" + " exec('a')\n" * 20_000,
        "import os\n" + "eval(os.environ['a'])\n" * 15_000,
        "\x00",
        "\ud800 = 1",
        "def f(",
        "x" * 500_000,
        "def eval_ttt(val_tokens):\n" + " val_tokens.backward()\n" * 17_000,
        "".join(f"x{n} = f{'()' * 900}\n" for n in range(210)),
        "".join(f"x{n} = {'min(a_loss, ' * 85}loss{')' * 85}\n" for n in range(350)),
    ]
    for trap in traps:
        began = time.process_time()
        static.of_text(trap)
        assert time.process_time() - began < 4, trap[:40]
    assert [(one.severity, one.name) for one in static.of_text("y" * 500_000)] == [("invalid", "too_long")]


def _packed(source: str) -> str:
    return f"import zlib\nexec(zlib.decompress({zlib.compress(source.encode(), 9)!r}))\n"


CALLS = "".join(f"f{n}()\n" for n in range(300_000))


@pytest.mark.parametrize(
    "text", [CALLS, _packed("f()\n" * 300_000), "".join(f"exec('f({n})')\n" for n in range(5_000))]
)
def test_nothing_is_hidden_by_how_much_there_is(text: str) -> None:
    """A short script that unpacks a long one is a long one; and either is refused, and soon."""
    static.of_text("import zlib\n")
    began = time.process_time()
    found = static.of_text(text)
    assert time.process_time() - began < 4
    assert {(24, "invalid")} == {(one.rule, one.severity) for one in found}


def test_a_persons_own_long_script_is_looked_at_whole() -> None:
    long = f"# {'x' * static.LONGEST}\n"
    assert len(_packed(long)) < 10_000
    for own in (long, _packed(long)):
        added = static.new(own, f"{own}import requests\n")
        assert [(one.severity, one.name) for one in added] == [("invalid", "network_import")]
    assert [one.name for one in static.new(_packed(long), _packed(f"{long}import requests\n"))] == ["network_import"]
    added = static.new("x = 1\n", f"{long}import requests\n")
    assert [(one.severity, one.name) for one in added] == [("invalid", "too_long")]
    assert [one.name for one in static.new(long, "y" * (static.LONGEST_OWN + 1))] == ["too_long"]


def test_letters_of_several_bytes_take_no_room_from_what_is_unpacked() -> None:
    text = "# " + "\N{SNOWMAN}" * (static.LONGEST - 1_000) + "\n" + _packed("import requests\n")
    assert ("invalid", "network_import") in {(one.severity, one.name) for one in static.of_text(text)}


def test_what_is_executed_and_is_no_python_is_for_a_person() -> None:
    assert told("exec('def f(')") == [(24, "flag", "no_python")]


@pytest.mark.parametrize(
    "bomb",
    [
        "".join(f"x{n} = f{'()' * 900}\n" for n in range(4)),
        f"f{'()' * 800}[0] = 5\n",  # its target can't be written out
        f"val_x = val_tokens\nfor epoch{'.a' * 950} in b: pass\n",
    ],
    ids=["many", "one", "for"],
)
def test_what_is_nested_deeply_hides_nothing_else(bomb: str) -> None:
    text = "import requests\nimport torch\ntorch.hub.load(a)\nexec(input())\nBLOB = '" + "x" * 20_000 + "'\n"
    whole = {(one.rule, one.severity, one.name) for one in static.of_text(text)}
    assert {name for _, severity, name in whole if severity == "invalid"} == {
        "network_import", "network_call", "hidden_code", "long_literal",
    }  # fmt: skip
    for bombed in (text + bomb, bomb + text):
        assert set(told(bombed)) == whole | {(24, "flag", "too_deep")}
    hides_in = bomb.replace("f()", "__import__('httpx')()").replace("b: pass", "__import__('httpx'): pass")
    assert (22, "invalid", "network_import") in told(hides_in)


def test_what_is_nested_deeply_hides_nothing_beside_it() -> None:
    bombed = f"import torch\ndef main():\n    f{'()' * 800}[0] = 5\n    torch.hub.load(a)\nmain()\n"
    assert set(told(bombed)) == {(22, "invalid", "network_call"), (24, "flag", "too_deep")}


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"import os\nexec(\"open({str(mark)!r}, 'w')\")\nopen({str(mark)!r}, 'w')\n"
    unpack("x", text.encode())
    static.of_text(text)
    assert not os.path.lexists(mark)
    assert isinstance(ast.parse(text), ast.Module)
