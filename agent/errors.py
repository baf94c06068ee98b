"""Every error that crosses a module, named by who must act on it; and the hint that most of them end with."""

import sys
from collections.abc import Iterable
from pathlib import Path


class CaddieError(Exception):
    """Base of all errors below. Its text says what is wrong and how to mend it."""

    exit_code = 1


class UserError(CaddieError):
    """The person must act: a wrong option, a broken file, a folder that can't be written."""

    exit_code = 2


class TrackError(UserError):
    """The author of a track file must act."""


class StoreError(UserError):
    """The person must act on the database: newer version, corrupt file, network file system."""

    exit_code = 3


class BusyError(UserError):
    """Another controller holds the campaign; the text names it."""

    exit_code = 4


class MissingError(UserError):
    """Hardware or data that a track needs is not here; the text says how to get it."""

    exit_code = 5


class EditError(CaddieError):
    """The planner must act: an edit that does not apply. The text is written for a model."""


class PlannerError(CaddieError):
    """A planner failed for now (no answer, no credit); it is asked again later, nothing else stops.

    `retry_after`: seconds, where somebody said them. `lasting`: it will go on failing until a person acts.
    """

    def __init__(self, words: str, *, retry_after: float | None = None, lasting: bool = False) -> None:
        super().__init__(words)
        self.retry_after = retry_after
        self.lasting = lasting


class SpentError(PlannerError):
    """The budget for language models does not cover another call: nobody has to mend anything."""

    def __init__(self, words: str) -> None:
        super().__init__(words, lasting=True)


class BudgetExceeded(CaddieError):
    """The loop must act: the reservation would pass a cap, so nothing was reserved."""


class InfraError(CaddieError):
    """The runner must act: the machine failed, not the idea. The run goes elsewhere or again."""


class LeftError(InfraError):
    """The person must look: something that costs money could not be given back, though all else may be well."""

    exit_code = 6


def to_install(extra: str) -> str:
    """The command that adds what only some people need, for this Python and this copy of Caddie."""
    checkout = Path(__file__).parents[1]
    what = f"-e '{checkout}[{extra}]'" if (checkout / "pyproject.toml").is_file() else f"'caddie[{extra}]'"
    return f"{sys.executable} -m pip install {what}"


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """With a space before it; nothing where no name is close."""
    import difflib

    close = difflib.get_close_matches(text, list(names), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
