"""The rows of benchmarks/store.py: campaigns of 4,000 proposals and 10,000 runs, in the shape of real ones.

`Filler(store, campaigns).fill()` writes them in bulk, with the columns that are kept computed on the way.
"""

import random

from sqlalchemy import insert

from agent.store import Store
from agent.store.rows import pack
from agent.store.schema import (
    boards,
    campaigns,
    doc_nats,
    events,
    findings,
    frontier_runs,
    heads,
    ledger,
    measurements,
    metadata,
    proposals,
    runs,
    scores,
    trunk,
    verdicts,
)

RUNS_A_CAMPAIGN, PROPOSALS_A_CAMPAIGN, CHUNK = 10_000, 4_000, 5_000
DOCUMENTS = 300
LIMIT = 175_000
TOML = f'trust = "measured"\n[decision]\nrung = "full"\n[limits]\nartifact_bytes = {LIMIT}\n'
AT = "2026-11-21T07:00:00.000Z"
EDITS = "<<<<<<< SEARCH\n    width = 64\n=======\n    width = 96\n>>>>>>> REPLACE\n" * 8

Row = dict[str, object]


class Filler:
    """Writes rows in chunks, with the columns that are kept computed on the way."""

    def __init__(self, store: Store, campaign_count: int) -> None:
        self.store, self.campaign_count = store, campaign_count
        self.random = random.Random(0)
        self.rows: dict[str, list[Row]] = {name: [] for name in metadata.tables}
        self.next = dict.fromkeys(metadata.tables, 0)
        # Compressing the same nats a million times would measure zlib; a few blobs have the same size.
        nats = [tuple(self.random.uniform(100, 3000) for _ in range(DOCUMENTS)) for _ in range(16)]
        self.blobs = [pack(one) for one in nats]

    def add(self, table: str, **values: object) -> int:
        self.next[table] += 1
        self.rows[table].append({"id": self.next[table], **values})
        return self.next[table]

    def fill(self) -> None:
        for board in range(10):
            values = {
                "judge_version": 1 + board // 5,
                "hardware_class": f"cpu-{board % 5}",
                "trust": "measured",
            }
            same = {
                "track": "tiny",
                "track_sha": "t",
                "data_sha": "d",
                "rung": "full",
                "title": f"board {board}",
            }
            self.add("boards", **values, **same)
        for number in range(self.campaign_count):
            self._campaign(number)
            self.flush()
            if number % 10 == 9:
                print(f"  {self.next['runs']:>9,} runs", flush=True)

    def flush(self) -> None:
        order = (campaigns, boards, proposals, heads, trunk, runs, measurements, findings, doc_nats, scores)
        with self.store.write() as tx:
            for table in (*order, frontier_runs, verdicts, events, ledger):
                rows = self.rows[table.name]
                if "id" not in table.c:
                    rows = [{key: value for key, value in row.items() if key != "id"} for row in rows]
                for start in range(0, len(rows), CHUNK):
                    tx.connection.execute(insert(table), rows[start : start + CHUNK])
                self.rows[table.name] = []

    def _campaign(self, number: int) -> None:
        spent = 33.25 * RUNS_A_CAMPAIGN
        texts = {
            "track": "tiny",
            "track_toml": TOML,
            "track_sha": "t",
            "data_sha": "d",
            "name": f"night-{number}",
        }
        rule = {
            "trust": "measured",
            "rung": "full",
            "artifact_limit": LIMIT,
            "hardware_class": f"cpu-{number % 5}",
        }
        kept = {"cap_gpu_s": spent * 2, "settled_gpu_s": spent, "reserved_gpu_s": 0.0}
        rest = {"seed": number, "slots": 2, "state": "finished", "created": AT, "planner": "knobs"}
        campaign = self.add("campaigns", **texts, **rule, **kept, **rest)
        head, head_bpb, lowest = 0, 2.4, 9.9
        board = 1 + number % 10
        tainted: set[int] = set()
        chain: list[int] = []
        for index in range(PROPOSALS_A_CAMPAIGN):
            promoted = index % 100 == 0
            gain = self.random.uniform(0.002, 0.006) if promoted else self.random.gauss(-0.02, 0.01)
            broken = self.random.random() < 0.004
            me = self._proposal(campaign, index, head, promoted, gain)
            if broken or head in tainted:
                tainted.add(me)
            found = [
                self._run(campaign, me, head or None, board, head_bpb - gain + self.random.gauss(0, 0.003), broken)
                for _ in range(2 + index % 2)
            ]
            row = self.rows["proposals"][-1]
            row["invalid"], row["tainted"] = int(broken), int(me in tainted)
            self._score(campaign, me, board, [bpb for _, bpb in found], promoted, broken, me in tainted)
            for measured, bpb in found:
                if bpb < lowest and me not in tainted:
                    lowest = bpb
                    where = {
                        "campaign_id": campaign,
                        "board_id": board,
                        "run_id": measured,
                        "proposal_id": me,
                    }
                    self.add("frontier_runs", measurement_id=measured, bpb=bpb, total_bytes=149_000, **where)
            if promoted and not broken:
                head, head_bpb = me, head_bpb - gain
                chain.append(me)
        for step, proposal in enumerate(chain):
            self.add("trunk", campaign_id=campaign, step=step, proposal_id=proposal)
        self.add("heads", campaign_id=campaign, proposal_id=head, since=AT)

    def _proposal(self, campaign: int, index: int, head: int, promoted: bool, gain: float) -> int:
        kind = "base" if head == 0 else "knob"
        texts = {
            "title": f"idea {index}",
            "hypothesis": "wider is better " * 5,
            "edits": EDITS,
            "diff": EDITS,
        }
        hashes = {"ast_hash": f"{campaign}-{index}", "created": AT, "updated": AT}
        numbers = {"expected_gain": 0.01, "confidence": 0.5, "gain": gain}
        lists: Row = {"knobs": {"width": 64 + index}, "risk": [], "evidence": []}
        state = "promoted" if promoted else "worse"
        parents = {"baseline_id": head or None, "source_id": head or None}
        what = {"campaign_id": campaign, "state": state, "kind": kind, "mode": "exploit", "planner": "knobs"}
        me = self.add("proposals", **what, **texts, **hashes, **numbers, **lists, **parents)
        if head:
            said = {
                "decision": "accept" if promoted else "worse",
                "words": "gain 0.004 +- 0.002",
                "created": AT,
            }
            counts = {"n_candidate": 2, "n_baseline": 4, "gain": gain, "stderr": 0.002}
            self.add("verdicts", campaign_id=campaign, proposal_id=me, baseline_id=head, **said, **counts)
        return me

    def _run(
        self, campaign: int, proposal: int, head: int | None, board: int, bpb: float, broken: bool
    ) -> tuple[int, float]:
        both = {"campaign_id": campaign, "proposal_id": proposal}
        what = {
            "title": f"p{proposal} screen",
            "rung": "full",
            "purpose": "screen",
            "state": "done",
            "outcome": "ok",
        }
        how: Row = {"seed": self.next["runs"], "attempt": 1, "slot": "0", "walls": ["env", "rlimits"]}
        where = {"hardware_class": f"cpu-{(board - 1) % 5}", "script_sha": "s", "created": AT}
        run = self.add("runs", **both, baseline_id=head, **what, **how, **where)
        sizes = {
            "artifact_bytes": 140_000,
            "code_bytes": 9_000,
            "total_bytes": 149_000,
            "bytes_scored": 151_000,
        }
        clocks = {
            "train_wall_s": 25.0,
            "train_cpu_s": 24.0,
            "score_wall_s": 5.0,
            "slot_s": 33.25,
            "peak_mb": 400.0,
        }
        kept = {"latest": 1, "faults": int(broken), "violations": int(broken), "counts": int(not broken)}
        judged = {"trust": "measured", "judge_version": 1 + (board - 1) // 5, "data_sha": "d", "created": AT}
        ids = {**both, "run_id": run, "board_id": board}
        measured = self.add("measurements", **ids, bpb=bpb, nats=bpb * 1e5, **sizes, **clocks, **kept, **judged)
        if broken:
            breach = {"rule": "sums", "severity": "invalid", "text": "add up to 1.3"}
            self.add("findings", measurement_id=measured, run_id=run, **breach)
        self.add("doc_nats", measurement_id=measured, documents=DOCUMENTS, nats=self.blobs[run % 16])
        money = {"reserved_gpu_s": 60.0, "settled_gpu_s": 33.25, "created": AT, "closed": AT}
        self.add("ledger", **both, run_id=run, what="run", state="settled", **money)
        for state in ("queued", "done"):
            self.add("events", **both, run_id=run, at=AT, what=state, text="ok")
        return run, bpb

    def _score(
        self,
        campaign: int,
        proposal: int,
        board: int,
        found: list[float],
        promoted: bool,
        broken: bool,
        tainted: bool,
    ) -> None:
        mean = sum(found) / len(found)
        where = {
            "campaign_id": campaign,
            "proposal_id": proposal,
            "board_id": board,
            "promoted": int(promoted),
        }
        numbers = {
            "bpb": mean,
            "mean_bpb": mean,
            "runs": len(found),
            "all_runs": len(found),
            "best_bpb": min(found),
        }
        barred = "invalid" if broken else "ancestor" if tainted else ""
        self.add("scores", **where, **numbers, total_bytes=149_000, deciding=1, barred=barred)
