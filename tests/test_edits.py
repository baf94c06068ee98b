"""Edits: what applies, what is refused and with which words, and that nothing is ever applied by half."""

import difflib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import EditError
from agent.planner.edits import apply, make_edits
from agent.planner.unified import recounted

PATH = "train.py"
TEXT = "a = 1\nb = 2\nc = 3\n\ndef f(x):\n    y = x\n    return y\n\nb = 2\n"


def block(old: str, new: str, path: str = PATH) -> str:
    return f"{path}\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"


def edited(edits: str, text: str = TEXT) -> str:
    return apply(edits, {PATH: text}, [PATH])[PATH]


def refusal(edits: str, text: str = TEXT, editable: tuple[str, ...] = (PATH,)) -> str:
    files = {PATH: text, "judge.py": "secret = 1\n"}
    before = dict(files)
    with pytest.raises(EditError) as caught:
        apply(edits, files, editable)
    assert files == before
    return str(caught.value)


def test_a_block_replaces_exactly_its_lines() -> None:
    assert edited(block("c = 3", "c = 4\nd = 5")) == TEXT.replace("c = 3\n", "c = 4\nd = 5\n")


def test_a_path_is_optional_when_one_file_is_editable_and_decoration_is_allowed() -> None:
    bare = "I will change c.\n\n```python\n<<<<<<< SEARCH\nc = 3\n=======\nc = 4\n>>>>>>> REPLACE\n```\n"
    wanted = TEXT.replace("c = 3", "c = 4")
    assert edited(bare) == wanted
    assert edited("**`./train.py`**\n" + bare.split("\n\n", 1)[1]) == wanted


def test_several_blocks_apply_to_the_text_as_it_was() -> None:
    both = block("a = 1", "a = 10") + block("c = 3", "c = 30")
    assert edited(both) == TEXT.replace("a = 1", "a = 10").replace("c = 3", "c = 30")
    assert "block 1 writes" in refusal(block("a = 1", "z = 9") + block("z = 9", "z = 8"))


def test_all_or_none() -> None:
    text = refusal(block("a = 1", "a = 10") + block("zz = 3", "zz = 4"))
    assert "None of the 2 edits was applied" in text
    assert "block 2" in text
    assert "block 1" not in text


def test_two_matches_are_named_by_line() -> None:
    text = refusal(block("b = 2", "b = 3"))
    assert "matches 2 times" in text
    assert "lines 2, 9" in text


def test_a_near_miss_shows_the_lines_meant() -> None:
    text = refusal(block("def f(x):\n    y = x + 1\n    return y", "pass"))
    assert "Did you mean these lines" in text
    assert "!     6 |     y = x" in text
    assert "      7 |     return y" in text


def test_what_is_there_already_is_said_so() -> None:
    assert "already applied: lines 3 to 4" in refusal(block("zz = 3", "c = 3\n"))
    assert "changes nothing" in refusal(block("c = 3", "c = 3"))


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (block("secret = 1", "secret = 2", "judge.py"), "not editable: judge.py; editable are train.py"),
        (block("a = 1", "a = 2", "/etc/passwd"), "not editable: /etc/passwd"),
        (block("a = 1", "a = 2", "x/../train.py"), "not editable: x/../train.py"),
        (block("a = 1", "a = 2", "trian.py"), "Did you mean 'train.py'?"),
        (block("", "new = 1"), "SEARCH part is"),
        ("<<<<<<< SEARCH\nc = 3\n=======\nc = 4\n", "block 1: is cut off: it has no `>>>>>>> REPLACE`"),
        ("<<<<<<< SEARCH\nc = 3\n>>>>>>> REPLACE\n", "where `=======` was due"),
        ("c = 4\n>>>>>>> REPLACE\n", "without its `<<<<<<< SEARCH`"),
        ("please set c to 4", "no edits found"),
        ("", "no edits found"),
        (block("a = 1\nb = 2", "a = 3") + block("b = 2\nc = 3", "c = 5"), "block 1 and block 2 of train.py"),
        (block("c = 3", "c = \0"), "characters that no text file can hold"),
        (block("c = 3", "c = '\ud800'"), "characters that no text file can hold"),
        (block("c = 3", "c = 4") * 201, "201 edits at once"),
        ("x" * 1_000_001, "at most 1,000,000"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(edits: str, words: str) -> None:
    assert words in refusal(edits)


def test_a_block_without_a_path_needs_one_when_two_files_are_editable() -> None:
    bare = "<<<<<<< SEARCH\nc = 3\n=======\nc = 4\n>>>>>>> REPLACE\n"
    assert "names no file" in refusal(bare, editable=(PATH, "judge.py"))


def test_indentation_is_mended_only_if_it_is_uniform_and_unique() -> None:
    assert edited(block("y = x\nreturn y", "y = 2 * x\nif y:\n    return y")) == TEXT.replace(
        "    y = x\n    return y", "    y = 2 * x\n    if y:\n        return y"
    )
    over = block("        y = x\n        return y", "        return x")
    assert edited(over) == TEXT.replace("    y = x\n    return y", "    return x")
    assert "not in train.py" in refusal(block("        y = x\n        return y", "return x"))
    assert "not in train.py" in refusal(block("y = x\n  return y", "return x"))
    assert "not in train.py" in refusal(block("y = x\nreturn y", 'y = """\ntext"""\nreturn y'))
    twice = "if a:\n    go()\nelse:\n        go()\n"
    assert "matches 2 times" in refusal(block("go()", "stop()"), twice)


def test_trailing_blanks_do_not_matter_where_the_place_is_plain() -> None:
    assert edited(block("c = 3  ", "c = 4")) == TEXT.replace("c = 3", "c = 4")


def test_line_endings_stay() -> None:
    assert edited(block("b = 2\nc = 3", "b = 2\nc = 4\nd = 5"), "b = 2\r\nc = 3\r\ne = 1") == (
        "b = 2\r\nc = 4\r\nd = 5\r\ne = 1"
    )
    assert edited(block("b", "c").replace("\n", "\r\n"), "a\nb") == "a\nc"
    assert edited(block("a\nb", "a\nb\nc"), "a\nb") == "a\nb\nc"
    assert edited(block("a\nb", "a"), "a\nb") == "a"


def test_a_block_may_quote_markers_with_longer_ones() -> None:
    edits = "<<<<<<<<< SEARCH\nx\n=======\n=========\ny\n=======\n>>>>>>>>> REPLACE\n"
    assert edited(edits, "x\n=======\nz\n") == "y\n=======\nz\n"


DIFF = """--- a/train.py
+++ b/train.py
@@ -2,3 +2,3 @@
 b = 2
-c = 3
+c = 4
\x20
"""


def test_a_unified_diff_applies_with_or_without_numbers() -> None:
    wanted = TEXT.replace("c = 3", "c = 4")
    assert edited(DIFF) == wanted
    assert edited(DIFF.replace("@@ -2,3 +2,3 @@", "@@ @@")) == wanted
    assert edited("```diff\n" + DIFF + "```\n") == wanted
    assert edited(DIFF.replace("-2,3 +2,3", "-60,3 +60,3")) == wanted


def test_a_diff_says_which_of_two_places_by_its_line_only() -> None:
    diff = "--- a/train.py\n+++ b/train.py\n@@ -9 +9 @@\n-b = 2\n+b = 7\n"
    assert edited(diff) == TEXT[: TEXT.rindex("b = 2")] + "b = 7\n"
    assert "matches 2 times" in refusal(diff.replace("-9 +9", "-5 +5"))


@pytest.mark.parametrize(
    ("diff", "words"),
    [
        (DIFF.replace("-2,3 +2,3", "-2,5 +2,5"), "cut off or miscounted"),
        (DIFF.replace(" b = 2", " b = 3"), "Did you mean these lines"),
        (DIFF.replace("@@ -2,3 +2,3 @@", "@@ two @@"), "can't read its header"),
        (DIFF.replace("--- a/train.py", "--- /dev/null"), "makes or removes a file"),
        (DIFF.replace("b/train.py", "b/other.py"), "renames train.py to other.py"),
        (DIFF.replace("train.py", "judge.py"), "not editable: judge.py"),
        ("diff --git a/x b/x\nnew file mode 120000\n" + DIFF, "makes a new file"),
        ("diff --git a/train.py b/train.py\nold mode 100644\nnew mode 100755\n", "changes a file's mode"),
        ("diff --git a/x b/x\nrename from x\nrename to y\n", "renames a file"),
        ("--- a/train.py\n+++ b/train.py\n@@ -2,0 +3 @@\n+new = 1\n", "no place for it"),
    ],
)
def test_a_diff_that_is_refused_says_why(diff: str, words: str) -> None:
    assert words in refusal(diff)


LINES = st.lists(
    st.sampled_from(["a", "b", "  c", "", "def f():", "=======", "<<<<<<< SEARCH", "-x", "+y", "é\u2028"]),
    max_size=12,
)
ENDINGS = st.sampled_from(["\n", "\r\n"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    ending = draw(ENDINGS)
    last = draw(st.sampled_from(["", ending]))
    one, two = draw(LINES), draw(LINES)
    return tuple(ending.join(lines) + (last if lines else "") for lines in (one, two))  # type: ignore[return-value]


@given(texts())
@example(("a\r\na", "a\r\na\r\na"))  # the last line, without an end, has no say in which end is usual
def test_a_change_made_into_edits_and_back_gives_the_original(pair: tuple[str, str]) -> None:
    before, after = pair
    try:
        there, back = make_edits(PATH, before, after), make_edits(PATH, after, before)
    except ValueError:
        # Only what no edit can say: there is no line to hold on to, or only line endings differ.
        blank = any(not text.strip() for text in pair)
        no_ending = any("\n" not in text for text in pair) and "\r\n" in before + after
        assert blank or no_ending or before.split() == after.split()
        return
    if before != after:
        assert edited(there, before) == after
        assert edited(back, after) == before


@given(texts(), st.integers(0, 3))
def test_difflib_diffs_apply_to_the_letter(pair: tuple[str, str], context: int) -> None:
    before, after = (text.replace("\r\n", "\n") for text in pair)
    if not before.endswith("\n") or not after.endswith("\n"):
        return
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), PATH, PATH, n=context, lineterm=""))
    if "\u2028" in before + after or not lines:
        return
    diff = "\n".join(lines) + "\n"
    counted = recounted(
        re.sub(r"^@@ -(\d+)\S* \+(\d+)\S* @@", r"@@ -\1,70 +\2,60 @@ def f():", diff, flags=re.MULTILINE)
    )
    try:
        assert edited(diff, before) == after
        assert edited(counted, before) == after
    except EditError as error:
        assert "no place for it" in str(error)  # a pure insertion without context


def test_a_diff_of_two_files_is_counted_apart_whatever_stands_between() -> None:
    one = "--- a/a.py\n+++ b/a.py\n@@ -1,1 +1,1 @@\n-a\n+b\n+c\n\n"
    two = "--- a/b.py\n+++ b/b.py\n@@ -1,9 +1,9 @@\n-a\n+d\n"
    assert apply(recounted(one + two), {"a.py": "a\n", "b.py": "a\n"}, ["a.py", "b.py"]) == {
        "a.py": "b\nc\n",
        "b.py": "d\n",
    }


@given(texts(), texts(), st.data())
def test_never_applied_by_half(one: tuple[str, str], two: tuple[str, str], data: st.DataObject) -> None:
    """One good edit of one file and any edit of another: both land, or neither."""
    good = block("keep", "kept", "a.py")
    try:
        other = make_edits("b.py", *two)
    except ValueError:
        return
    cut = data.draw(st.integers(0, len(other)))
    files = {"a.py": "keep\n", "b.py": one[0]}
    try:
        result = apply(good + other[:cut], files, ["a.py", "b.py"])
    except EditError:
        assert files == {"a.py": "keep\n", "b.py": one[0]}
        return
    assert result["a.py"] == "kept\n"
    if one == two and cut == len(other) and other:
        assert result["b.py"] == two[1]
