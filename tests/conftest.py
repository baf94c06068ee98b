"""How all tests run: where CI is set the same examples every time, elsewhere new ones.

A store of both kinds; a workspace with a campaign, and the console script there.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from agent.records import Proposal
from agent.runners.rented import deadman
from agent.runners.ssh.link import Thread
from agent.store import Store, migrate, open_store
from agent.store import open as opening
from tests import commanding, exhibiting, postgres, sshd
from tests.absent import package
from tests.filling import add_base, add_campaign

if TYPE_CHECKING:
    from tests.runpod import StandIn
    from tests.runpod_pool import Pool
    from tests.slurm import Cluster
    from tests.slurm_field import Field

MAKE = opening._make

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("person", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "person")

# A shell that starts a command in the background makes it deaf to interrupts, and so would be all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def quick_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new runs.db is a copy of one that was made as always: making its tables takes longer than most tests do.

    What runs in a process of its own makes its own, and so does who asks for `real_stores`.
    """
    model = tmp_path_factory.mktemp("model") / "runs.db"

    def copy(path: Path) -> None:
        if not model.exists():
            MAKE(model)
        aside = path.with_name(f"{path.name}.new-{os.getpid()}-{threading.get_ident()}")
        shutil.copyfile(model, aside)
        migrate.put_in_place(aside, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "_make", copy)
        yield


@pytest.fixture
def real_stores(quick_stores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of how a runs.db is made."""
    monkeypatch.setattr(opening, "_make", MAKE)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "runs.db" if request.param == "sqlite" else postgres.fresh_url())
    yield opened
    opened.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sshd.Sshd]:
    """Of this test alone."""
    found = sshd.start(tmp_path / "sshd")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    """Of all tests of a module."""
    found = sshd.start(tmp_path_factory.mktemp("sshd") / "s")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data for `tests.zoo_runs.TOML`."""
    from tests.zoo_runs import make_corpus

    return make_corpus(tmp_path_factory.mktemp("corpus") / "docs")


@pytest.fixture(scope="module")
def own_cluster() -> Iterator["Cluster"]:
    """A Slurm that all tests of a module share."""
    from tests.slurm import cluster

    with cluster() as made:
        yield made


@pytest.fixture
def field(own_cluster: "Cluster", tmp_path: Path) -> Iterator["Field"]:
    from tests.slurm_field import Field

    made = Field(own_cluster, tmp_path)
    yield made
    for runner in made.runners:
        runner.close()
    own_cluster.clear()


@pytest.fixture
def thread() -> Iterator[Thread]:
    """The event loop of links."""
    found = Thread("test")
    yield found
    found.close(asyncio.sleep(0))


@pytest.fixture
def base(store: Store) -> Proposal:
    with store.write() as tx:
        return add_base(tx, add_campaign(tx))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is a git repository with the script that the campaign's ideas change."""
    return commanding.workspace(tmp_path_factory.mktemp("made") / "a workspace")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it, for tests whose file has no folder of its own."""
    return Path(shutil.copytree(made, tmp_path / "a workspace", symlinks=True))


@pytest.fixture
def agent(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> commanding.Agent:
    """The console script in a subfolder of it."""
    return commanding.console(root / "trainer", monkeypatch, capfd, tmp_path)


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """What a stranger hands in, with nothing wrong about it."""
    return exhibiting.hand_in(tmp_path)


@pytest.fixture
def cleared(tmp_path: Path) -> Iterator[None]:
    """A folder that is too deep for pytest, left by a test that failed, would end every later session."""
    yield
    subprocess.run(["rm", "-rf", "--", str(tmp_path)], check=True)


@pytest.fixture(scope="session")
def pod_server() -> Iterator["StandIn"]:
    package("uvicorn")
    from tests.runpod_served import standin

    with standin() as served:
        yield served


@pytest.fixture
def stand(pod_server: "StandIn") -> Iterator["StandIn"]:
    """A new account; at the end every answer was as the provider's description says."""
    pod_server.forget()
    yield pod_server
    assert pod_server.wrong == []


@pytest.fixture
def pool(
    tmp_path: Path,
    stand: "StandIn",
    lasting_server: sshd.Sshd,
    toy_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator["Pool"]:
    """A workspace whose runs go to pods of the stand-in, with the timers of all of them in one folder."""
    from tests.runpod_pool import Pool

    monkeypatch.setattr(deadman, "FOLDER", str(tmp_path / "timers"))
    (tmp_path / "timers").mkdir()
    found = Pool(tmp_path, stand, lasting_server, toy_corpus)
    with closing(found.store):
        yield found
        for runner in found.runners:
            runner._ssh.close()
