"""A newcomer's first minute on the tiny track: data made here, real training and judging, and no network at all."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.store import open_store
from tests.e2e.terminal import AGENT, ENV, REPO
from tests.processes import until
from trainer.data import manifest

ALONE = ("unshare", "--map-root-user", "--net")
CALL = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"


def is_alone() -> bool:
    """Whether a command can be started without a network here."""
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.skipif(not is_alone(), reason="this machine does not let a user take the network away (unshare)")
def test_the_first_runs_of_the_tiny_track_need_no_network(tmp_path: Path) -> None:
    called = subprocess.run([*ALONE, sys.executable, "-c", CALL], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in called.stderr
    root = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(REPO), str(root)], check=True)
    said = tmp_path / "said"
    with said.open("w") as out:
        child = subprocess.Popen(
            [*ALONE, *AGENT, "start", "--seed", "7"], cwd=root, env=ENV, stdout=out, stderr=out, process_group=0
        )
    try:
        first = root / ".caddie/tiny-1/jobs/r1/result.json"
        until(lambda: child.poll() is not None or first.exists(), within_s=240, what="the end of the first run")
        assert child.poll() is None, said.read_text()
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0, said.read_text()
    finally:
        child.kill()
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        campaign = reads.campaigns()[0]
        done = reads.scored(campaign.id)
        settled = reads.balance(campaign.id)
    store.close()
    assert campaign.state == "stopped" and settled.reserved.gpu_s == 0 < settled.settled.gpu_s
    assert done
    corpus = manifest.load(root / ".caddie/data/docs", verify=True)
    for one in done:
        found = one.measurement
        assert found.trust == "blind" and 2.0 < (found.bpb or 0) < 3.0
        assert found.data_sha == campaign.data_sha == corpus.data_sha
        assert 150_000 < (found.total_bytes or 0) <= 175_000
