"""The tables of the zoo in docs/SECURITY.md are those that are run."""

from pathlib import Path

from tests import zoo_table
from tests.zoo import CHEATS
from tests.zoo_runs import RUNS
from tests.zoo_scripts import SCRIPTS

PAGE = (Path(__file__).parents[1] / "docs" / "SECURITY.md").read_text("utf-8")


def test_the_page_has_every_cheat_and_what_catches_it() -> None:
    assert zoo_table.cheats() in PAGE
    names = [one.name for one in (*CHEATS, *RUNS, *SCRIPTS)]
    assert len(names) == len(set(names)) >= 20


def test_the_page_has_every_honest_form() -> None:
    assert zoo_table.oddities() in PAGE
    assert zoo_table.odd_scripts() in PAGE
