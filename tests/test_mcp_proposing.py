"""Ideas of clients: they are checked as any other, none comes in that should not, and what passes is run."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import EditError
from agent.loop import Loop
from agent.mcp.proposing import MOST_WAITING, Proposed, planner_name, propose
from agent.planner.clients import HOW
from agent.records import Proposal
from agent.store import Store, open_store
from agent.store.talks import conversations_of
from tests import desk
from tests.e2e import world
from tests.serving import IDEA, WITHIN_S, Served, edit, served, until, workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory.mktemp("made") / "a workspace")


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = open_store(root / "runs.db", create=False)
    yield opened
    opened.close()


def of_clients(store: Store) -> list[Proposal]:
    with store.read() as reads:
        return [one for one in reads.proposals(1) if one.planner.startswith("mcp")]


def test_an_idea_becomes_a_drafted_proposal_and_its_origin_is_on_record(root: Path, store: Store) -> None:
    async def work(at: Served) -> str:
        return await at.said("propose", **IDEA, expected_gain=0.01, evidence=["r12"], source="p26")

    said = served(root, work, name="Claude Code\n\x1b[31m" + "x" * 500)
    (one,) = of_clients(store)
    assert f"p{one.id} is written down" in said and "agent resume" in said
    assert one.state == "drafted" and one.planner.startswith("mcp:Claude-Code-") and len(one.planner) <= 44
    assert (one.source_id, one.baseline_id, one.mode, one.kind) == (26, 26, "exploit", "optimiser")
    assert (one.expected_gain, one.evidence) == (0.01, ("r12",))
    with store.read() as reads:
        (talk,) = conversations_of(reads, one.id)
    assert (talk.what, talk.planner, talk.outcome) == ("mcp", one.planner, f"p{one.id}") and talk.ended
    assert planner_name("\n") == planner_name("") == "mcp"


HOSTILE: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "title is missing"),
    ({**IDEA, "edits": "x" * 10_000_000}, "edits"),
    ({**IDEA, "edits": 7}, "edits"),
    ({**IDEA, "edits": None}, "edits"),
    ({**IDEA, "title": ["a"]}, "title"),
    ({**IDEA, "titel": "a"}, "Did you mean 'title'"),
    ({**IDEA, "kind": "base"}, "kind"),
    ({**IDEA, "kind": "magic"}, "kind"),
    ({**IDEA, "expected_gain": float("nan")}, "expected_gain"),
    ({**IDEA, "expected_gain": float("inf")}, "expected_gain"),
    ({**IDEA, "expected_gain": "0.1"}, "expected_gain"),
    ({**IDEA, "confidence": 2}, "confidence"),
    ({**IDEA, "expected_bytes": 10**30}, "expected_bytes"),
    ({**IDEA, "risk": ["r" * 501]}, "risk"),
    ({**IDEA, "rung": "fnial"}, "no rung 'fnial'"),
    ({**IDEA, "source": "p9999"}, "no proposal p9999"),
    ({**IDEA, "source": "'; DROP TABLE runs"}, "is not a proposal"),
    ({**IDEA, "source": "r12"}, "is a run"),
    ({**IDEA, "edits": "nothing"}, "SEARCH"),
    ({**IDEA, "edits": edit(old='"matrix_lr": 0.99')}, "matrix_lr"),
    ({**IDEA, "edits": edit(path="runs.db")}, "runs.db"),
    ({**IDEA, "edits": edit(path="../../etc/passwd")}, "passwd"),
    ({**IDEA, "edits": edit(new='"matrix_lr": (')}, "trainer/train_gpt.py"),
    ({**IDEA, "edits": edit(new='"matrix_lr": 0.02,  # a comment')}, "changes nothing"),
    ({**IDEA, "edits": edit(new='"matrix_lr": 0.0\0')}, "NUL"),
)


def test_hostile_ideas_are_refused_in_words_and_nothing_is_written(root: Path, store: Store) -> None:
    async def work(at: Served) -> list[str]:
        said = [await at.refused("propose", **arguments) for arguments, _ in HOSTILE]
        assert "campaign tiny-1" in (await at.client.get_prompt("research")).messages[0].content.text  # type: ignore[union-attr]
        return said

    for said, (_, words) in zip(served(root, work), HOSTILE, strict=True):
        assert words in said and len(said) < 3000, (words, said[:300])
        assert "fault of Caddie's" not in said
    assert of_clients(store) == []


def test_no_key_is_written_down_for_a_client(root: Path, store: Store) -> None:
    key = "sk-proj-abcdefghijklmnop0123"

    async def work(at: Served) -> str:
        return await at.said("propose", **{**IDEA, "hypothesis": f"with {key}", "evidence": [key]})

    served(root, work)
    (one,) = of_clients(store)
    assert (one.hypothesis, one.evidence) == ("with [redacted]", ("[redacted]",))


def test_ideas_without_end_have_to_wait(root: Path, store: Store) -> None:
    async def work(at: Served) -> str:
        for n in range(MOST_WAITING):
            await at.said("propose", **{**IDEA, "edits": edit(new=f'"matrix_lr": 0.1{n}')})
        return await at.refused("propose", **{**IDEA, "edits": edit(new='"matrix_lr": 0.2')})

    assert "8 ideas of clients wait already" in served(root, work)
    assert len(of_clients(store)) == MOST_WAITING


def test_an_idea_of_a_client_runs_and_ends_in_a_final_state(tmp_path: Path) -> None:
    """The loop works here, the client in a thread of its own, the server in its process; the planner is `mcp` alone."""
    where = world.make_workspace(tmp_path / "work")
    setting = world.open_campaign(where, planner="mcp", review="risky")
    said: list[str] = []

    async def research(at: Served) -> None:
        await until(at, "status", lambda text: f"ideas    waits for those of clients; {HOW}" in text)
        better = world.idea("wider", ('"width": 4', '"width": 6'), expected_gain=0.05)
        assert "applies and compiles" in await at.said("check_edits", edits=better["edits"])
        said.append(await at.said("propose", **better))
        proposal = said[-1].split()[0]
        said.append(await until(at, "show_proposal", lambda text: "state: promoted" in text, proposal=proposal))
        said.append(await at.refused("propose", **better))
        free = world.idea(
            "free",
            ("print(KNOBS)", "print(KNOBS, 1)"),
            script=setting.repo.files("caddie/toy-1", ["train.py"])["train.py"],
        )
        waits = (await at.said("propose", **free)).split()[0]
        said.append(await until(at, "review", lambda text: waits in text))

    client = threading.Thread(target=served, args=(where, research), daemon=True)
    until_s = time.monotonic() + WITHIN_S

    def show() -> None:
        if not client.is_alive() or time.monotonic() > until_s:
            with setting.store.write() as tx:
                tx.ask(setting.campaign.id, "drain")

    client.start()
    Loop(setting, show).run()
    client.join(WITHIN_S)
    assert len(said) == 4, said
    with setting.store.read() as reads:
        made = [one for one in reads.proposals(setting.campaign.id) if one.planner == "mcp:Claude-Code"]
    assert [(one.title, one.state) for one in made] == [("wider", "promoted"), ("free", "awaiting_review")]
    assert "written down" in said[0] and "is already applied" in said[2]


REWRITTEN = desk.edit(('"width": 4', '"width": 2 * 2'))


def test_a_constant_may_be_written_otherwise_where_that_is_the_point(tmp_path: Path) -> None:
    with desk.open_desk(tmp_path / "work", track=desk.TRACK) as (opened, base):
        with pytest.raises(EditError, match="only written differently"):
            propose(opened, Proposed(title="a product", edits=REWRITTEN), "codex")
        made, _ = propose(opened, Proposed(title="a product", edits=REWRITTEN, kind="simplification"), "codex")
        assert (made.state, made.kind, made.mode) == ("drafted", "simplification", "exploit")
        with opened.store.write() as tx:
            tx.update_proposal(made.id, commit=base.commit)
            for state in ("approved", "queued", "running", "measured", "oversize"):
                tx.move(made.id, state)
        again, _ = propose(opened, Proposed(title="again", edits=REWRITTEN, source=f"p{made.id}"), "codex")
        assert (again.mode, again.source_id) == ("shrink", made.id)
