"""A run and the folder of its job, as what measures it finds them."""

from pathlib import Path

from agent.job.folder import JobPaths
from agent.records import Run

RUN = Run(5, 1, 7, 3, "decide", "screen", 11, 1, "s0", "running", None, "", "cpu", "c" * 64, (), "now")
LOG = """step:290/300 train_loss:2.1 train_time:20000ms step_avg:70ms
step:300/300 train_loss:2.0 train_time:21000ms step_avg:70ms
Serialized model int8+zlib: 1000 bytes
Code size: 50 bytes
Total submission size int8+zlib: 1050 bytes
"""


def make_job(folder: Path, log: str = LOG, answer: str | None = None) -> JobPaths:
    paths = JobPaths(folder)
    folder.mkdir(exist_ok=True)
    paths.train_log.write_text(log)
    if answer is not None:
        paths.measure.write_text(answer)
    return paths
