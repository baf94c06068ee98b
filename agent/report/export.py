"""A campaign in files that others read: a Markdown table, CSV, JSON lines.

Takes the store's rows; gives text. Whatever a model wrote is escaped for the format it goes into.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Literal

from agent.records import Proposal
from agent.report.figures import counted
from agent.report.status import head_bpb
from agent.store import Reads, Scored
from agent.track import parse
from agent.words import duration, line, markdown

Format = Literal["md", "csv", "jsonl"]
COLUMNS = (
    *("run", "proposal", "baseline", "title", "kind", "planner", "proposal_state", "purpose", "rung", "seed"),
    *("outcome", "bpb", "trust", "reported_bpb", "total_bytes", "artifact_bytes", "code_bytes", "steps"),
    *("slot_s", "train_cpu_s", "peak_mb", "started", "ended", "hardware_class", "commit", "reason"),
)


def export(reads: Reads, campaign_id: int, kind: Format) -> str:
    made: dict[Format, Callable[[Reads, int], str]] = {"md": experiments, "csv": as_csv, "jsonl": as_jsonl}
    return made[kind](reads, campaign_id)


def experiments(reads: Reads, campaign_id: int) -> str:
    """EXPERIMENTS.md: what was tried, in order, and what became of it."""
    campaign, balance = reads.campaign_by_id(campaign_id), reads.balance(campaign_id)
    proposals = reads.proposals(campaign_id)
    rung = parse(campaign.track_toml, f"track of {campaign.name}").decision.rung
    scored = counted(reads.scored(campaign_id, documents=False), rung)
    gains = {trial.proposal_id: trial.gain for trial in reads.trials(campaign_id)}
    head = reads.head(campaign_id)
    bpb, n = head_bpb(reads, head)
    best = f"{bpb:.4f} BPB over {n} fresh runs" if bpb is not None else "not measured yet"
    rows = [_experiment(one, scored.get(one.id, []), gains.get(one.id)) for one in proposals]
    return "\n".join(
        [
            f"# Experiments of {markdown(campaign.name)}",
            "",
            f"Track {campaign.track}, hardware {markdown(campaign.hardware_class)}, base commit "
            f"`{campaign.base_commit[:10]}`. Head p{head.id}: {best}. Spent: "
            f"{duration(balance.settled.gpu_s)} of slot time. BPB and runs are those at the rung {markdown(rung)}: "
            "of a head its fresh runs.",
            "",
            "| id | idea | on | state | BPB | runs | gain | bytes | why |",
            "|---|---|---|---|---:|---:|---:|---:|---|",
            *rows,
            "",
        ]
    )


def _experiment(one: Proposal, scored: list[Scored], gain: float | None) -> str:
    known = [s.measurement.bpb or 0.0 for s in scored]
    sizes = [s.measurement.total_bytes for s in scored if s.measurement.total_bytes is not None]
    cells = (
        f"p{one.id}",
        markdown(one.title, 120),
        f"p{one.baseline_id}" if one.baseline_id else "",
        one.state.replace("_", " "),
        f"{sum(known) / len(known):.4f}" if known else "",
        str(len(known)) if known else "",
        f"{gain:+.4f}" if gain is not None else "",
        f"{max(sizes):,}" if sizes else "",
        markdown(one.reason, 160),
    )
    return f"| {' | '.join(cells)} |"


def as_csv(reads: Reads, campaign_id: int) -> str:
    """One row a run. A cell that a spreadsheet would run as a formula is quoted."""
    proposals = {one.id: one for one in reads.proposals(campaign_id)}
    measured = {s.run.id: s.measurement for s in reads.scored(campaign_id, documents=False)}
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for run in reads.runs(campaign_id):
        one, found = proposals[run.proposal_id], measured.get(run.id)
        row = {**vars(run), **(vars(found) if found else {})}
        row |= {
            "run": f"r{run.id}",
            "proposal": f"p{one.id}",
            "baseline": f"p{run.baseline_id}" if run.baseline_id else "",
            "title": _cell(one.title),
            "planner": _cell(one.planner),
            "reason": _cell(run.reason),
            "kind": one.kind,
            "proposal_state": one.state,
            "commit": one.commit,
        }
        writer.writerow(row)
    return out.getvalue()


def as_jsonl(reads: Reads, campaign_id: int) -> str:
    """Proposals with their diffs and verdicts, then runs with their measurements; one object a line."""
    measured = {s.run.id: s.measurement for s in reads.scored(campaign_id)}
    records: list[dict[str, object]] = [
        {"record": "proposal", **asdict(one), "verdicts": [asdict(v) for v in reads.verdicts(one.id)]}
        for one in reads.proposals(campaign_id)
    ]
    for run in reads.runs(campaign_id):
        found = measured.get(run.id)
        records.append({"record": "run", **asdict(run), "measurement": asdict(found) if found else None})
    return "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)


def _cell(text: str) -> str:
    shown = line(text, 1000)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
