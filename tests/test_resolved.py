"""What a script comes to: the same for what must do the same, and for nothing else; and nothing is executed."""

import ast
import sysconfig
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.script import resolved
from agent.script.syntax import NotParsed, read, resolve

GIVEN, TABLES = frozenset({"SET"}), frozenset({"TINY"})


def comes_to(text: str) -> str:
    return resolve("train.py", text, GIVEN, TABLES)


SAME = [
    ("x = 2 * 512", "x = 1024"),
    ("x = 1 << 20", "x = 1024 ** 2"),
    ("x = f(-(3))", "x = f(1 - 4)"),
    ("x = 0.1 + 0.2", "x = 0.30000000000000004"),
    ("x = 1e-3", "x = 0.001"),
    ("x = 7 // 2 + 7 % 2", "x = 4"),
    ("def f(n=60 * 60):\n    return n", "def f(n=3600):\n    return n"),
    ("x = 'a' + \"b\" 'c'", "x = 'abc'"),
    ("import os\nx = os.environ.get('SET', 5)", "import os\nx = os.environ.get('SET', 6)"),
    ("import os\nx = int(os.getenv('SET', '5'))", "import os\nx = int(os.getenv('SET', '50' + '0'))"),
    ("import os\nx = os.environ.get('SET', 5)", "import os\nx = os.environ.get('SET')"),
    ("import os\nx = os.environ.get('OTHER', 5 * 2)", "import os\nx = os.environ.get('OTHER', 10)"),
    ('TINY = {"a": 1, "b": 2}', 'TINY = {"b": 2, "a": 1}'),
    ('TINY: dict = {"a": 1, "b": [2, 3]}', 'TINY: dict = {"b": [2, 6 / 2 - 0.0], "a": 1}'.replace("6 / 2 - 0.0", "3")),
]
DIFFERENT = [
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = True"),
    ("x = 4 / 2", "x = 2"),
    ("x = 0.0", "x = -0.0"),
    ("x = 2 * n", "x = n * 2"),
    ("x = '1'", "x = 1"),
    ("x = 1 / 0", "x = 2 / 0"),
    ("x = True + 1", "x = 2"),
    ("f(a=1, b=2)", "f(b=2, a=1)"),  # a callee may look at their order
    ('LAYERS = {"a": 1, "b": 2}', 'LAYERS = {"b": 2, "a": 1}'),  # and be built in it
    (
        'def f():\n    TINY = {"a": 1, "b": 2}\n    return TINY',
        'def f():\n    TINY = {"b": 2, "a": 1}\n    return TINY',
    ),
    ('TINY = {"a": 1, "a": 2}', 'TINY = {"a": 2, "a": 1}'),  # the last one counts
    ('TINY = {"a": 1, **more, "b": 2}', 'TINY = {"b": 2, **more, "a": 1}'),
    ("TINY = {1: 1, 2: 2}", "TINY = {2: 2, 1: 1}"),
    ("import os\nx = os.environ.get('OTHER', 5)", "import os\nx = os.environ.get('OTHER', 6)"),
    ("import os\nx = os.environ.get('SET', f(5))", "import os\nx = os.environ.get('SET', f(6))"),
    ("import os\nx = os.environ.get(name, 5)", "import os\nx = os.environ.get(name, 6)"),
    ("import os\nx = os.environ.get('SET', 5)", "import os\nx = os.environ.get('OTHER', 5)"),
    ("x = table.get('SET', 5)", "x = table.get('SET', 6)"),
    ("x = mine.environ.get('SET', 5)", "x = mine.environ.get('SET', 6)"),
    ('x = "\\1SET\\2 5\\3"', 'x = "\\1SET\\2 6\\3"'),  # marks that a script writes itself
    ("x = 10 ** 400", "x = 10 ** 401"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_must_do_the_same(one: str, other: str) -> None:
    assert comes_to(one) == comes_to(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_may_do_something_else(one: str, other: str) -> None:
    assert comes_to(one) != comes_to(other)


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['SET'] = '7'",
        "del os.environ['SET']",
        "os.environ.pop('SET')",
        "os.environ.update(SET='7')",
        "os.putenv('SET', '7')",
        "main(os.environ)",
        "from os import environ\nenviron['SET'] = '7'",
        "class os: environ = {}",
        "os = mine",
        "import mine as os",
        "from mine import *",
        "def f(os): pass",
    ],
)
def test_defaults_count_where_the_environment_may_have_been_changed(line: str) -> None:
    one, other = (f"import os\n{line}\nx = os.environ.get('SET', {n})" for n in (5, 6))
    assert comes_to(one) != comes_to(other)


@pytest.mark.parametrize("line", ["import os.path", "y = 'SET' in os.environ", "y = os.environ['RANK']", "y.get(os)"])
def test_looking_at_the_environment_changes_nothing(line: str) -> None:
    one, other = (f"import os\n{line}\nx = os.environ.get('SET', {n})" for n in (5, 6))
    assert comes_to(one) == comes_to(other)


def test_text_without_constants_to_work_out_is_the_dump_itself() -> None:
    """So nothing of a tree is overlooked."""
    folder = Path(sysconfig.get_path("stdlib"))
    texts = [
        (folder / f"{name}.py").read_text("utf-8") for name in ("ast", "enum", "dataclasses", "typing", "asyncio/tasks")
    ]
    statements = [node for text in texts for node in ast.parse(text).body]
    special = (ast.UnaryOp, ast.BinOp, ast.Dict)
    plain = [node for node in statements if not any(isinstance(part, special) for part in ast.walk(node))]
    assert len(plain) > 100
    assert [resolved.of(node) for node in plain] == [ast.dump(node) for node in plain]


numbers = st.recursive(
    st.integers(0, 9).map(str) | st.sampled_from(["0.5", "1e3", "'a'"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<<"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        )
        | inner.map(lambda part: f"(-{part})")
    ),
    max_leaves=6,
)


@given(numbers)
def test_what_is_worked_out_is_what_python_works_out(text: str) -> None:
    found = resolved.of(ast.parse(text).body[0])
    try:
        value = eval(compile(ast.parse(text, mode="eval"), "", "eval"))
    except Exception:
        value = None
    if found.startswith("Expr(value=Constant("):
        assert found == f"Expr(value=Constant(value={value!r}))"
    elif isinstance(value, int) and abs(value) < 1 << 64 and "'" not in text:
        pytest.fail(f"{text} was not worked out: {found}")


@pytest.mark.parametrize(
    "bomb",
    ["x = 9 ** 9 ** 9 ** 9", "x = 1 << 10 ** 9", "x = " + "+".join(["'aaaaaaaaaaaaaaaa'"] * 400), "x = 2.0 ** 5000"],
)
def test_arithmetic_is_bounded(bomb: str) -> None:
    start = time.monotonic()
    assert len(resolved.of(ast.parse(bomb).body[0])) < 100_000
    assert time.monotonic() - start < 0.5


def test_a_whole_number_too_long_to_be_written_is_refused() -> None:
    with pytest.raises(NotParsed, match="too many digits"):
        read("train.py", "x = 0x" + "f" * 10_000)
