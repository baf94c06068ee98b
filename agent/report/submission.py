"""What a submission's README.md and submission.json say, and what is added to its logs.

Takes `Facts`, which the store knows, and `Said`, which only the contestant does; gives text. Pure but for the versions
of packages. What a model wrote is escaped: a README is read by people and rendered by others.
"""

import json
import re
import shlex
import statistics
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from agent.context.templates import Templates
from agent.judge import claim
from agent.records import Campaign, Measurement, Proposal
from agent.tables import BUDGET
from agent.track import Track
from agent.words import line, markdown

if TYPE_CHECKING:
    from agent.store import Scored

TEMPLATE = "submission.md.j2"
CONTEST = "track_10min_16mb"
NON_RECORD = "track_non_record_16mb"
CONTEST_TRACK = "golf-8xh100"
USUAL_PACKAGES = ("torch", "numpy", "sentencepiece")


class Facts(NamedTuple):
    track: Track
    campaign: Campaign
    lineage: tuple[Proposal, ...]  # base first, the proposal last
    runs: tuple["Scored", ...]
    score_s: tuple[float | None, ...]  # of each run, what the contest's clock of scoring is for
    claim: "claim.Claim | None"
    non_record: bool
    date: str


class Said(NamedTuple):
    author: str
    github_id: str
    name: str
    blurb: str


def folder(facts: Facts, said: Said) -> str:
    """Where the contest wants it."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", said.name).strip("_")[:60] or "Submission"
    return f"records/{place(facts)}/{facts.date}_{name}"


def place(facts: Facts) -> str:
    """The contest's two tracks; whatever ran on other machines is no record there."""
    record = facts.track.name == CONTEST_TRACK and not facts.non_record
    if record:
        return CONTEST
    return NON_RECORD if facts.track.name.startswith("golf") else facts.track.name


def tokens_per_byte(found: Sequence[Measurement]) -> float | None:
    """Over all runs: the tokenizer is the same, and so is the text."""
    tokens = [one.tokens_scored for one in found]
    size = [one.bytes_scored for one in found]
    if any(not count for count in (*tokens, *size)):
        return None
    return sum(count or 0 for count in tokens) / sum(count or 0 for count in size)


def loss(found: Measurement) -> float | None:
    """Nats a token."""
    return found.nats / found.tokens_scored if found.nats is not None and found.tokens_scored else None


def log(one: "Scored", printed: bytes) -> bytes:
    """A run's log: what it printed, between its seed and its score in the contest's own format."""
    return f"seed:{one.run.seed}\n".encode() + printed + _judged(one).encode()


def _judged(one: "Scored") -> str:
    """A training that never saw the text can't know its score."""
    found, nats = one.measurement, loss(one.measurement)
    if found.bpb is None or nats is None:
        return ""
    return (
        "\njudged: training ended above; what follows was measured by a separate process that alone had the text\n"
        f"final_int8_zlib_roundtrip_exact val_loss:{nats:.8f} val_bpb:{found.bpb:.8f}\n"
    )


def requirements(track: Track) -> str:
    """The packages that the script may import, at the versions that are here."""
    lines = []
    for name in track.sandbox.packages or USUAL_PACKAGES:
        try:
            lines.append(f"{name}=={metadata.version(name).split('+')[0]}")
        except metadata.PackageNotFoundError:
            lines.append(name)
    return "\n".join(lines) + "\n"


def as_json(facts: Facts, said: Said) -> str:
    """submission.json, with no key that the contest's own entries do not use."""
    found = [one.measurement for one in facts.runs]
    scores = [one.bpb for one in found if one.bpb is not None]
    losses = [value for one in found if (value := loss(one)) is not None]
    values: dict[str, object] = {
        "author": said.author,
        "github_id": said.github_id,
        "name": said.name,
        "blurb": said.blurb,
        "date": facts.date,
        "track": place(facts),
        "val_loss": _mean(losses),
        "val_bpb": _mean(scores),
        "val_bpb_std": _std(scores),
        "val_loss_std": _std(losses),
        "seeds": [one.run.seed for one in facts.runs],
        "seed_results": {
            str(one.run.seed): _seed(one.measurement, took) for one, took in zip(facts.runs, facts.score_s, strict=True)
        },
        "bytes_total": max((one.total_bytes for one in found if one.total_bytes), default=None),
        "bytes_code": max((one.code_bytes for one in found if one.code_bytes), default=None),
        "hardware": facts.runs[0].run.hardware_class,
        "pytorch_version": _version("torch"),
        "technique_summary": "; ".join(line(one.title, 200) for one in facts.lineage[1:]) or "the base of the campaign",
        "compliance": _compliance(facts),
        "attribution": {line(one.planner, 60) or "person": "ideas" for one in facts.lineage[1:]},
        "reproducibility_notes": (
            "Seeds were fixed before the runs, all fresh runs are listed, and none of them decided anything. Scores "
            f"and bytes were measured by judge {found[0].judge_version}, on data {found[0].data_sha[:12]}."
        ),
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _seed(found: Measurement, score_s: float | None) -> dict[str, object]:
    step_ms = 1e3 * found.train_wall_s / found.steps if found.train_wall_s and found.steps else None
    return {
        "val_loss": _rounded(loss(found), 8),
        "val_bpb": _rounded(found.bpb, 8),
        "artifact_bytes": found.total_bytes,
        "steps": found.steps,
        "step_avg_ms": _rounded(step_ms, 2),
        "eval_time_s": _rounded(score_s, 1),
    }


def _compliance(facts: Facts) -> dict[str, bool]:
    found = [one.measurement for one in facts.runs]
    limit = facts.track.limits.artifact_bytes
    return {
        "artifact_within_limit": limit is None or all((one.total_bytes or 0) <= limit for one in found),
        "no_validation_data_in_training": all(one.trust != "reported" for one in found),
        "scored_by_a_separate_process": all(one.trust != "reported" for one in found),
        "three_seeds": len(facts.runs) >= claim.LEAST_SEEDS,
        "eval_under_600s": all(took is not None and took <= 600 for took in facts.score_s),
    }


def readme(facts: Facts, said: Said) -> str:
    found = [one.measurement for one in facts.runs]
    scores = [one.bpb for one in found if one.bpb is not None]
    values: dict[str, object] = {
        "name": markdown(said.name, 120),
        "blurb": markdown(said.blurb, 2_000),
        "bpb": _mean(scores),
        "std": _std(scores),
        "runs": [_row(one, took) for one, took in zip(facts.runs, facts.score_s, strict=True)],
        "track": facts.track,
        "place": place(facts),
        "hardware": markdown(facts.campaign.hardware_class),
        "non_record": facts.non_record,
        "claim": facts.claim,
        "ideas": [{"title": markdown(one.title), "why": markdown(one.hypothesis, 600)} for one in facts.lineage[1:]],
        "trust": found[0].trust,
        "judge": found[0].judge_version,
        "data_sha": found[0].data_sha[:12],
        "script_sha": facts.runs[0].run.script_sha[:12],
        "limit": facts.track.limits.artifact_bytes,
        "command": command(facts),
        "compliance": _compliance(facts),
    }
    return Templates().render(TEMPLATE, values)


def _row(one: "Scored", score_s: float | None) -> dict[str, object]:
    found = one.measurement
    return {
        **_seed(found, score_s),
        "seed": one.run.seed,
        "train_s": _rounded(found.train_wall_s, 1),
        "run": f"r{one.run.id}",
    }


def command(facts: Facts) -> str:
    """What makes one of the runs again, from inside the folder; SEED is the reader's to fill in."""
    track = facts.track
    env = {**track.script.env, **track.deciding().env}
    if track.compute is not None:
        env.setdefault(BUDGET, str(track.compute.budget_ms))
        env["COST_MODEL"] = json.dumps(dict(track.compute.cost), sort_keys=True)
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(env.items()))
    start = "python" if track.hardware.gpus < 2 else f"torchrun --standalone --nproc_per_node={track.hardware.gpus}"
    return " ".join(part for part in (given, "SEED=$SEED", start, "train_gpt.py") if part)


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 8) if values else None


def _std(values: Sequence[float]) -> float | None:
    return round(statistics.stdev(values), 8) if len(values) > 1 else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
