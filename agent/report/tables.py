"""Rows for the commands that look, and the same rows in words.

Takes the store's rows; gives plain dictionaries, which `--json` prints as they are.
"""

from collections.abc import Iterable, Iterator, Sequence

from agent.records import Event
from agent.report.status import head_bpb
from agent.store import Reads, curves, rescores
from agent.store.query import Table
from agent.words import line, plain, table

Row = dict[str, object]


def runs(reads: Reads, campaign_id: int, proposal_id: int | None) -> list[Row]:
    measured = {s.run.id: s.measurement for s in reads.scored(campaign_id, proposal_id=proposal_id, documents=False)}
    rows = []
    for run in reads.runs(campaign_id, proposal_id=proposal_id):
        found = measured.get(run.id)
        rows.append(
            {
                "run": f"r{run.id}",
                "proposal": f"p{run.proposal_id}",
                "rung": run.rung,
                "purpose": run.purpose,
                "seed": run.seed,
                "state": run.outcome or run.state,
                "bpb": found.bpb if found else None,
                "reported_bpb": found.reported_bpb if found else None,
                "bytes": found.total_bytes if found else None,
                "seconds": found.slot_s if found else None,
                "reason": run.reason,
            }
        )
    return rows


def runs_words(rows: Sequence[Row]) -> str:
    shown = [{**row, "seconds": f"{row['seconds']:.1f}" if row["seconds"] is not None else None} for row in rows]
    return _table(shown, ("run", "proposal", "rung", "purpose", "state", "bpb", "bytes", "seconds", "reason"))


def run(reads: Reads, run_id: int) -> Row:
    one, found, again = reads.run(run_id), reads.measurement(run_id), rescores.of_run(reads, run_id)
    row: Row = {**_fields(one), "measurement": None, "rescore": None if again is None else again._asdict()}
    if found is not None:
        audit = _fields(found.audit) if found.audit is not None else None
        shown = {k: v for k, v in _fields(found).items() if k not in ("doc_nats", "hidden_nats")}
        row["measurement"] = shown | {"audit": audit}
    row["curve"] = [vars(point) for point in curves.of_run(reads, run_id)]
    return row


def run_words(row: Row) -> str:
    measured, again, curve = row["measurement"], row["rescore"], row["curve"]
    lines = _pairs({key: value for key, value in row.items() if key not in ("measurement", "rescore", "curve")})
    if isinstance(measured, dict):
        findings, audit = measured.pop("findings", ()), measured.pop("audit", None)
        lines += ["measured:", *("  " + text for text in _pairs(measured))]
        if audit is not None:
            lines += [f"audit: {audit_words(audit)}"]
        lines += [f"  finding {f.severity}: {f.rule}: {plain(f.text)}" for f in findings]
    if isinstance(again, dict):
        lines.append(f"scored once more: {plain(str(again['words']))}")
    if isinstance(curve, list) and curve:
        lines.append(f"curve: {curve_words(curve)}")
    return "\n".join(lines)


def curve_words(curve: Sequence[Row]) -> str:
    """Where it began and where it ended, as the script printed it."""
    parts = [f"{len(curve)} points, step {curve[0]['step']} to {curve[-1]['step']}"]
    for name, label in (("train_loss", "train loss"), ("val_loss", "validation loss"), ("val_bpb", "validation BPB")):
        if said := [point[name] for point in curve if point[name] is not None]:
            parts.append(f"{label} {said[0]:g}" + (f" to {said[-1]:g}" if len(said) > 1 else ""))
    return "; ".join(parts) + " (--json gives them)"


def audit_words(audit: Row) -> str:
    """In a few lines what was asked, what was seen and what would have been."""
    again = f", {audit['twice']} of them twice" + (
        f", {audit['replayed']:,} tokens scored again" if audit["replayed"] else ""
    )
    by = f"; surprise by {audit['reference']}" if audit["surprising"] else ""
    return "\n".join(
        (
            f"{audit['strength']}: {audit['positions']:,} positions ({audit['uniform']:,} uniform, "
            f"{audit['surprising']:,} surprising){again}{by}",
            f"  largest mismatch {audit['largest_difference']:.2g} nats of {audit['tolerance']:g} allowed "
            f"({audit['tolerance_why']}), largest log-sum {audit['largest_sum']:.2g}",
            f"  unfair gain {audit['unfair_nats']:.2g} +- {audit['unfair_stderr']:.2g} nats per token, "
            f"{audit['unfair_bpb']:.2g} +- {audit['unfair_bpb_stderr']:.2g} BPB",
            f"  caught with 99 % probability: a mean leak of {audit['even_nats']:.2g} nats per token at every token, "
            f"{audit['rare_nats']:.2g} at few; wanted {audit['wanted_nats']:.2g}",
            f"  {audit['wall_s']:.1f} s, {audit['start_s']:.1f} of them for its process to start",
        )
    )


def proposal(reads: Reads, proposal_id: int) -> Row:
    one = reads.proposal(proposal_id)
    rows = runs(reads, one.campaign_id, one.id)
    return {
        **{key: value for key, value in _fields(one).items() if key not in ("diff", "edits")},
        "runs": rows,
        "verdicts": [_fields(verdict) for verdict in reads.verdicts(one.id)],
        "reviews": [_fields(note) for note in reads.reviews(one.id)],
    }


def proposal_words(row: Row) -> str:
    shown = (
        "id",
        "title",
        "state",
        "reason",
        "hypothesis",
        "planner",
        "mode",
        "kind",
        "expected_gain",
        "confidence",
        "risk",
        "expected_bytes",
        "source_id",
    )
    lines = _pairs(
        {key: row[key] for key in (*shown, "baseline_id", "commit", "reviewed_by") if row[key] not in ("", None, ())}
    )
    found, verdicts, reviews = row["runs"], row["verdicts"], row["reviews"]
    assert isinstance(found, list) and isinstance(verdicts, list) and isinstance(reviews, list)
    lines += ["", runs_words(found), ""]
    lines += [f"verdict  {verdict['decision']}: {plain(str(verdict['words']))}" for verdict in verdicts]
    lines += [plain(f"review   {one['action']} by {one['who']}  {one['comment']}").rstrip() for one in reviews]
    if row["baseline_id"] is not None:
        lines.append(f"agent diff p{row['id']} shows what it changes")
    return "\n".join(lines)


def best(reads: Reads, campaign_id: int) -> list[Row]:
    return [dict(row) for row in reads.view("best_valid", campaign_id)]


def best_words(rows: Sequence[Row]) -> str:
    if not rows:
        return "nothing valid yet: the base's fresh runs are not in"
    return "\n".join(
        f"p{row['proposal_id']} {row['bpb']:.4f} BPB over {row['runs']} runs, {_bytes(row['total_bytes'])}, "
        f"commit {str(row['commit_sha'])[:10]}: {line(str(row['title']))}"
        for row in rows
    )


def _bytes(count: object) -> str:
    return f"{count:,} bytes" if isinstance(count, int) else "size unknown"


def lineage(reads: Reads, proposal_id: int) -> list[Row]:
    rows: list[Row] = []
    before: float | None = None
    for one in reads.lineage(proposal_id):
        bpb, count = head_bpb(reads, one)
        rows.append(
            {
                "proposal": f"p{one.id}",
                "commit": one.commit,
                "bpb": bpb,
                "runs": count,
                "delta": bpb - before if bpb is not None and before is not None else None,
                "state": one.state,
                "title": one.title,
            }
        )
        before = bpb if bpb is not None else before
    return rows


def lineage_words(rows: Sequence[Row]) -> str:
    shown = [{**row, "commit": str(row["commit"] or "")[:10], "delta": _signed(row["delta"])} for row in rows]
    return _table(shown, ("proposal", "bpb", "delta", "runs", "commit", "title"))


def events_of(reads: Reads, campaign_id: int, proposal_id: int) -> list[Event]:
    """What became of one proposal."""
    found: list[Event] = []
    after = 0
    while page := reads.events(campaign_id, after=after, limit=5000):
        found += [event for event in page if event.proposal_id == proposal_id]
        after = page[-1].id
    return found


def events_words(events: Sequence[Event]) -> str:
    return "\n".join(event_lines(events)) or "(nothing happened yet)"


def event_lines(events: Iterable[Event], day: str = "") -> Iterator[str]:
    """One for each that says something new: that a run starts is an event of the run, and one of its idea. A line of
    its own says when another day begins than `day`, the last one told."""
    before = None
    for event in events:
        if event.at[:10] != day:
            day = event.at[:10]
            yield f"{day}, by the clock of UTC"
        here = event.proposal_id, event.run_id, event.what
        if event.run_id is None or here != before:
            yield _event_line(event)
        before = here


def _event_line(event: Event) -> str:
    who = f"p{event.proposal_id}" if event.proposal_id is not None else ""
    run_ = f"r{event.run_id}" if event.run_id is not None else ""
    text = f"{event.at[11:19]}  {who:>5} {run_:>5}  {event.what:<12} {line(event.text, 160)}"
    return text.rstrip()


def query_words(found: Table) -> str:
    text = table(found.columns, found.rows)
    return text + (f"\n... cut at {len(found.rows)} rows: --rows shows more" if found.truncated else "")


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    return table(columns, [[row[name] for name in columns] for row in rows])


def _signed(value: object) -> str | None:
    return f"{value:+.4f}" if isinstance(value, float) else None


def _fields(record: object) -> Row:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}  # type: ignore[attr-defined]


def _pairs(values: Row) -> list[str]:
    width = max(len(key) for key in values)
    below = "\n" + " " * (width + 2)  # no text of a model begins a line of its own
    rows = [(key, plain(_value(value)).splitlines()) for key, value in values.items()]
    return [f"{key:<{width}}  {below.join(text)}".rstrip() for key, text in rows]


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5f}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
