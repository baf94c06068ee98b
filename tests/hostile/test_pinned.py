"""Room on the disk that a process keeps taken without an open file: by its program, or by the folder that it is in."""

import os
import shutil
import subprocess
from pathlib import Path

from sandbox import tree
from tests.processes import linux, until

pytestmark = linux


def test_a_program_and_a_folder_that_have_no_name_any_more_are_disk(tmp_path: Path) -> None:
    program, here = tmp_path / "sleep", tmp_path / "here"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with program.open("ab") as file:
        file.write(os.urandom(3_000_000))
    here.mkdir()
    infos = [program.stat(), here.stat()]
    silent = subprocess.DEVNULL
    with subprocess.Popen([program, "60"], cwd=here, stdout=silent, stderr=silent) as process:
        try:
            until(lambda: Path(f"/proc/{process.pid}/exe").readlink() == program)
            assert tree.open_but_deleted(process.pid) == {}
            program.unlink()
            here.rmdir()
            found = tree.open_but_deleted(process.pid)
            assert found.keys() == {(info.st_dev, info.st_ino) for info in infos}
            assert sum(found.values()) >= 3_000_000
        finally:
            process.kill()
