"""What a stranger hands in with nothing wrong about it, changes to it, and what is said of it; and how a job ended."""

import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agent.job.folder import JobResult, PhaseResult
from agent.judge import exhibits
from agent.judge.rules import rulings
from agent.judge.task import Audit, Clocks, Contest, no_score
from agent.report import judged, judged_terminal
from sandbox.limits import Exit
from tests.contest_logs import log

SCRIPT = "import torch\n\n\ndef main():\n    print('train')\n" + "# a comment that makes it longer\n" * 10
CLAIMS = {
    "author": "A Person",
    "github_id": "person",
    "name": "A record",
    "blurb": "It is better.",
    "date": "2026-04-01",
    "track": "track_10min_16mb",
    "val_loss": 2.07269931,
    "val_bpb": 1.22756946,
    "val_bpb_std": 0.0,
    "seeds": [1, 2, 3],
    "seed_results": {str(seed): {"val_bpb": 1.22756944 + seed / 1e8, "artifact_bytes": 15874829} for seed in (1, 2, 3)},
    "bytes_total": 15874829,
    "bytes_code": len(SCRIPT),
}
README = "# A record\n\nval_bpb 1.2276\n\n```bash\nSEED=1 torchrun --standalone --nproc_per_node=8 train_gpt.py\n```\n"
COUNTED = Contest(1200.0, 400, 3, 1000, True)
ANSWER = replace(
    no_score("ok", ""),
    nats=1300.0,
    tokens=410,
    bytes=1010,
    contest=COUNTED,
    clocks=Clocks(5.0, 5.0, 590.0, 650.0, 650.0, 9.0, 9.0, 700.0),
    audit=Audit(4000, "s", 1e-6, 1e-7, "full", 3000, 1000),
    walls=("namespaces",),
)
ENDED = JobResult(
    1,
    "ok",
    "",
    (
        PhaseResult("train", Exit(0, None, "exited", 590.0, 4700.0, 900.0)),
        PhaseResult("judge", Exit(0, None, "exited", 700.0, 690.0, 900.0)),
    ),
    1300.0,
    ("namespaces",),
    True,
)


def seed_log(seed: int, bpb: float | None = None) -> str:
    """Around 1.22756946."""
    return (
        log(seed)
        .replace("1.22756946", f"{1.22756944 + seed / 1e8 if bpb is None else bpb:.8f}")
        .replace("Code size: 58340", f"Code size: {len(SCRIPT)}")
        .replace("15816489", str(15874829 - len(SCRIPT)))
    )


def hand_in(root: Path) -> Path:
    """A submission in which everything is right."""
    made = root / "records" / "track_10min_16mb" / "2026-04-01_ARecord"
    made.mkdir(parents=True)
    (made / "README.md").write_text(README)
    (made / "submission.json").write_text(json.dumps(CLAIMS))
    (made / "train_gpt.py").write_text(SCRIPT)
    for seed in (1, 2, 3):
        (made / f"train_seed{seed}.log").write_text(seed_log(seed))
    return made


def problems(folder: Path) -> list[str]:
    return [one.name for one in exhibits.of_path(folder).problems]


def said(folder: Path, number: int):  # type: ignore[no-untyped-def]
    return next(one for one in rulings(exhibits.of_path(folder).case) if one.rule == number)


def claim(folder: Path, **changes: object) -> None:
    (folder / "submission.json").write_text(json.dumps({**CLAIMS, **changes}))


def on_terminal(found: judged.Report) -> str:
    out = io.StringIO()
    judged_terminal.show(found, Console(file=out, force_terminal=True, width=100))
    return out.getvalue()
