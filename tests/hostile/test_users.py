"""The user of a run is nobody else's: not a service's, whose shared memory would be taken away with the run's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox import users
from tests.processes import linux, until

SERVICES = range(61_184, 65_520)  # systemd's dynamic ones
ALL = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("uid_map", "numbers"),
    [
        (ALL, users.WIDE),
        ("0 100000 65536\n", users.NARROW),
        ("0 1000 1\n1 100000 65536\n", users.NARROW),
        ("0 0 50\n50 50 1000000\n", users.WIDE),
        ("", users.WIDE),  # no Linux
    ],
)
def test_no_number_is_a_service_s_a_persons_or_a_containers(uid_map: str, numbers: range) -> None:
    assert users.spare(uid_map) == numbers
    assert not set(numbers) & {*range(60_706), *SERVICES, *range(65_520, 65_537), *range(100_000, 100_100)}


@linux
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root gives users to runs")
def test_nobody_gets_a_number_that_a_process_has() -> None:
    numbers = users.here()
    first = numbers[77 % len(numbers)]
    users.uid_of.cache_clear()
    assert users.uid_of(77) == first
    command = ["setpriv", f"--reuid={first}", "--clear-groups", "sleep", "60"]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: Path(f"/proc/{process.pid}").stat().st_uid == first)
            assert users.uid_of(77) == first  # a supervisor keeps its own
            users.uid_of.cache_clear()
            assert users.uid_of(77) == first + 1
        finally:
            process.kill()
    users.uid_of.cache_clear()
