"""Real shepherds holding real processes: every way a run can end, and what is left when something dies."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import InfraError, UserError
from agent.hardware import Gpu
from agent.job.folder import JobPaths, JobResult, JobSpec, Phase, create
from agent.runners import cores
from agent.runners.here import default_slots, local_runner
from agent.runners.local import LocalRunner
from agent.runners.progress import last_step
from sandbox import Limits
from tests.processes import left_over, until

LIMITS = Limits(wall_s=8, cpu_s=None, memory_mb=300, disk_mb=20, log_mb=1, processes=20)


def job(folder: Path, code: str, *, artifact: str | None = None, job_s: float = 20, **limits: float) -> JobSpec:
    script = folder / "code" / "run.py"
    values = {**LIMITS.__dict__, **limits}
    phase = Phase(
        name="train",
        argv=(sys.executable, "-I", "-S", str(script)),
        env={"PATH": "/usr/bin:/bin"},
        cwd=str(folder / "out"),
        limits=Limits(**values),  # type: ignore[arg-type]
        policy=None,
        log="train.log",
    )
    spec = JobSpec(run_id=1, phases=(phase,), artifact=artifact, core=None, wall_s=job_s)
    create(folder, spec, lambda code_folder: (code_folder / "run.py").write_text(code) and None)
    return spec


def finish(runner: LocalRunner, spec: JobSpec, folder: Path) -> JobResult:
    runner.hold(spec.run_id, folder, "local/0")
    until(lambda: runner.poll(folder) in ("done", "lost"))
    return runner.collect(folder)


def run_code(tmp_path: Path, code: str, **options: object) -> JobResult:
    folder = tmp_path / "jobs" / "r1"
    spec = job(folder, code, **options)  # type: ignore[arg-type]
    result = finish(LocalRunner(1), spec, folder)
    assert left_over(tmp_path) == []
    assert result.slot_s <= spec.wall_s
    return result


WRITE = "open('a.bin','wb').write(b'x' * 100)\n"


def test_a_good_run(tmp_path: Path) -> None:
    result = run_code(tmp_path, "import os\nprint(sorted(os.environ))\n" + WRITE, artifact="a.bin")
    assert (result.outcome, result.ran) == ("ok", True)
    log = (tmp_path / "jobs/r1/train.log").read_text()
    assert "ANTHROPIC" not in log and "CADDIE_JOB" in log
    assert "HOME" not in log  # nothing of the person's environment


@pytest.mark.parametrize(
    ("code", "outcome", "words"),
    [
        ("import sys; sys.exit(3)", "crashed", "exit code 3"),
        ("import os,signal; os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
        ("pass", "no_artifact", "no artifact"),
        ("open('a.bin','wb')", "bad_artifact", "empty"),
        ("import os; os.symlink('/etc/passwd','a.bin')", "bad_artifact", "can't be opened"),
        ("import os; os.mkfifo('a.bin')", "bad_artifact", "not a plain file"),
        ("import os; os.mkdir('a.bin')", "bad_artifact", "not a plain file"),
        ("import os; open('b','w').write('x'); os.link('b','a.bin')", "bad_artifact", "2 names"),
        ("import sys\nsys.stdout.close()\n" + WRITE, "ok", ""),
        ("import os; os.write(1, bytes(range(256)))\n" + WRITE, "ok", ""),
        ("import os,shutil; shutil.rmtree(os.getcwd())", "no_artifact", "no artifact"),
    ],
)
def test_how_a_run_can_end(tmp_path: Path, code: str, outcome: str, words: str) -> None:
    result = run_code(tmp_path, code, artifact="a.bin")
    assert result.outcome == outcome, result
    assert words in result.reason


@pytest.mark.parametrize(
    ("code", "cause", "limits"),
    [
        ("while True: pass", "wall", {"wall_s": 0.6}),
        ("while True: pass", "cpu", {"cpu_s": 0.5}),
        ("a = []\nwhile True: a.append(bytearray(10_000_000))", "memory", {}),
        ("import sys\nwhile True: sys.stdout.write('x' * 100_000)", "log", {}),
        ("n = 0\nwhile True:\n n += 1\n open(f'f{n}','wb').write(bytes(1_000_000))", "disk", {}),
        (
            "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
            "wall",
            {"wall_s": 0.6},
        ),
    ],
)
def test_limits_are_kept(tmp_path: Path, code: str, cause: str, limits: dict[str, float]) -> None:
    result = run_code(tmp_path, code, **limits)
    assert result.outcome == "capped", result
    assert result.phases[0].exit.cause == cause
    assert cause in result.reason
    assert (tmp_path / "jobs/r1/train.log").stat().st_size <= LIMITS.log_mb * 1_000_000


def test_the_whole_job_has_a_deadline(tmp_path: Path) -> None:
    result = run_code(tmp_path, "while True: pass", job_s=5)
    assert result.outcome == "capped"
    assert 1 < result.slot_s <= 5


def test_a_grandchild_in_a_session_of_its_own_does_not_outlive_the_run(tmp_path: Path) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(0.01)
            open('alive', 'w').write('x')
    os._exit(0)
os.wait()
while not os.path.exists('alive'): time.sleep(0.01)
"""
    assert run_code(tmp_path, code).outcome == "ok"


def test_a_second_submit_adopts(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "r1"
    spec = job(folder, "import os,time\nopen(f'ran-{os.getpid()}','w')\ntime.sleep(0.5)\n")
    LocalRunner(1).hold(spec.run_id, folder, "local/0")
    second = LocalRunner(1)
    assert finish(second, spec, folder).outcome == "ok"
    assert len(list((folder / "out").glob("ran-*"))) == 1
    second.hold(spec.run_id, folder, "local/0")  # done already
    assert len(list((folder / "out").glob("ran-*"))) == 1


def test_cancel(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "r1"
    spec = job(folder, "while True: pass")
    runner = LocalRunner(1)
    runner.hold(spec.run_id, folder, "local/0")
    until(lambda: runner.poll(folder) == "running" and runner.progress(folder) is not None)
    runner.cancel(folder)
    until(lambda: runner.poll(folder) == "done")
    assert runner.collect(folder).outcome == "cancelled"
    assert left_over(tmp_path) == []


def test_a_killed_shepherd_is_a_lost_run_and_leaves_nothing(tmp_path: Path) -> None:
    draw = random.Random(4)
    for n in range(12):
        root = tmp_path / f"jobs{n}"
        folder = root / "r1"
        spec = job(
            folder,
            "import os,time\nopen(f'ran-{os.getpid()}','w')\nif os.fork()==0: os.setsid()\ntime.sleep(30)",
        )
        runner = LocalRunner(1)
        runner.hold(spec.run_id, folder, "local/0")
        paths = JobPaths(folder)
        until(lambda paths=paths: paths.pid.exists())  # type: ignore[misc]
        time.sleep(draw.random() * 0.3)
        os.kill(json.loads(paths.pid.read_text())["pid"], signal.SIGKILL)
        until(lambda folder=folder, runner=runner: runner.poll(folder) == "lost")  # type: ignore[misc]
        runner.sweep(root)
        assert left_over(root) == []
        loss = runner.loss(folder)
        assert loss.ran == paths.started.exists()
        runner.hold(spec.run_id, folder, "local/0")
        assert runner.poll(folder) == "lost"  # never taken up again
        assert len(list((folder / "out").glob("ran-*"))) <= 1


def test_a_killed_controller_makes_no_second_run(tmp_path: Path) -> None:
    """Killed at random instants around its submit, twice over; the job runs exactly once."""
    draw = random.Random(5)
    program = (
        "import sys; from pathlib import Path; "
        "from agent.runners.local import LocalRunner; folder = Path(sys.argv[1]); print('go', flush=True); "
        "LocalRunner(1).hold(1, folder, 'local/0')"
    )
    for n in range(10):
        root = tmp_path / f"jobs{n}"
        folder = root / "r1"
        spec = job(folder, "import os\nopen(f'ran-{os.getpid()}','w')\n")
        controller = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
        assert controller.stdout is not None
        controller.stdout.readline()
        time.sleep(draw.random() * 0.01)
        controller.kill()
        controller.wait()
        runner = LocalRunner(1)
        runner.hold(spec.run_id, folder, "local/0")
        until(lambda folder=folder, runner=runner: runner.poll(folder) == "done")  # type: ignore[misc]
        assert len(list((folder / "out").glob("ran-*"))) == 1
        assert left_over(root) == []


def test_what_can_not_be_submitted(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "r1"
    spec = job(folder, "pass")
    other = JobSpec(run_id=2, phases=spec.phases, artifact=None, core=None, wall_s=20)
    with pytest.raises(InfraError, match="does not hold the job of r2"):
        LocalRunner(1).hold(other.run_id, folder, "local/0")
    with pytest.raises(UserError, match="cores"):
        LocalRunner(len(cores.cores()) + 1)
    (folder / "result.json").write_text("{ not json")
    with pytest.raises(InfraError, match="damaged"):
        LocalRunner(1).collect(folder)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("step:120/300 train_loss:5.1234 train_time:9876ms step_avg:82.30ms\n", (120, 300, 5.1234)),
        ("warm\nstep:1/300 train_loss:9.0\nstep:2/300 train_loss:8.5 x\n", (2, 300, 8.5)),
        ("4000/20000 val_loss: 2.5 val_bpb: 1.1\n", (4000, 20000, 2.5)),
        ("step:9/3 train_loss:1.0\n", (3, 3, 1.0)),
        ("step:1/0 train_loss:1.0\n", None),
        ("\x1b[2J nothing", None),
    ],
)
def test_progress_lines(text: str, found: tuple[int, int, float] | None) -> None:
    assert last_step(text) == found


def test_gpus_are_shared_out_by_slot() -> None:
    found = tuple(Gpu(index, f"GPU-{index}", "H100", 80_000) for index in (0, 1, 3, 4))
    runner = LocalRunner(2, found, 2)
    assert [runner.env(slot) for slot in runner.slots] == [
        {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1"},
        {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-3,GPU-4"},
    ]
    assert [runner.gpus(slot) for slot in runner.slots] == [(0, 1), (3, 4)]
    assert runner.hardware_class("local/1") == "cuda/H100/2"
    with pytest.raises(UserError, match="needs 4 GPUs, this machine has 3"):
        LocalRunner(2, found[:3], 2)


def test_slots_of_several_sizes_are_of_the_same_gpus() -> None:
    found = tuple(Gpu(index, f"GPU-{index}", "H100", 80_000) for index in (0, 1, 3, 4))
    runner = LocalRunner(1, found, 4, (1, 2))
    assert runner.slots == ("local/0", *(f"local/gpu-{n}" for n in range(4)), "local/gpus-0-1", "local/gpus-2-3")
    assert [runner.gpus(slot) for slot in runner.slots[:2]] == [(0, 1, 3, 4), (0,)]
    assert runner.gpus("local/gpus-2-3") == (3, 4) and runner.env("local/gpu-2")["CUDA_VISIBLE_DEVICES"] == "GPU-3"
    classes = [runner.hardware_class(slot) for slot in ("local/0", "local/gpu-1", "local/gpus-0-1")]
    assert classes == ["cuda/H100/4", "cuda/H100/1", "cuda/H100/2"]


@pytest.mark.parametrize(
    ("track", "slots", "seen"),
    [("golf-upstream", 1, ["GPU-b"]), ("autoresearch", 3, ["GPU-a", "GPU-b", "GPU-c"])],
)
def test_a_track_gets_the_gpus_that_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, track: str, slots: int, seen: list[str]
) -> None:
    rows = (
        "0, GPU-a, 00000000:01:00.0, NVIDIA A10, 23028",
        "1, GPU-b, 00000000:02:00.0, NVIDIA H100 80GB HBM3, 81559",
        "2, GPU-c, 00000000:03:00.0, NVIDIA A10, 23028",
        "lost, [N/A], [N/A], [N/A], [N/A]",
    )
    listed = "".join(f"{row}\\n" for row in rows)
    stub = tmp_path / "nvidia-smi"
    stub.write_text(
        f"#!/bin/sh\ntest \"$1\" = --query-gpu=index,uuid,pci.bus_id,name,memory.total || exit 1\nprintf '{listed}'\n"
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found, _ = tracks.load(track, tmp_path)
    assert default_slots(found) == slots
    runner = local_runner(found, slots)
    assert [runner.env(slot)["CUDA_VISIBLE_DEVICES"] for slot in runner.slots] == seen
    with pytest.raises(UserError, match=f"this machine has {slots} that the track can use"):
        local_runner(found, slots + 1)
