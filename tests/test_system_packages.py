"""The system packages of the tests: those that there are get installed, whatever is lacking beside them."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "system-packages.sh"
APT = """#!/bin/sh
case "$*" in *slurm-wlm*) [ "$1" = install ] && exit 100;; esac
echo "$*" >> "$SAID"
"""


def test_a_package_that_there_is_not_keeps_no_other_away(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for name, text in (("apt-get", APT), ("dpkg-query", "#!/bin/sh\nexit 1\n"), ("id", "#!/bin/sh\necho 0\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(said)}
    done = subprocess.run(["bash", str(SCRIPT)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "can't be installed" in done.stderr and done.stderr.endswith(": slurm-wlm\n")
    lines = said.read_text().splitlines()
    assert any(line.endswith(" git") for line in lines) and any(line.endswith(" libseccomp2") for line in lines)
