"""The zoo in words: every cheat, what it does, and what catches it; and the honest forms that are not accused.

`python -m tests.zoo_table` prints the tables as docs/SECURITY.md has them. tests/hostile/test_zoo.py runs every row.
"""

from collections.abc import Iterable

from tests.zoo import CHEATS, ODDITIES, Cheat
from tests.zoo_runs import RUNS, RunCheat
from tests.zoo_scripts import ODD_SCRIPTS, SCRIPTS, ScriptCheat

GATES = ("over_budget", "seed_ignored")
ENDS = ("crashed", "capped")


def cheats() -> str:
    head = ["| cheat | where | what it does | caught by | tried on |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(_judged, CHEATS), *map(_run, RUNS), *map(_script, SCRIPTS)])


def oddities() -> str:
    head = ["| honest form | what it does | context | state | arithmetic | tried on |", "|---|---|---|---|---|---|"]
    rows = [
        f"| {one.name} | {one.does} | {one.context:,} | {one.state} | {one.numerics} | {one.corpus} |"
        for one in ODDITIES
    ]
    return "\n".join([*head, *rows])


def odd_scripts() -> str:
    head = ["| honest script | what it does | a reviewer is told of |", "|---|---|---|"]
    return "\n".join([*head, *(_row((one.name, one.does, f"`{one.flag}`" if one.flag else "")) for one in ODD_SCRIPTS)])


def _judged(one: Cheat) -> str:
    caught = f"`{one.caught_by}`" + (f' ("{one.words}")' if one.words else "")
    caught = "the walls: it finds nothing" if one.caught_by == "walls" else caught
    caught = f"flag `{one.caught_by}`" if one.words == "flag" else caught
    full = ", full audit" if one.strength == "full" else ""
    return _row((one.name, one.where, one.does, f"{caught}{full}", one.corpus))


def _run(one: RunCheat) -> str:
    kind = "gate " if one.caught_by in GATES else "outcome " if one.caught_by in ENDS else "flag "
    return _row((one.name, one.where, one.does, f"{kind}`{one.caught_by}`", "tiny, trained"))


def _script(one: ScriptCheat) -> str:
    caught = f"sign `{one.sign}`: {'it never runs' if one.blocked else 'a reviewer is told, and its runs are flagged'}"
    return _row((one.name, "script", one.does, caught, "its text"))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(f"{cheats()}\n\n{oddities()}\n\n{odd_scripts()}")
