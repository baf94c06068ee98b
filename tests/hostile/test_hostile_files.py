"""What lies in a job folder in the place of a plain file: links, pipes, devices, giants, depths, odd names.

Whoever reads it gets what a plain file of its own holds, or a verdict; nothing is followed, waited for or executed.
"""

import ast
import os
import socket
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import pruning
from agent.errors import InfraError
from agent.job import lock
from agent.job.reading import open_below, read_ends, read_plain, read_small
from agent.job.removal import remove
from agent.runners import artifact
from agent.runners.local import LocalRunner
from agent.runners.progress import progress, tail
from agent.steps.inert import losses
from agent.tools import dry_run
from agent.words import line, markup
from tests.judging import make_job, run_session
from tests.measuring import RUN
from tests.shepherding import Job, begun

pytestmark = pytest.mark.usefixtures("cleared")

ROOT = Path(__file__).parents[2]
SECRET = b"step:1/2 train_loss:1.0 key\n"
GB10 = 10 * 10**9


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def hard_link(path: Path, secret: Path) -> None:
    os.link(secret, path)


def pipe(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path, secret: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path, secret: Path) -> None:
    if os.geteuid():
        pytest.skip("only root makes device nodes")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


def a_folder(path: Path, secret: Path) -> None:
    (path / "sub").mkdir(parents=True)


def endless(path: Path, secret: Path) -> None:
    path.symlink_to(path.name)


def nothing(path: Path, secret: Path) -> None:
    return


def giant(path: Path, secret: Path) -> None:
    with path.open("wb") as file:
        file.truncate(GB10)


PLANTS: tuple[Callable[[Path, Path], None], ...] = (
    *(link, hard_link, pipe, a_socket, device, a_folder, endless, nothing, giant),
)
planted = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)


@contextmanager
def little(most: float = 20e6, seconds: float = 3.0) -> Iterator[None]:
    """In a moment, within a little memory, without an open file that stays."""
    files, began = set(os.listdir("/proc/self/fd")), time.monotonic()  # noqa: PTH208
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < seconds
    assert set(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the person's."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


# ---------------------------------------------------------------- files


@planted
def test_logs_and_results(tmp_path: Path, secret: Path, plant: Callable[[Path, Path], None]) -> None:
    path = tmp_path / "it"
    plant(path, secret)
    with little():
        assert read_small(path) is None
        shown = read_ends(path, 1 << 18, 1 << 18) + tail(path)
        assert "key" not in shown and not shown.strip("\0\n")
        assert losses(path).by_step == {}


@planted
@pytest.mark.parametrize("name", ["model.bin", "sub/model.bin"])
def test_artifacts(tmp_path: Path, secret: Path, plant: Callable[[Path, Path], None], name: str) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    plant(out / name, secret)
    with little():
        wrong = artifact.fault(out, name, 10**6)
        assert wrong is not None and wrong.outcome == ("no_artifact" if plant is nothing else "bad_artifact")
        with pytest.raises((OSError, ValueError)):
            read_plain(out, name, 10**6)


@pytest.mark.parametrize("part", ["out", "out/sub", "out/sub/deep"])
def test_no_folder_on_the_way_is_a_link(tmp_path: Path, secret: Path, part: str) -> None:
    """It may be put there between the shepherd's look and the judge's."""
    job = tmp_path / "job"
    (job / "out/sub/deep").mkdir(parents=True)
    (job / "out/sub/deep/model.bin").write_bytes(b"weights")
    name = "out/sub/deep/model.bin"
    assert read_plain(job, name, 100) == b"weights"
    assert artifact.fault(job / "out", name.removeprefix("out/"), 100) is None
    (job / part).rename(tmp_path / "elsewhere")
    (job / part).symlink_to(tmp_path / "elsewhere")
    with little():
        with pytest.raises(OSError):
            read_plain(job, name, 100)
        wrong = artifact.fault(job / "out", name.removeprefix("out/"), 100)
        assert wrong is not None and "link" in wrong.words


def test_what_is_read_is_what_was_looked_at(tmp_path: Path, secret: Path) -> None:
    """Opened once: what takes its place afterwards is not read, and what is cut off meanwhile is no crash."""
    (tmp_path / "it").write_bytes(b"weights")
    fd = open_below(tmp_path, "it")
    (tmp_path / "it").unlink()
    (tmp_path / "it").symlink_to(secret)
    assert os.read(fd, 100) == b"weights"
    os.close(fd)
    code = (
        "import os, sys\nos.chdir(sys.argv[1])\n"
        "while True:\n"
        "    open('b', 'wb').write(b'w' * 5000)\n    os.replace('b', 'it')\n    os.truncate('it', 9)\n"
        "    os.symlink(sys.argv[2], 'c')\n    os.replace('c', 'it')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(secret)]) as swapper:
        try:
            until, read = time.monotonic() + 1.5, 0
            while time.monotonic() < until:
                try:
                    found = read_plain(tmp_path, "it", 5000)
                except (OSError, ValueError):
                    continue
                finally:
                    assert "key" not in read_ends(tmp_path / "it", 10, 10**4)
                assert b"key" not in found
                read += 1
        finally:
            swapper.kill()
    assert read


@pytest.mark.parametrize("plant", [link, hard_link, giant], ids=lambda plant: plant.__name__)
def test_a_session_reads_no_artifact_through_a_link(
    tmp_path: Path, secret: Path, plant: Callable[[Path, Path], None]
) -> None:
    task = make_job(tmp_path / "job", how="plain")
    out = Path(task.artifact).parent
    kept = Path(task.artifact).read_bytes()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "final_model.bin").write_bytes(kept)
    Path(task.artifact).unlink()
    if plant is link:
        out.rmdir()
        out.symlink_to(tmp_path / "precious")
    else:
        plant(Path(task.artifact), tmp_path / "precious" / "final_model.bin")
    found = run_session(task)
    assert found.status == "failed" and found.artifact_sha is None


# ---------------------------------------------------------------- folders


def deep(folder: Path, depth: int = 1500) -> None:
    here = os.open("/", os.O_RDONLY)
    at = Path.cwd()
    os.chdir(folder)
    for _ in range(depth):
        Path("a").mkdir()
        os.chdir("a")
    Path("file").write_bytes(b"x" * 5000)
    os.chdir(at)
    os.close(here)


def test_depth_and_names_stop_no_removal(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "-rf"
    folder.mkdir()
    deep(folder)
    for name in (b"\xff\xfe", b"a\nb", b"\x1b[31m", b"-r", b" ", b"*", b"$(id)"):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path)
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_bytes(b"x")
    (folder / "closed").chmod(0)
    assert pruning._bytes(folder) >= 5000
    remove(folder)
    assert not folder.exists() and secret.exists()
    (tmp_path / "away").symlink_to(secret.parent)
    remove(tmp_path / "away")
    assert secret.exists() and not (tmp_path / "away").is_symlink()
    remove(tmp_path / "not there")


def test_pruning_deletes_nothing_behind_a_link(tmp_path: Path) -> None:
    """A job folder that leads to somebody's project, which has folders of these names."""
    for name in ("code", "out"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "work.py").write_text("mine")
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / f"r{RUN.id}").symlink_to(tmp_path / "project")
    assert pruning._folder(RUN, jobs) is None
    (jobs / f"r{RUN.id}").unlink()
    (jobs / f"r{RUN.id}").mkdir()
    (jobs / f"r{RUN.id}" / "out").symlink_to(tmp_path / "project" / "out")
    (jobs / f"r{RUN.id}" / "code").mkdir()
    found = pruning._folder(RUN, jobs)
    assert found is not None and found.paths == (str(jobs / f"r{RUN.id}" / "code"),)


def test_a_result_that_is_a_deep_folder(tmp_path: Path) -> None:
    """The shepherd takes it away and writes its own."""
    code = (
        "import os\nos.mkdir('../result.json')\nos.chdir('../result.json')\n"
        "for _ in range(1500):\n    os.mkdir('a')\n    os.chdir('a')\n"
    )
    assert Job.make(tmp_path / "r1", code).result().outcome == "ok"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"status": 1e999', "[]", "\udcff"])
def test_an_answer_that_is_no_answer(tmp_path: Path, text: str) -> None:
    job = Job.make(
        tmp_path / "r1",
        "open('a.bin', 'w').write('x')",
        f"open('measure.json', 'wb').write({text.encode('utf-8', 'surrogateescape')!r})",
    )
    result = job.result()
    assert result.outcome == "score_failed" and "no readable answer" in result.reason and len(result.reason) < 700


# ---------------------------------------------------------------- the controller's own files


@planted
@pytest.mark.parametrize("name", ["lock", "spec", "cancel", "heartbeat", "result", "lost", "spawned", "shepherd_log"])
def test_no_file_in_its_place_ends_the_controller(
    tmp_path: Path, secret: Path, plant: Callable[[Path, Path], None], name: str
) -> None:
    """Whichever is replaced, a job without a shepherd comes to an end, and the person's file stays as it is."""
    paths, runner = begun(tmp_path), LocalRunner(1)
    path: Path = getattr(paths, name)
    path.unlink(missing_ok=True)
    plant(path, secret)
    before = secret.stat()
    with little():
        assert progress(paths.folder) is None
        runner.cancel(paths.folder)
        assert runner.poll(paths.folder) in ("lost", "done")
        assert runner.loss(paths.folder).slot_s <= 9.0
        if name == "result" and plant is not nothing:
            with pytest.raises(InfraError):
                runner.collect(paths.folder)
    assert secret.read_bytes() == SECRET
    assert (secret.stat().st_mtime_ns, secret.stat().st_mode) == (before.st_mtime_ns, before.st_mode)


@pytest.mark.parametrize("name", ["cancel", "spawned", "shepherd_log"])
def test_nothing_is_made_behind_a_dangling_link(tmp_path: Path, name: str) -> None:
    paths, runner = begun(tmp_path), LocalRunner(1)
    for other in (paths.pid, paths.started):
        other.unlink()
    getattr(paths, name).symlink_to(tmp_path / "made")
    try:
        runner.hold(1, paths.folder, "local/0")
    except InfraError as error:
        assert name == "shepherd_log" and "log" in str(error)
    runner.cancel(paths.folder)
    deadline = time.monotonic() + 10
    while runner.poll(paths.folder) not in ("done", "lost") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not (tmp_path / "made").exists()


def test_a_time_to_come_is_no_reason_to_wait(tmp_path: Path) -> None:
    paths = begun(tmp_path)
    paths.pid.unlink()
    os.utime(paths.spec, (time.time() + 10**9,) * 2)
    assert LocalRunner(1).poll(paths.folder) == "lost"
    assert not lock.held(paths.lock)


@pytest.mark.parametrize("name", [b"\xff\xfe.bin", b"a\nb", b"\x1b]0;owned\x07", b"x" * 255, b"-rf", "\u202e".encode()])
def test_odd_names_in_the_out_folder_change_nothing(tmp_path: Path, name: bytes) -> None:
    code = f"open({name!r}, 'wb').write(b'x')\nopen('a.bin', 'wb').write(b'x')"
    job = Job.make(tmp_path / "r1", code, 'open(\'measure.json\', \'w\').write(\'{"status": "ok", "reason": ""}\')')
    assert job.result().outcome == "ok"
    shown = os.fsdecode(name)
    for words in (line(shown), markup(shown)):
        words.encode("utf-8")
        assert not set(words) & set("\x1b\x07\n\u202e")
    assert dry_run._size(Path(os.fsdecode(os.fsencode(job.paths.out) + b"/" + name))) == 1


# ---------------------------------------------------------------- nothing is loaded

LOADERS = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "jsonpickle", "marshal", "shelve", "torch"),
    *("runpy", "code", "codeop"),
}
CALLS = {
    *("eval", "exec", "compile", "__import__", "importlib.import_module", "import_module", "os.system", "os.popen"),
    *("np.load", "numpy.load", "torch.load", "pd.read_pickle", "yaml.load", "yaml.load_all", "yaml.unsafe_load"),
    *("yaml.full_load", "subprocess.getoutput", "subprocess.getstatusoutput"),
}
WORDS = {"allow_pickle", "shell"}


def loads(tree: ast.AST) -> Iterator[str]:
    """Whatever may run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in LOADERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LOADERS:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from {ast.unparse(node.func)} & CALLS
            yield from {str(word.arg) for word in node.keywords} & WORDS


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from torch import load", "import marshal as m", "eval(text)", "exec(compile(a, b, c))"),
        *("np.load(path, allow_pickle=True)", "yaml.load(text)", "importlib.import_module(name)", "os.system(text)"),
        *("subprocess.run(text, shell=True)", "yaml.unsafe_load(text)", "import torch.serialization"),
    ],
)
def test_the_search_for_loaders_finds_them(code: str) -> None:
    assert list(loads(ast.parse(code)))


def test_nothing_here_loads_or_runs_what_others_wrote() -> None:
    found = [path for folder in ("agent", "sandbox") for path in sorted((ROOT / folder).rglob("*.py"))]
    files = [path for path in found if "probe" not in path.parts]  # which loads itself, inside a box
    odd_ones = {str(path.relative_to(ROOT)): set(loads(ast.parse(path.read_text("utf-8")))) for path in files}
    # The judge's own file of scores, by its sha256, as numbers alone.
    assert odd_ones.pop("agent/judge/audit/reference.py") == {"np.load", "allow_pickle"}
    # Packages of ours, by kinds that are written there.
    for name in ("agent/machines/providers.py", "agent/runners/configured.py"):
        assert odd_ones.pop(name) == {"importlib.import_module"}
    # A block of a model that is made there, to see how fast a machine is; it reads nothing.
    assert odd_ones.pop("agent/admission/work.py") == {"torch"}
    assert len(files) > 100 and {name: odd for name, odd in odd_ones.items() if odd} == {}
