"""Words for a terminal, a table and a page: nothing in them acts on anything."""

import re

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from agent import words
from tests.printable import printable


@given(st.text(max_size=300))
def test_nothing_that_acts_on_a_terminal_is_left(text: str) -> None:
    assert printable(words.plain(text)) and printable(words.line(text)) and "\n" not in words.line(text)
    shown = Text.from_markup(words.markup(text))
    assert shown.plain.rstrip("\\") == words.line(text).rstrip("\\") and not shown.spans
    assert len(words.line(text, 20)) <= 20
    cell = words.markdown(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<`]", cell) and "\n" not in cell


def test_words_keep_what_is_text() -> None:
    assert words.plain("é\tx\r\ny — \x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07") == "é\tx\ny — red link"
    assert words.plain("a\x9b31mb\x1bPq#0\x1b\\c\u202ed") == "a31mbcd"
    assert words.markup("[red]x[/]") == r"\[red]x\[/]"
    assert (
        words.duration(59.4) == "59 s"
        and words.duration(3599) == "59 min 59 s"
        and words.duration(7500) == "2 h 05 min"
    )
    rows = [("a", 1.5, None), ("bcd\x1b[2J", -10.25, 12_345)]
    assert words.table(("x", "y", "z"), rows) == (
        "x           y       z\n---  --------  ------\na      1.5000       -\nbcd  -10.2500  12,345"
    )
    assert words.table(("x",), []) == "(none)"
