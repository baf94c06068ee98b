"""Whole runs on a real Slurm: trained and judged behind walls, on eight GPUs of a node, through a login node."""

import hashlib
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from agent import budget, campaign
from agent import track as tracks
from agent.job.folder import JobPaths
from agent.judge.measure import measure
from agent.loop import Loop
from agent.options import Options
from agent.records import Run
from agent.runners import Runner
from agent.runners.configured import Place
from agent.runners.order import place
from agent.runners.slurm import Settings, make
from agent.runners.slurm.batch import Where, WrongNode, corpus, listen, own_gpus
from tests import ordering, sshd, zoo_runs
from tests.e2e import world
from tests.e2e.real import REAL_SCRIPT, REAL_TRACK
from tests.processes import until
from tests.slurm import Cluster
from tests.slurm_field import GPU_TOML, WRITE, Field, done, lost, words_of


def test_trained_and_judged_on_a_node_with_its_own_copy_of_the_data(own_cluster: Cluster, tmp_path: Path) -> None:
    field = Field(own_cluster, tmp_path, zoo_runs.TOML)
    data = tmp_path / ".caddie" / "data"
    data.mkdir(parents=True)
    zoo_runs.make_corpus(data / "docs")
    order = ordering.order(field.toml, run_id=3, seed=5)
    folder = field.jobs / "r3"
    place(folder, order, lambda at: [(at / name).write_bytes(text) for name, text in zoo_runs.SCRIPTS.items()] and None)
    runner = field.runner(data="node", scratch=str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    runner.submit(order, folder, "lab/0")
    result = done(runner, folder)
    assert result.outcome == "ok" and result.phase("judge") is not None, words_of(folder)
    assert result.walls, "no walls around what nobody has read"
    row = Run(3, 1, 9, 3, "decide", "screen", 5, 1, "s", "done", "ok", "", "cpu", sha(), (), "now")
    found = measure(tracks.parse(field.toml, "zoo"), row, JobPaths(folder), result, "d")
    assert found.bpb is not None and 0 < found.bpb < 8 and found.trust == "measured", found
    (copy,) = [path for path in (tmp_path / "scratch").glob("caddie-*/*") if path.is_dir()]
    assert copy.name == next((tmp_path / "shared" / "data").iterdir()).name
    runner.close()


def sha() -> str:
    return hashlib.sha256(zoo_runs.SCRIPTS["trained.py"]).hexdigest()


@pytest.mark.long
def test_eight_gpus_of_one_node(own_cluster: Cluster, tmp_path: Path) -> None:
    """The driver's tool is a stand-in; which GPUs are whose, and that two such runs need two nodes, is Slurm's word."""
    field = Field(own_cluster, tmp_path, GPU_TOML)
    tools = tmp_path / "tools"
    tools.mkdir()
    rows = "".join(f"{n}, GPU-{n}, 0000:0{n}:00.0, NVIDIA H100 80GB HBM3, 81559\\n" for n in range(8))
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{rows}'\n")
    (tools / "python").write_text(f'#!/bin/sh\nexport PATH={tools}:/usr/bin:/bin\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    runner = field.runner(gres="gpu:h100", cpus_per_gpu=1, python=str(tools / "python"))
    code = f"{WRITE}print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\ntime.sleep(2)\n"
    folders = [field.submit(runner, number, f"{code}# {number}", minimum="base") for number in (1, 2, 3)]
    until(
        lambda: sorted(own_cluster.jobs().values()) == ["PENDING", "RUNNING", "RUNNING"],
        what="two blocks, and one that waits",
    )
    assert [done(runner, folder).outcome for folder in folders] == ["ok"] * 3
    assert "GPU-0,GPU-1,GPU-2,GPU-3,GPU-4,GPU-5,GPU-6,GPU-7" in (folders[0] / "train.log").read_text()
    assert runner.hardware_class("lab/0") == "cuda/H100/8/lab"
    wrong = field.runner(gres="gpu:h100", cpus_per_gpu=1, python=str(tools / "python"), device="H200")
    assert "needs GPUs of the kind 'H200', and has NVIDIA H100 80GB HBM3" in lost(wrong, field.submit(wrong, 4))
    assert not wrong.loss(field.jobs / "r4").ran
    for one in field.runners:
        one.close()


@pytest.mark.long
def test_through_a_login_node(own_cluster: Cluster, tmp_path: Path) -> None:
    """A real sshd, whose sessions are cut while the run is on its node."""
    field = Field(own_cluster, tmp_path)
    login = sshd.start(tmp_path / "sshd")
    host = login.host(tmp_path)
    settings = Settings.model_validate(
        {
            **field.settings(commands=commands(own_cluster, tmp_path)).model_dump(),
            "login": {"address": host.address, "port": host.port, "user": host.user, "key": str(host.key)},
        }
    )
    track = tracks.parse(field.toml, "toy")
    runner: Runner = (made := make("lab", settings, Place(track, 1, tmp_path, lambda track, slots: made)))
    made.check()
    folder = field.submit(made, 1, f"{WRITE}time.sleep(3)")
    until(lambda: runner.progress(folder))
    assert login.cut() > 0
    assert done(made, folder).outcome == "ok"
    assert (folder / "out" / "a.bin").read_text() == "101" and runner.price("lab/0") == 0.0
    made.close()
    login.stop()


def commands(own_cluster: Cluster, root: Path) -> str:
    """A folder of Slurm's commands that reach this cluster from anywhere."""
    folder = root / "commands"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        reach = f"SLURM_CONF={own_cluster.env['SLURM_CONF']} exec {' '.join(own_cluster.inside)} /usr/bin/{name}"
        (folder / name).write_text(f'#!/bin/sh\n{reach} "$@"\n')
        (folder / name).chmod(0o755)
    return str(folder)


def gpu(env: dict[str, str], needed: int, device: str, monkeypatch: pytest.MonkeyPatch, seen: int) -> list[int]:
    from agent import hardware

    found = tuple(hardware.Gpu(n, f"GPU-{n}", "NVIDIA H100 80GB HBM3", 80_000) for n in range(seen))
    monkeypatch.setattr(hardware, "gpus", lambda: found)
    return [gpu.minor for gpu in own_gpus(env, needed, device)]


def test_whose_gpus_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu({}, 0, "H100", monkeypatch, 0) == []
    assert gpu({"SLURM_JOB_GPUS": "2,3"}, 2, "H100", monkeypatch, 8) == [2, 3]
    assert gpu({"SLURM_JOB_GPUS": "6,7"}, 2, "H100", monkeypatch, 2) == [0, 1]  # the cluster hides the others
    for env, seen in (
        ({}, 8),
        ({"SLURM_JOB_GPUS": "2"}, 8),
        ({"SLURM_JOB_GPUS": "0,9"}, 8),
        ({"SLURM_JOB_GPUS": "x"}, 0),
    ):
        with pytest.raises(WrongNode, match="needs 2 GPUs, and has"):
            gpu(env, 2, "H100", monkeypatch, seen)
    with pytest.raises(WrongNode, match="of the kind 'A100'"):
        gpu({"SLURM_JOB_GPUS": "0,1"}, 2, "A100", monkeypatch, 2)


def test_a_signal_is_heard_whoever_handles_it() -> None:
    handled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
    heard = listen()
    try:
        assert heard() == b""
        os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [signal.SIGTERM] and signal.SIGTERM in heard() and heard() == b""
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)


def test_a_node_copies_the_data_once_and_right(tmp_path: Path) -> None:
    source = tmp_path / "fineweb"
    (source / "train").mkdir(parents=True)
    (source / "train" / "a").write_text("text")
    (tmp_path / "scratch").mkdir()
    where = Where(str(source), True, str(tmp_path / "scratch"), "", "", "/none")
    copy = corpus(where)
    assert (copy / "train" / "a").read_text() == "text" and len(copy.name) == 64
    (copy / "mark").touch()
    assert corpus(where) == copy and (copy / "mark").exists()
    assert corpus(Where(str(source), False, "/none", "", "", "/none")) == source
    wrong = tmp_path / ("0" * 64)
    (wrong / "train").mkdir(parents=True)
    with pytest.raises(WrongNode, match="is not what it should be"):
        corpus(Where(str(wrong), True, str(tmp_path / "scratch"), "", "", "/none"))


@pytest.mark.long
def test_a_campaign_is_one_table_of_runners_toml(own_cluster: Cluster, tmp_path: Path) -> None:
    """From a person's repository to a promoted commit; a node dies on the way."""
    root = world.make_workspace(tmp_path / "work", REAL_SCRIPT, REAL_TRACK)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'), script=REAL_SCRIPT)])
    folder = tmp_path / "shared"
    table = {"kind": "slurm", "folder": folder, "commands": commands(own_cluster, tmp_path), "python": sys.executable}
    lines = [f'{key} = "{value}"' for key, value in {**table, "login_python": sys.executable}.items()]
    lines += ["most = 8", "every_s = 0.5", "settle_s = 1.0", "cpus = 16"]
    (root / "runners.toml").write_text("\n".join(["[lab]", *lines]) + "\n")
    setting = campaign.start(
        Options(track="agent.toml", planner="scripted:.ideas.jsonl", review="none", seed=7, runner="lab"),
        root,
        lambda text: None,
    )

    def power_cut() -> None:
        # Before candidate code has run, Slurm itself would start the job again, two minutes later.
        until(lambda: [*(root / ".caddie").glob("*/jobs/*/heartbeat.json")])
        own_cluster.kill("n1")

    cut = threading.Thread(target=power_cut)
    cut.start()
    ending = Loop(setting).run()
    cut.join()
    assert (ending.state, ending.reason) == ("finished", "the planner has no more ideas")
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == [] and budget.open_entries(reads, setting.campaign.id) == []
        assert reads.head(setting.campaign.id).title == "wider"
        assert {run.slot for run in reads.runs(setting.campaign.id)} <= {f"lab/{n}" for n in range(8)}
    until(lambda: own_cluster.jobs() == {})
    assert list((folder / "jobs").glob("*/*")) == []
