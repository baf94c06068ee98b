"""The console script in this process, in a workspace with the fixture's campaign."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.cli import main
from agent.records import ProposalState
from agent.store import open_store
from tests.fixture_campaign import build
from tests.fixture_workspace import commit


class Said(NamedTuple):
    out: str
    err: str
    code: int

    @property
    def words(self) -> str:
        return self.out + self.err


Agent = Callable[..., Said]


def workspace(root: Path) -> Path:
    """A git repository with the script that the campaign's ideas change, and the campaign."""
    with closing(build(root)) as store:
        sha = commit(root)
        with store.write() as tx:
            tx.update_proposal(tx.head(1).id, commit=sha)
    return root


def console(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Agent:
    """Runs it in this folder, or from another one on; input is read from a file."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: str, typed: str = "", where: Path | None = None) -> Said:
        if where is not None:
            monkeypatch.chdir(where)
        (tmp_path / "typed").write_text(typed)
        monkeypatch.setattr(sys, "argv", ["agent", *args])
        capfd.readouterr()
        code = 0
        with (tmp_path / "typed").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(bool(end.code))
        sys.stdout.flush()
        return Said(*capfd.readouterr(), code)

    return run


def states(root: Path, *ids: int) -> list[ProposalState]:
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        return [reads.proposal(one).state for one in ids]
