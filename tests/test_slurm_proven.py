"""The walls of a node of a cluster are tried before a model's code first runs there, and one that fails is left."""

import time
from pathlib import Path

import pytest

from agent.runners.order import place
from agent.runners.shepherd import boot
from agent.runners.slurm import batch, proven
from agent.runners.slurm.proven import Failed, Known
from sandbox import bubblewrap
from sandbox.walls import why_not
from tests import ordering
from tests.slurm import Cluster
from tests.slurm_field import TOML, WRITE, Field, done, lost


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    folder = tmp_path / proven.FOLDER
    folder.mkdir()
    return folder


def test_a_node_is_tried_once_for_each_start_and_each_version_of_our_code(
    nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def attempt(nodes: Path, node: str, scratch: Path, code: str) -> Known:
        tried.append(node)
        known = Known(proven.boot(), code, "namespaces", 100, ())
        proven.remember(nodes, node, known)
        return known

    monkeypatch.setattr(proven, "_try", attempt)
    for node, code in (("n1", "/a"), ("n1", "/a"), ("n2", "/a"), ("n1", "/b"), ("n1", "/b")):
        assert 0 <= proven.require(nodes, node, "landlock", Path("/tmp"), code) < 5
    assert tried == ["n1", "n2", "n1"]
    monkeypatch.setattr(proven, "boot", lambda: "another start")
    proven.require(nodes, "n1", "landlock", Path("/tmp"), "/b")
    assert tried == ["n1", "n2", "n1", "n1"]
    (nodes / "n1.json").write_text('{"boot": 3}')  # cut off, or of an older version
    proven.require(nodes, "n1", "landlock", Path("/tmp"), "/b")
    assert len(tried) == 5


def test_what_no_model_wrote_waits_for_nothing(nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven, "_try", lambda *_: pytest.fail("it was tried"))
    assert proven.require(nodes, "n1", "base", Path("/tmp"), "/a") == 0.0
    assert proven.require(nodes, "n1", "unsafe", Path("/tmp"), "/a") == 0.0


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Known(boot(), "/a", "landlock", 90, ()), "of level landlock, namespaces is asked for"),
        (Known(boot(), "/a", "namespaces", 90, ("tcp4",)), "they do not hold: tcp4 got through"),
        (Known(boot(), "/a", "namespaces", 90, tuple("abcdefg")), "a, b, c, d, e and 2 more got through"),
    ],
)
def test_a_node_that_fails_is_left_alone_for_a_day(nodes: Path, known: Known, words: str) -> None:
    proven.remember(nodes, "n-1.example", known)
    with pytest.raises(Failed, match=words):
        proven.require(nodes, "n-1.example", "namespaces", Path("/tmp"), "/a")
    names = [path.name for path in nodes.iterdir()]
    assert proven.refused(names, time.time()) == ("n-1.example",)
    assert proven.refused(names, time.time() + proven.REFUSED_S + 5) == ()


def test_nothing_else_in_the_folder_is_a_node_that_was_refused() -> None:
    now = time.time()
    later = int(now) + 1000
    names = [
        f"n2@{later}",
        f"n2@{later + 5}",
        "n1.json",
        "n1.lock",
        f"-x@{later}",
        f"a,b@{later}",
        "n3@x",
        f"n 4@{later}",
    ]
    assert proven.refused(names, now) == ("n2",)


def test_a_name_that_leads_elsewhere_is_no_node(nodes: Path) -> None:
    for name in ("../n1", "", "-n1", "n1,n2", "n1/x"):
        with pytest.raises(Failed, match="no name that can be written down"):
            proven.require(nodes, name, "landlock", Path("/tmp"), "/a")


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason="no walls here that could hold")
def test_the_walls_of_this_machine_are_tried_as_those_of_a_rented_one(nodes: Path, tmp_path: Path) -> None:
    took = proven.require(nodes, "here", "landlock", tmp_path, "/a")
    known = proven.remembered(nodes, "here", "/a")
    assert took > 0.5 and known is not None and known.tried > 80 and known.unknown == ()
    assert proven.require(nodes, "here", "landlock", tmp_path, "/a") < 0.5


def test_a_node_with_other_gpus_is_left_alone_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be given again at once; but perhaps it is the settings that are wrong."""
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    folder, nodes = tmp_path / "r1", tmp_path / "shared" / proven.FOLDER
    nodes.parent.mkdir()
    order = ordering.order(TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 2, device = "H100"'))
    place(folder, order, lambda at: None)
    (folder / batch.WHERE).write_text(batch.Where("/data", False, "/tmp", "", "", str(nodes)).to_json())
    assert batch.main(str(folder)) == 1
    assert "n7: needs 2 GPUs, and has 0" in (folder / "lost.json").read_text()
    names = [path.name for path in nodes.iterdir()]
    assert proven.refused(names, time.time()) == ("n7",)
    assert proven.refused(names, time.time() + proven.WRONG_S + 5) == ()


# ---------------------------------------------------------------- with a real Slurm


STRICT = TOML + 'sandbox = { minimum = "namespaces" }\n'


@pytest.mark.long
@pytest.mark.skipif(not bubblewrap.boxes() or bool(why_not()), reason="needs bubblewrap, which one node is without")
def test_a_node_whose_walls_are_too_weak_gets_no_run(own_cluster: Cluster, tmp_path: Path) -> None:
    """On one of the two there is no bubblewrap: the first run there is lost before it began, and the next one is kept
    from that node."""
    field = Field(own_cluster, tmp_path, STRICT)
    shared = tmp_path / "shared" / proven.FOLDER
    for path in shared.iterdir():
        path.unlink()  # nothing is known of either
    own_cluster.kill("n1")
    own_cluster.start_one("n1", f"mount --bind /dev/null {bubblewrap.boxes()[-1].bwrap}")
    own_cluster.until_idle()
    runner = field.runner(words=("--nodelist=n1",))
    first = field.submit(runner, 1, WRITE)
    assert "n1: its walls: they are of level landlock, namespaces is asked for" in lost(runner, first)
    assert not runner.loss(first).ran
    assert proven.refused([path.name for path in shared.iterdir()], time.time()) == ("n1",)
    later = field.runner()
    second = field.submit(later, 2, WRITE)
    result = done(later, second)
    assert result.outcome == "ok" and "namespaces" in result.walls and result.slot_s < 30
    assert (shared / "n2.json").exists()
    for one in field.runners:
        one.close()
    own_cluster.kill("n1")
    own_cluster.clear()
