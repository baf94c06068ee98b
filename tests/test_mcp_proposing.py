"""What becomes of a client's idea: by the same rules as any other, so that none is refused which the loop would run."""

from pathlib import Path

import pytest

from agent.errors import EditError
from agent.mcp.proposing import Proposed, propose
from tests.desk import TRACK, edit, open_desk

REWRITTEN = edit(('"width": 4', '"width": 2 * 2'))


def test_a_constant_may_be_written_otherwise_where_that_is_the_point(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work", track=TRACK) as (desk, base):
        with pytest.raises(EditError, match="only written differently"):
            propose(desk, Proposed(title="a product", edits=REWRITTEN), "codex")
        made, _ = propose(desk, Proposed(title="a product", edits=REWRITTEN, kind="simplification"), "codex")
        assert (made.state, made.kind, made.mode) == ("drafted", "simplification", "exploit")
        with desk.store.write() as tx:
            tx.update_proposal(made.id, commit=base.commit)
            for state in ("approved", "queued", "running", "measured", "oversize"):
                tx.move(made.id, state)
        again, _ = propose(desk, Proposed(title="again", edits=REWRITTEN, source=f"p{made.id}"), "codex")
        assert (again.mode, again.source_id) == ("shrink", made.id)
