"""Job folders and what is written in them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.job.folder import JobPaths, JobSpec, create
from tests.shepherding import phase


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed while it is filled, a folder has no name that anybody reads; the next one makes it."""
    code = (
        "import os, sys; from pathlib import Path; from agent.job.folder import JobSpec, create\n"
        "def fill(code): (code / 'a').write_text('half'); os.kill(os.getpid(), 9)\n"
        f"create(Path({str(tmp_path / 'r1')!r}), JobSpec(1, (), None, None, 5.0), fill)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not (tmp_path / "r1").exists()
    spec = JobSpec(1, (), None, None, 5.0)
    assert create(tmp_path / "r1", spec, lambda code: (code / "a").write_text("whole") and None)
    assert not create(tmp_path / "r1", spec, lambda code: (code / "a").write_text("other") and None)
    assert (tmp_path / "r1/code/a").read_text() == "whole"


def test_a_spec_is_read_strictly() -> None:
    spec = JobSpec(1, (phase(JobPaths(Path("/x")), "a.py"),), None, None, 5.0)
    assert JobSpec.from_json(spec.to_json()) == spec
    for old, new in [
        ('"run_id": 1', '"run_id": "1"'),
        ('"core"', '"kore"'),
        ('"wall_s": 5.0', '"wall_s": NaN'),
    ]:
        with pytest.raises(ValueError):
            JobSpec.from_json(spec.to_json().replace(old, new))


def test_a_job_of_an_older_version_lacks_only_what_has_a_default() -> None:
    spec = JobSpec(1, (phase(JobPaths(Path("/x")), "a.py"),), None, None, 5.0)
    raw = json.loads(spec.to_json())
    del raw["phases"][0]["limits"]["gpu_memory_mb"]
    assert JobSpec.from_json(json.dumps(raw)) == spec
    raw["phases"][0]["limits"]["gpu_memory_mb"] = 7000
    assert JobSpec.from_json(json.dumps(raw)).phases[0].limits.gpu_memory_mb == 7000
    for broken in ({"gpu_memory_mb": "7"}, {"gpu_memory": 7}, {"processes": None}):
        limits = {**raw["phases"][0]["limits"], **broken}
        with pytest.raises(ValueError, match="limits"):
            JobSpec.from_json(json.dumps({**raw, "phases": [{**raw["phases"][0], "limits": limits}]}))
    del raw["phases"][0]["limits"]["processes"]
    with pytest.raises(ValueError, match="missing or unknown: processes"):
        JobSpec.from_json(json.dumps(raw))


def test_the_page_of_what_is_on_disk_names_every_file() -> None:
    page = Path("docs/runs.md").read_text("utf-8")
    names = [getattr(JobPaths(Path("/x")), name).name for name in vars(JobPaths) if not name.startswith("_")]
    assert len(names) > 10
    assert [name for name in names if f"`{name}`" not in page and f"`{name}/`" not in page] == []
